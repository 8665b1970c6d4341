package setup_test

import (
	"context"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/errand-dev/errand"
	"github.com/errand-dev/errand/build"
	"github.com/errand-dev/errand/runner"
	"github.com/errand-dev/errand/setup"
	"github.com/errand-dev/errand/store"
)

// drafted makes a setup with a draft of the test's own.
func (y *yard) drafted(repo, draft, verify string) errand.SetupID {
	y.t.Helper()
	s := y.waits(y.create(setup.Request{Repository: errand.Repository{URL: repo}, Verify: verify}).ID)
	if _, err := y.setups.Edit(y.t.Context(), caller, s.ID, setup.Edit{Draft: &draft, Verify: &verify}); err != nil {
		y.t.Fatal(err)
	}
	return s.ID
}

func (y *yard) prove(id errand.SetupID) {
	y.t.Helper()
	if _, err := y.setups.Prove(y.t.Context(), caller, id, false); err != nil {
		y.t.Fatal(err)
	}
}

// change is that the work of one proof or build begins or ends.
type change struct {
	at    time.Time
	delta int
}

// most is how much was under way at once.
func most(changes []change) int {
	slices.SortFunc(changes, func(a, b change) int {
		if c := a.at.Compare(b.at); c != 0 {
			return c
		}
		return a.delta - b.delta // within a millisecond one ends before the next begins
	})
	now, most := 0, 0
	for _, c := range changes {
		now += c.delta
		most = max(most, now)
	}
	return most
}

// TestProofsAtOnce proves more drafts than the server makes builds at once,
// beside a build, and reads from the journals how many were under way.
func TestProofsAtOnce(t *testing.T) {
	y := withMachines(t, runner.Defaults{Builds: 1}, setup.Options{})
	repo := repository(t, map[string]string{"README": "hello\n"})
	var ids []errand.SetupID
	for range 2 {
		ids = append(ids, y.drafted(repo, `{"install": "sleep 0.5"}`, "sleep 0.5"))
	}
	e, err := y.runner.Builds.Create(t.Context(), caller, build.NewEnvironment{Name: "other", Owner: errand.OwnerTeam, JSON: `{"install": "sleep 0.6"}`, Repositories: []errand.Repository{{URL: repo}}})
	if err != nil {
		t.Fatal(err)
	}
	for _, id := range ids {
		y.prove(id)
	}
	var changes []change
	waited := false
	for _, id := range ids {
		if s := y.waits(id); s.Status != errand.SetupProved {
			t.Fatalf("the setup is %s: %v\n%s", s.Status, s.Error, y.story(id))
		}
		begun := false
		for _, e := range y.events(id) {
			switch e.Kind {
			case errand.EventNotice:
				waited = waited || strings.Contains(read[errand.Notice](t, e).Text, "waits for its turn")
			case errand.EventPhaseStarted:
				if p := read[errand.PhaseStarted](t, e).Phase; p == errand.PhaseImage && !begun {
					begun, changes = true, append(changes, change{e.Time, 1})
				}
			case errand.EventSetupChanged:
				if read[errand.SetupChanged](t, e).Status == errand.SetupProved {
					changes = append(changes, change{e.Time, -1})
				}
			}
		}
	}
	builds, err := y.store.Builds(t.Context(), e.ID, 10, "")
	if err != nil || len(builds) != 1 {
		t.Fatalf("the builds are %v, %v", builds, err)
	}
	y.followBuild(builds[0].ID, func(e errand.Event) {
		switch d := read[errand.BuildStatusData](t, e); {
		case d.Status == errand.BuildRunning:
			changes = append(changes, change{e.Time, 1})
		case d.Status.Ended():
			changes = append(changes, change{e.Time, -1})
		}
	})
	if len(changes) != 6 {
		t.Fatalf("the journals tell of %d beginnings and ends, want 6", len(changes))
	}
	if n := most(changes); n != 1 {
		t.Errorf("%d proofs and builds were under way at once, want 1", n)
	}
	if !waited {
		t.Error("nobody is told that a proof waits")
	}
}

