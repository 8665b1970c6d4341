package runner_test

import (
	"strings"
	"testing"

	"github.com/errand-dev/errand"
	"github.com/errand-dev/errand/runner"
)

// TestSnapshotByName starts agents on a named disk: by their own choice, by the
// environment file's, and on the default where the file's name is not known. The
// disk holds another repository than theirs.
func TestSnapshotByName(t *testing.T) {
	h := build(t, script(talk("make", says("done")), talk("use", says("done"))), runner.Defaults{})
	env := func(text string) map[string]string { return map[string]string{".cursor/environment.json": text} }

	agent, run := h.start(ask("make", repository(t, map[string]string{
		".cursor/environment.json": `{"install": "echo first >> /var/tmp/mark"}`, "of-make": "make\n",
	})))
	h.ends(agent, run, errand.RunFinished)
	list, _, err := h.runner.Snapshots.List(t.Context(), 10, "")
	if err != nil || len(list) != 1 {
		t.Fatalf("snapshots: %+v, %v", list, err)
	}
	if _, err := h.runner.Snapshots.Rename(t.Context(), list[0].Key[:12], "deps"); err != nil {
		t.Fatal(err)
	}

	for _, test := range []struct {
		name, file, image, want string
	}{
		{"the agent's choice", `{}`, "snapshot:deps", "first\n"},
		{"by its key", `{}`, "snapshot:" + list[0].Key, "first\n"},
		{"the file's", `{"snapshot": "deps"}`, "", "first\n"},
		{"installed upon", `{"snapshot": "deps", "install": "echo second >> /var/tmp/mark"}`, "", "first\nsecond\n"},
	} {
		t.Run(test.name, func(t *testing.T) {
			req := ask("use", repository(t, env(test.file)))
			req.Settings.Image = test.image
			agent, run := h.start(req)
			h.ends(agent, run, errand.RunFinished)
			if out, _ := h.exec(agent, "cat /var/tmp/mark"); out != test.want {
				t.Errorf("the machine has %q, want %q\n%s", out, test.want, h.story(agent))
			}
			if out, _ := h.exec(agent, "cd /workspace && git status --porcelain && touch new && git add -A && git commit -qm new && git ls-files && git push -q 2>/dev/null && cat /workspace-before-errand/of-make"); out != ".cursor/environment.json\nnew\nmake\n" {
				t.Errorf("a commit on the disk of another repository gives\n%s\n%s", out, h.story(agent))
			}
			h.until(agent, "a notice of what was there", func(e errand.Event) bool {
				return e.Kind == errand.EventNotice && strings.Contains(read[errand.Notice](t, e).Text, "it is kept as /workspace-before-errand")
			})
		})
	}

	agent, run = h.start(ask("use", repository(t, env(`{"snapshot": "nobody-knows"}`))))
	h.ends(agent, run, errand.RunFinished)
	h.until(agent, "a warning", func(e errand.Event) bool {
		return e.Kind == errand.EventNotice && strings.Contains(read[errand.Notice](t, e).Text, `"nobody-knows" is not known`)
	})
	req := ask("use", "")
	req.Settings.Image = "snapshot:nobody-knows"
	if _, _, err := h.runner.Start(t.Context(), caller, req); errand.KindOf(err) != errand.NotFound {
		t.Errorf("an agent on a snapshot that is not there: %v", err)
	}

	snap, err := h.runner.Snapshots.Snapshot(t.Context(), "deps")
	if err != nil {
		t.Fatal(err)
	}
	agents := 0
	for _, use := range snap.Uses {
		if use.Agent != "" {
			agents++
		}
	}
	if agents != 4 || !snap.UsedAt.After(snap.CreatedAt) {
		t.Errorf("the snapshot is used by %d agents, want the one that made it and three: %+v", agents, snap)
	}
	if _, err := h.runner.Snapshots.Remove(t.Context(), "deps", true); err != nil {
		t.Fatal(err)
	}
	if out, _ := h.exec(agent, "echo on"); out != "on\n" {
		t.Errorf("after the removal an agent's machine says %q", out)
	}
}

// TestQuotaRefusesNewMachines lets those that are there go on.
func TestQuotaRefusesNewMachines(t *testing.T) {
	h := build(t, script(talk("fits", says("done")), talk("more", says("done"))), runner.Defaults{DiskQuota: 1})
	agent, run := h.start(ask("fits", ""))
	end := h.end(agent, run)
	if end.Error == nil && end.Status == errand.RunFinished {
		other, run := h.start(ask("more", ""))
		end = h.end(other, run)
	}
	if end.Error == nil || end.Error.Code != "disk_quota" {
		t.Errorf("the run ended %+v, want disk_quota", end)
	}
}
