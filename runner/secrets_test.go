package runner_test

import (
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"

	"github.com/errand-dev/errand"
	builds "github.com/errand-dev/errand/build"
	"github.com/errand-dev/errand/llm/scripted"
	"github.com/errand-dev/errand/runner"
	"github.com/errand-dev/errand/vault"
)

// gitIn runs git in a repository of the test.
func gitIn(t *testing.T, dir string, args ...string) string {
	t.Helper()
	out, err := exec.Command("git", append([]string{"-C", dir}, args...)...).CombinedOutput()
	if err != nil {
		t.Fatalf("git %v: %v\n%s", args, err, out)
	}
	return strings.TrimSpace(string(out))
}

// put sets a secret for all of this server.
func (h *house) put(o vault.Owner, name, value string, kind errand.SecretKind) errand.Secret {
	h.t.Helper()
	s, _, err := h.options.Vault.Put(h.t.Context(), o, name, vault.Value{Value: value, Kind: kind})
	if err != nil {
		h.t.Fatal(err)
	}
	return s
}

// TestSecretFromVaultToPush gives a machine secrets of the vault: it has them,
// nothing that leaves it does, and a push that holds one goes nowhere until the
// commits are made anew.
func TestSecretFromVaultToPush(t *testing.T) {
	const value, plain = "npm_s3cr3t-0123456789abcdef", "https://registry.example/mirror"
	push := `printf 'token=%s\n' "$NPM_TOKEN" > .npmrc && git add -A && git commit -qm "Add the registry" && git rm -q --cached .npmrc && git commit -qm "Forget it" && git push origin HEAD`
	mend := `git reset -q --soft $(git rev-parse HEAD~2) && rm -f .npmrc && git rm -q --cached --ignore-unmatch .npmrc; echo done > done.txt; git add -A && git commit -qm "Do it well" && git push -q origin HEAD && echo pushed`
	h := build(t, script(talk("use it",
		command(`echo "it is $NPM_TOKEN at $REGISTRY"; printf '%s' "$NPM_TOKEN" | fold -w 7; echo; printf 'x%s' "$NPM_TOKEN" | base64 -w 9; printf '%s' "$NPM_TOKEN" | od -An -tx1; echo; test ${#SHADOWED} = 8 && echo shadowed`),
		func() *scripted.Turn {
			turn := command(push)
			turn.Expect = scripted.Pat(`(?s)it is \[REDACTED\] at https://registry.example/mirror\n\[REDACTED\]\n[^\n]*\[REDACTED\].*\[REDACTED\].*shadowed`)
			return turn
		}(),
		func() *scripted.Turn {
			turn := command(mend)
			turn.Expect = scripted.Pat(`(?s)\.npmrc, line 1 in commit [0-9a-f]{12}: the secret NPM_TOKEN.*git reset --soft [0-9a-f]{40}.*remote rejected`)
			return turn
		}(),
		&scripted.Turn{Expect: scripted.Pat("pushed"), Text: "used"})), runner.Defaults{})
	token := h.put(vault.Team, "NPM_TOKEN", value, errand.SecretRuntime)
	h.put(vault.Team, "REGISTRY", plain, errand.SecretVariable)
	h.put(vault.Team, "SHADOWED", "weaker", errand.SecretVariable)
	h.put(vault.UserOf(caller), "shadowed", "in between", errand.SecretVariable)
	repo := repository(t, map[string]string{"a.txt": "a\n"})
	request := ask("use it", repo)
	request.EnvVars = map[string]string{"SHADOWED": "stronger"}
	agent, run := h.start(request)
	d := h.ends(agent, run, errand.RunFinished)
	if d.Result != "used" {
		t.Errorf("the run says %q\n%s", d.Result, h.story(agent))
	}

	var used []errand.SecretUse
	refused := ""
	for _, e := range h.events(agent) {
		if strings.Contains(string(e.Data), value) || strings.Contains(string(e.Data), "npm_s3c\\n") {
			t.Errorf("event %d (%s) holds the secret: %s", e.Seq, e.Kind, e.Data)
		}
		switch e.Kind {
		case errand.EventSecretsUsed:
			used = append(used, read[errand.SecretsUsed](t, e).Secrets...)
		case errand.EventPush:
			if p := read[errand.PushData](t, e); p.Refused != "" {
				refused = p.Refused
			}
		}
	}
	if !strings.Contains(refused, ".npmrc") || !strings.Contains(refused, "the secret NPM_TOKEN") {
		t.Errorf("the journal tells of the refused push %q", refused)
	}
	if len(used) != 2 || used[0].Name != "NPM_TOKEN" || used[1].Name != "REGISTRY" {
		t.Errorf("the journal tells of the uses %+v", used)
	}
	uses, _, err := h.options.Vault.Uses(t.Context(), caller, nil, token.ID, 0, "")
	if err != nil || len(uses) != 1 || uses[0].Agent != agent || uses[0].Run != run {
		t.Errorf("on record are %+v, %v", uses, err)
	}
	if found := grep(t, h.dir, value); len(found) > 0 {
		t.Errorf("the secret stands on disk in %v", found)
	}
	if log := gitIn(t, repo, "log", "--all", "-p"); strings.Contains(log, value) {
		t.Error("the remote holds the secret")
	}
	if got := gitIn(t, repo, "log", "--all", "--format=%s", "-1", "--", "done.txt"); got != "Do it well" {
		t.Errorf("the mended commit is not on the remote: %q", got)
	}
}