// followBuild hands a build's statuses to f until it has ended.
func (y *yard) followBuild(id errand.BuildID, f func(errand.Event)) {
	y.t.Helper()
	ctx, cancel := context.WithTimeout(y.t.Context(), time.Minute)
	defer cancel()
	for e, err := range y.journal.Follow(ctx, id, 0) {
		if err != nil {
			y.t.Fatal(err)
		}
		if e.Kind != errand.EventBuildStatus {
			continue
		}
		if f(e); read[errand.BuildStatusData](y.t, e).Status.Ended() {
			return
		}
	}
	y.t.Fatalf("build %s does not end", id)
}

// TestProofWaiting ends setups that wait for their turn: one is deleted, and one
// goes on in the next process.
func TestProofWaiting(t *testing.T) {
	y := withMachines(t, runner.Defaults{Builds: 1}, setup.Options{})
	repo := repository(t, map[string]string{"README": "hello\n"})
	first := y.drafted(repo, `{"install": "true"}`, "until [ -e /tmp/go ]; do sleep 0.1; done")
	second, third := y.drafted(repo, `{}`, "true"), y.drafted(repo, `{}`, "true")
	y.prove(first)
	y.until(first, "the verify command runs", func(e errand.Event) bool {
		return e.Kind == errand.EventPhaseStarted && read[errand.PhaseStarted](t, e).Phase == errand.PhaseVerify
	})
	y.prove(second)
	y.prove(third)
	for _, id := range []errand.SetupID{second, third} {
		y.until(id, "the proof waits", func(e errand.Event) bool { return e.Kind == errand.EventNotice })
	}
	if err := y.setups.Delete(t.Context(), caller, second); err != nil {
		t.Fatal(err)
	}
	if s := y.now(third); s.Status != errand.SetupProving || s.Proof.Agent != "" {
		t.Fatalf("what waits is %s and has the machine %q already", s.Status, s.Proof.Agent)
	}
	y.stop()
	y.open()
	if err := y.setups.Delete(t.Context(), caller, first); err != nil { // nobody works on it
		t.Fatal(err)
	}
	y.run()
	if s := y.waits(third); s.Status != errand.SetupProved {
		t.Errorf("after the restart the setup is %s: %v\n%s", s.Status, s.Error, y.story(third))
	}
}

// TestProofAgain ends the process in the middle of each step of a proof. The
// next begins the proof anew, and what the first had made is gone.
func TestProofAgain(t *testing.T) {
	y := withMachines(t, runner.Defaults{}, setup.Options{})
	id := y.drafted(repository(t, map[string]string{"README": "hello\n"}), `{"install": "sleep 0.4; echo installed", "start": "sleep 0.4", "terminals": [{"name": "t", "command": "sleep 600"}]}`, "sleep 0.4; echo verified")
	y.prove(id)
	var machines []errand.AgentID
	for _, phase := range []errand.Phase{errand.PhaseInstall, errand.PhaseAgain, errand.PhaseStart, errand.PhaseVerify} {
		since := y.now(id).Proof
		y.until(id, "the proof is at "+string(phase), func(e errand.Event) bool {
			s := y.now(id)
			return e.Kind == errand.EventPhaseStarted && read[errand.PhaseStarted](t, e).Phase == phase && s.Proof.Agent != "" &&
				!slices.Contains(machines, s.Proof.Agent) && !e.Time.Before(s.Proof.StartedAt) && s.Proof.StartedAt.After(since.StartedAt.Add(-1))
		})
		p := y.now(id).Proof
		machines = append(machines, p.Agent, p.Installing)
		y.restart()
	}
	s := y.waits(id)
	if s.Status != errand.SetupProved || !s.Proof.OK || s.Proof.Installing != "" {
		t.Fatalf("the setup is %s: %v\n%s", s.Status, s.Error, y.story(id))
	}
	for _, agent := range machines {
		if _, err := y.store.Agent(t.Context(), agent); errand.KindOf(err) != errand.NotFound {
			t.Errorf("agent %s of a proof that was interrupted is left: %v", agent, err)
		}
	}
	n := 0
	for _, step := range s.Proof.Steps {
		if step.Phase == errand.PhaseInstall || step.Phase == errand.PhaseAgain || step.Phase == errand.PhaseVerify {
			n++
			if step.Failed || step.Cached {
				t.Errorf("the step %+v counts as shown", step)
			}
		}
	}
	if n != 3 {
		t.Errorf("the proof has %d of its 3 commands: %+v", n, s.Proof.Steps)
	}
}

// TestProofClears wants a proof to take the machines of the one before with it,
// also those of one that could not remove them itself.
func TestProofClears(t *testing.T) {
	y := withMachines(t, runner.Defaults{}, setup.Options{})
	id := y.drafted(repository(t, map[string]string{"README": "hello\n"}), `{}`, "true")
	s := y.now(id)
	s.Proof = &errand.Proof{Installing: errand.NewAgentID(), Agent: errand.NewAgentID()}
	old := []errand.AgentID{s.Proof.Installing, s.Proof.Agent}
	for _, agent := range old {
		if _, err := y.runner.Make(t.Context(), caller, runner.StartRequest{ID: agent, Name: "left"}); err != nil {
			t.Fatal(err)
		}
	}
	if err := y.store.Write(t.Context(), func(tx *store.Tx) error { return tx.UpdateSetup(s) }); err != nil {
		t.Fatal(err)
	}
	y.prove(id)
	if s = y.waits(id); s.Status != errand.SetupProved {
		t.Fatalf("the setup is %s: %v\n%s", s.Status, s.Error, y.story(id))
	}
	for _, agent := range old {
		if _, err := y.store.Agent(t.Context(), agent); errand.KindOf(err) != errand.NotFound {
			t.Errorf("agent %s of the proof before is left: %v", agent, err)
		}
	}
}

// TestPorts proves a draft whose terminals serve HTTP: on a port that it names,
// late, and on one that it does not; and nothing serves another that it names.
func TestPorts(t *testing.T) {
	y := withMachines(t, runner.Defaults{}, setup.Options{PortLimit: 5 * time.Second})
	const server = `node -e 'const h = require(\"http\"), f = (_, s) => s.end(\"ok\"); h.createServer(f).listen(4011, \"127.0.0.1\"); setTimeout(() => h.createServer(f).listen(4010), 1000)'`
	repo := repository(t, map[string]string{"README": "hello\n"})
	terminals := `"terminals": [{"name": "web", "command": "` + server + `"}]`
	for _, c := range []struct {
		draft, note string
		warnings    int
	}{
		{`{` + terminals + `, "ports": [{"name": "web", "port": 4010}]}`, "open: 4010; open and not named: 4011", 0},
		{`{` + terminals + `, "ports": [4010, 9999]}`, "nothing on 9999; open: 4010; open and not named: 4011", 1},
		{`{` + terminals + `}`, "open and not named: 4011", 0},
	} {
		id := y.drafted(repo, c.draft, "true")
		y.prove(id)
		s := y.waits(id)
		if s.Status != errand.SetupProved {
			t.Fatalf("the setup is %s: %v\n%s", s.Status, s.Error, y.story(id))
		}
		at := slices.IndexFunc(s.Proof.Steps, func(step errand.ProofStep) bool { return step.Phase == errand.PhasePorts })
		if at < 0 || s.Proof.Steps[at].Note != c.note || s.Proof.Steps[at].Failed {
			t.Errorf("the proof of %s shows %+v, want %q", c.draft, s.Proof.Steps, c.note)
		}
		warnings := 0
		for _, e := range y.events(id) {
			if e.Kind == errand.EventNotice && read[errand.Notice](t, e).Level == "warning" {
				warnings++
			}
		}
		if warnings != c.warnings {
			t.Errorf("there are %d warnings, want %d\n%s", warnings, c.warnings, y.story(id))
		}
		s, err := y.setups.Edit(t.Context(), caller, id, setup.Edit{Ports: true})
		if err != nil || !strings.Contains(s.Draft, `{ "port": 4011 }`) || s.Status != errand.SetupProved {
			t.Errorf("with the found ports the draft is %s, %s, %v", s.Draft, s.Status, err)
		}
	}
}