// TestRunEndsWithSecretInPush has an agent leave a secret in a file, which the
// run's own commit takes in: the run fails with the place and what to do, nothing
// is pushed, and a follow-up that does it ends well.
func TestRunEndsWithSecretInPush(t *testing.T) {
	const value = "npm_s3cr3t-0123456789abcdef"
	h := build(t, script(&scripted.Conversation{
		Match: scripted.Pat("use it"), Turns: []*scripted.Turn{command(`printf 'a\ntoken=%s\n' "$NPM_TOKEN" > .npmrc`), says("used")},
		FollowUps: []*scripted.FollowUp{{Match: scripted.Pat("anew"), Turns: []*scripted.Turn{
			command(`git reset -q --soft HEAD~1 && printf 'token=${NPM_TOKEN}\n' > .npmrc && git add -A && git commit -qm "Name the token"`), says("done")}}},
	}), runner.Defaults{})
	h.put(vault.Team, "NPM_TOKEN", value, errand.SecretRuntime)
	repo := repository(t, map[string]string{"a.txt": "a\n"})
	agent, run := h.start(ask("use it", repo))
	d := h.ends(agent, run, errand.RunFailed)
	if d.Error == nil || d.Error.Code != errand.SecretInPush {
		t.Fatalf("the run ends with %+v\n%s", d.Error, h.story(agent))
	}
	for _, want := range []string{".npmrc, line 2 in commit ", "the secret NPM_TOKEN", h.row(agent).Branch, "errand send " + string(agent)} {
		if !strings.Contains(d.Error.Message, want) {
			t.Errorf("the message lacks %q: %s", want, d.Error.Message)
		}
	}
	if !strings.Contains(d.Error.Output, "git reset --soft "+h.row(agent).Base) {
		t.Errorf("the output does not say how: %s", d.Error.Output)
	}
	if branches := gitIn(t, repo, "branch", "--format=%(refname:short)"); branches != "main" || h.row(agent).Pushed != "" {
		t.Errorf("the remote has %q, the agent pushed %q", branches, h.row(agent).Pushed)
	}
	follow, err := h.runner.FollowUp(t.Context(), caller, agent, runner.FollowUp{Prompt: errand.Prompt{Text: "Make your commits anew"}})
	if err != nil {
		t.Fatal(err)
	}
	h.ends(agent, follow.ID, errand.RunFinished)
	if log := gitIn(t, repo, "log", "--all", "-p"); strings.Contains(log, value) || !strings.Contains(log, "token=${NPM_TOKEN}") {
		t.Errorf("the remote holds\n%s", log)
	}
}

// TestDiskWithSecretIsNotKept has an install that leaves a secret on the disk and
// prints it in pieces: the disk is not kept, the output not recorded, and the
// agent works all the same. Without the file the next disk is kept.
func TestDiskWithSecretIsNotKept(t *testing.T) {
	const value = "npm_s3cr3t-0123456789abcdef"
	install := func(last string) string {
		return `{"install": "printf %s \"$NPM_TOKEN\" > /root/.npmrc; printf %s \"${NPM_TOKEN%bcdef}\"; sleep 0.4; echo bcdef; ` + last + `"}`
	}
	h := build(t, script(talk(".", command(`test -n "$NPM_TOKEN" && echo works`), &scripted.Turn{Expect: scripted.Pat("works"), Text: "done"})), runner.Defaults{})
	h.put(vault.Team, "NPM_TOKEN", value, errand.SecretRuntime)
	for _, tt := range []struct {
		last, note string
		kept       int
	}{
		{"true", "not kept: a secret is on the disk", 0},
		{"gzip -c /root/.npmrc > /root/x; mv /root/x /root/.npmrc", "not kept: a secret is on the disk", 0},
		{"rm /root/.npmrc; ln -s /x/$NPM_TOKEN /root/.npmrc", "not kept: a secret is on the disk", 0},
		{"rm /root/.npmrc", "e1-", 1},
	} {
		agent, run := h.start(ask("go", repository(t, map[string]string{".errand/environment.json": install(tt.last)})))
		h.ends(agent, run, errand.RunFinished)
		var note, output, warning string
		for _, e := range h.events(agent) {
			if strings.Contains(string(e.Data), "s3cr3t") {
				t.Errorf("event %d (%s) holds the secret: %s", e.Seq, e.Kind, e.Data)
			}
			switch e.Kind {
			case errand.EventPhaseEnded:
				if d := read[errand.PhaseEnded](t, e); d.Phase == errand.PhaseSnapshot {
					note = d.Note
				}
			case errand.EventPhaseOutput:
				output += read[errand.PhaseOutput](t, e).Text
			case errand.EventNotice:
				warning += read[errand.Notice](t, e).Text
			}
		}
		if !strings.Contains(note, tt.note) || output != "[REDACTED]\n" {
			t.Errorf("the snapshot's note is %q, install printed %q", note, output)
		}
		if told := strings.Contains(warning, "/root/.npmrc holds the secret NPM_TOKEN"); told != (tt.kept == 0) {
			t.Errorf("people are told %q", warning)
		}
		if all, err := h.driver.ListSnapshots(t.Context()); err != nil || len(all) != tt.kept {
			t.Errorf("kept are %+v, %v; want %d", all, err, tt.kept)
		}
	}
}

// TestFailedDiskWithSecretIsNotKept has builds fail whose disks are kept to look
// at: not the one that holds a secret.
func TestFailedDiskWithSecretIsNotKept(t *testing.T) {
	h := build(t, script(talk(".", says("done"))), runner.Defaults{})
	h.put(vault.Team, "NPM_TOKEN", "npm_s3cr3t-0123456789abcdef", errand.SecretRuntime)
	for last, kept := range map[string]bool{"exit 3": false, "rm /root/.npmrc; exit 3": true} {
		text := `{"install": "printf %s \"$NPM_TOKEN\" > /root/.npmrc; ` + last + `"}`
		e, err := h.runner.Builds.Create(t.Context(), caller, builds.NewEnvironment{Name: fmt.Sprint("kept ", kept), Owner: errand.OwnerTeam, JSON: text, Repositories: []errand.Repository{{URL: repository(t, nil)}}})
		if err != nil {
			t.Fatal(err)
		}
		b := h.buildEnds(e.ID)
		if b.Status != errand.BuildFailed || (b.Snapshot != "") != kept {
			t.Errorf("%s: the build is %+v", last, b)
		}
		told := false
		for ev, err := range h.runner.Builds.Events(t.Context(), b, 0) {
			if err != nil {
				t.Fatal(err)
			}
			told = told || ev.Kind == errand.EventNotice && strings.Contains(string(ev.Data), "/root/.npmrc holds the secret NPM_TOKEN")
		}
		if told == kept {
			t.Errorf("%s: people are told: %t", last, told)
		}
	}
}

// TestKeyAway takes the key file away: an agent that works goes on, a new one
// fails with the reason, and with the file back it starts.
func TestKeyAway(t *testing.T) {
	h := build(t, script(&scripted.Conversation{
		Match: scripted.Pat("."), Turns: []*scripted.Turn{command(`test -n "$TOKEN"`), says("done")},
		FollowUps: []*scripted.FollowUp{{Match: scripted.Pat("."), Turns: []*scripted.Turn{says("done")}}},
	}), runner.Defaults{})
	h.put(vault.Team, "TOKEN", "0123456789", errand.SecretRuntime)
	agent, run := h.start(ask("first", ""))
	h.ends(agent, run, errand.RunFinished)
	key := filepath.Join(h.dir, "key")
	if err := os.Rename(key, key+".away"); err != nil {
		t.Fatal(err)
	}
	follow, err := h.runner.FollowUp(t.Context(), caller, agent, runner.FollowUp{Prompt: errand.Prompt{Text: "go on"}})
	if err != nil {
		t.Fatal(err)
	}
	h.ends(agent, follow.ID, errand.RunFinished)
	other, run := h.start(ask("new", ""))
	if d := h.ends(other, run, errand.RunFailed); d.Error == nil || d.Error.Code != "key_lost" || !strings.Contains(d.Error.Message, key) {
		t.Errorf("without the key a new agent fails with %+v", d.Error)
	}
	if _, err := os.Stat(key); err == nil {
		t.Error("a key was made in place of the lost one")
	}
	if err := os.Rename(key+".away", key); err != nil {
		t.Fatal(err)
	}
	follow, err = h.runner.FollowUp(t.Context(), caller, other, runner.FollowUp{Prompt: errand.Prompt{Text: "again"}})
	if err != nil {
		t.Fatal(err)
	}
	h.ends(other, follow.ID, errand.RunFinished)
}

// TestEarlierValueStaysHidden changes a secret that a machine has, and removes it,
// each time with a restart of the server: the values that it had are taken out of
// what the machine says and refused in its pushes, and the machine is given only
// what holds.
func TestEarlierValueStaysHidden(t *testing.T) {
	values := []string{"npm_s3cr3t-0123456789abcdef", "npm_an0ther-fedcba9876543210"}
	keep := `printf '%s\n' "$NPM_TOKEN" >> /root/kept; `
	tell := command(keep + `cat /root/kept; echo "now ${NPM_TOKEN-none}"; cp /root/kept npmrc && git add -A && git commit -qm "Add it" && git push origin HEAD; git reset -q --hard HEAD~1`)
	after := func(pattern string) *scripted.Turn {
		return &scripted.Turn{Expect: scripted.Pat(pattern), Text: "done"}
	}
	h := build(t, script(&scripted.Conversation{
		Match: scripted.Pat("keep it"), Turns: []*scripted.Turn{command(keep + "echo kept"), after("kept")},
		FollowUps: []*scripted.FollowUp{
			{Match: scripted.Pat("changed"), Turns: []*scripted.Turn{tell,
				after(`(?s)\[REDACTED\]\n\[REDACTED\]\nnow \[REDACTED\].*npmrc, line 1 in commit [0-9a-f]{12}: the secret NPM_TOKEN.*remote rejected`)}},
			{Match: scripted.Pat("removed"), Turns: []*scripted.Turn{tell,
				after(`(?s)\[REDACTED\]\n\[REDACTED\]\n\nnow none.*npmrc, line 1 in commit [0-9a-f]{12}: the secret NPM_TOKEN.*remote rejected`)}},
		},
	}), runner.Defaults{})
	h.put(vault.Team, "NPM_TOKEN", values[0], errand.SecretRuntime)
	repo := repository(t, nil)
	agent, run := h.start(ask("keep it", repo))
	h.ends(agent, run, errand.RunFinished)
	for _, change := range []struct {
		what string
		do   func()
	}{
		{"changed", func() { h.put(vault.Team, "NPM_TOKEN", values[1], errand.SecretRuntime) }},
		{"removed", func() {
			if _, err := h.options.Vault.Delete(t.Context(), vault.Team, "NPM_TOKEN"); err != nil {
				t.Fatal(err)
			}
		}},
	} {
		change.do()
		h.restart()
		follow, err := h.runner.FollowUp(t.Context(), caller, agent, runner.FollowUp{Prompt: errand.Prompt{Text: change.what}})
		if err != nil {
			t.Fatal(err)
		}
		if d := h.ends(agent, follow.ID, errand.RunFinished); d.Result != "done" {
			t.Errorf("%s: the run says %q\n%s", change.what, d.Result, h.story(agent))
		}
	}
	for _, value := range values {
		for _, e := range h.events(agent) {
			if strings.Contains(string(e.Data), value) {
				t.Errorf("event %d (%s) holds the secret: %s", e.Seq, e.Kind, e.Data)
			}
		}
		if found := grep(t, h.dir, value); len(found) > 0 {
			t.Errorf("%s stands on disk in %v", value, found)
		}
		if log := gitIn(t, repo, "log", "--all", "-p"); strings.Contains(log, value) {
			t.Errorf("the remote holds %s", value)
		}
	}
}
