package setup_test

import (
	"context"
	"fmt"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"testing"

	"github.com/errand-dev/errand"
	"github.com/errand-dev/errand/llm"
	"github.com/errand-dev/errand/runner"
	"github.com/errand-dev/errand/setup"
)

var statuses = []errand.SetupStatus{
	errand.SetupSurveying, errand.SetupProposed, errand.SetupOpening, errand.SetupWorking,
	errand.SetupProving, errand.SetupProved, errand.SetupWriting, errand.SetupAccepted,
}

// TestStatuses wants no status to be a dead end but the last, and what is under
// way to have a way back to where people decide.
func TestStatuses(t *testing.T) {
	for _, from := range statuses {
		reached := map[errand.SetupStatus]bool{from: true}
		for range statuses { // the longest way there can be
			for _, s := range statuses {
				for _, next := range statuses {
					if reached[s] && s.MayBecome(next) {
						reached[next] = true
					}
				}
			}
		}
		if from == errand.SetupAccepted {
			if len(reached) > 1 {
				t.Errorf("what is accepted may become one of %v", reached)
			}
			continue
		}
		if !reached[errand.SetupAccepted] {
			t.Errorf("from %s nothing leads to accepted", from)
		}
		if from.Busy() && !from.MayBecome(errand.SetupProposed) {
			t.Errorf("what is %s and fails cannot be proposed again", from)
		}
		if from.Busy() == (from == errand.SetupProposed || from == errand.SetupProved) {
			t.Errorf("%s is busy: %v", from, from.Busy())
		}
	}
}

// TestRequests makes every request of a setup in every status.
func TestRequests(t *testing.T) {
	y := newYard(t)
	const draft = `{"install": "true"}`
	other := `{"install": "false"}`
	requests := map[string]func(errand.SetupID) (errand.Setup, error){
		"edit": func(id errand.SetupID) (errand.Setup, error) {
			return y.setups.Edit(t.Context(), caller, id, setup.Edit{Draft: &other})
		},
		"open": func(id errand.SetupID) (errand.Setup, error) {
			return y.setups.Open(t.Context(), caller, id, errand.SetupPerson, errand.Model{})
		},
		"prove": func(id errand.SetupID) (errand.Setup, error) {
			return y.setups.Prove(t.Context(), caller, id, false)
		},
		"accept": func(id errand.SetupID) (errand.Setup, error) {
			return y.setups.Accept(t.Context(), caller, id, errand.Acceptance{As: errand.AcceptPatch}, false)
		},
		"accept unproved": func(id errand.SetupID) (errand.Setup, error) {
			return y.setups.Accept(t.Context(), caller, id, errand.Acceptance{As: errand.AcceptPatch}, true)
		},
	}
	want := map[errand.SetupStatus]map[string]errand.SetupStatus{
		errand.SetupProposed: {"edit": errand.SetupProposed, "open": errand.SetupOpening, "prove": errand.SetupProving, "accept unproved": errand.SetupWriting},
		errand.SetupProved:   {"edit": errand.SetupProposed, "open": errand.SetupOpening, "prove": errand.SetupProving, "accept": errand.SetupWriting, "accept unproved": errand.SetupWriting},
	}
	for _, status := range statuses {
		for name, request := range requests {
			s := errand.Setup{Status: status, Repository: errand.Repository{URL: "/srv/shop.git"}, Commit: "c0ffee", Draft: draft, Proposal: &errand.Proposal{Path: ".errand/environment.json"}}
			if status == errand.SetupProved {
				s.Proof = &errand.Proof{Draft: draft, OK: true}
			}
			s = y.row(s)
			_, err := request(s.ID)
			next, ok := want[status][name]
			if now := y.now(s.ID).Status; ok && (err != nil || now != next) {
				t.Errorf("%s of what is %s: now %s, %v; want %s", name, status, now, err, next)
			} else if !ok && (errand.KindOf(err) != errand.Conflict || now != status) {
				t.Errorf("%s of what is %s: now %s, %v; want a Conflict that changes nothing", name, status, now, err)
			}
		}
	}
}

// TestRefusals wants each wrong request refused with a sentence, and nothing
// changed by it.
func TestRefusals(t *testing.T) {
	y := newYard(t)
	there := y.row(errand.Setup{Status: errand.SetupProposed, Commit: "c0ffee", Draft: "{}", Proposal: &errand.Proposal{Path: ".errand/environment.json"}})
	unseen := y.row(errand.Setup{Status: errand.SetupProposed, Draft: "", Error: &errand.Error{Message: "not there"}})
	long, broken := strings.Repeat("x", 9<<10), `{"install": `
	for _, c := range []struct {
		name, says string
		err        error
	}{
		{"a mode that is none", "propose", second(y.setups.Create(t.Context(), caller, setup.Request{Repository: errand.Repository{URL: "/r"}, Mode: "robot"}))},
		{"a URL with a password", "credential", second(y.setups.Create(t.Context(), caller, setup.Request{Repository: errand.Repository{URL: "https://me:pw@example.com/r"}}))},
		{"a branch that is none", "branch", second(y.setups.Create(t.Context(), caller, setup.Request{Repository: errand.Repository{URL: "/r"}, Branch: "a..b"}))},
		{"a verify command without end", "script", second(y.setups.Create(t.Context(), caller, setup.Request{Repository: errand.Repository{URL: "/r"}, Verify: long}))},
		{"a draft that is none", "environment.json:1:13", second(y.setups.Edit(t.Context(), caller, there.ID, setup.Edit{Draft: &broken}))},
		{"editing in a verify command without end", "script", second(y.setups.Edit(t.Context(), caller, there.ID, setup.Edit{Verify: &long}))},
		{"writing as nothing known", "patch", second(y.setups.Accept(t.Context(), caller, there.ID, errand.Acceptance{As: "mail"}, true))},
		{"writing onto no branch", "branch", second(y.setups.Accept(t.Context(), caller, there.ID, errand.Acceptance{As: errand.AcceptCommit, Branch: "a..b"}, true))},
		{"taking from a machine that is not open", "machine", second(y.setups.Prove(t.Context(), caller, there.ID, true))},
		{"proving what was not looked at", "errand setup --repo", second(y.setups.Prove(t.Context(), caller, unseen.ID, false))},
		{"what is not there", "errand setup ls", second(y.setups.Prove(t.Context(), caller, errand.NewSetupID(), false))},
	} {
		if c.err == nil || !strings.Contains(c.err.Error(), c.says) || errand.KindOf(c.err) == errand.Internal {
			t.Errorf("%s: %v (%v), want a sentence with %q", c.name, c.err, errand.KindOf(c.err), c.says)
		}
	}
	for _, before := range []errand.Setup{there, unseen} {
		if now := y.now(before.ID); now.Status != before.Status || now.Draft != before.Draft || now.Verify != before.Verify || now.Accept != nil {
			t.Errorf("refusals changed the setup: %+v", now)
		}
	}
	if all, _, err := y.setups.List(t.Context(), caller, 10, ""); err != nil || len(all) != 2 {
		t.Errorf("refusals made setups: %v, %v", all, err)
	}
}

func second(_ errand.Setup, err error) error { return err }

// TestSurvey brings new setups to their drafts.
func TestSurvey(t *testing.T) {
	y := newYard(t)
	y.run()
	repo := repository(t, node)
	s := y.waits(y.create(setup.Request{Repository: errand.Repository{URL: repo}}).ID)
	if s.Status != errand.SetupProposed || s.Error != nil || len(s.Commit) != 40 || !strings.Contains(s.Draft, "npm ci") || s.Verify != "npm test" {
		t.Errorf("the survey came to %+v", s)
	}
	s = y.waits(y.create(setup.Request{Repository: errand.Repository{URL: repo}, Verify: " make check\n"}).ID)
	if s.Verify != "make check" {
		t.Errorf("a person's own verify command became %q", s.Verify)
	}
	missing := filepath.Join(t.TempDir(), "nowhere.git")
	s = y.waits(y.create(setup.Request{Repository: errand.Repository{URL: missing}}).ID)
	if s.Status != errand.SetupProposed || s.Error == nil || !strings.Contains(s.Error.Message, missing) {
		t.Errorf("a repository that is not there gave %+v", s)
	}
	s = y.waits(y.create(setup.Request{Repository: errand.Repository{URL: repo, Ref: "no-such-branch"}}).ID)
	if s.Error == nil || !strings.Contains(s.Error.Message, "no-such-branch") || s.Commit != "" {
		t.Errorf("a branch that is not there gave %+v", s)
	}
}

// TestSurveyAgain puts a setup where an earlier process was killed while it
// looked, and wants the next to look.
func TestSurveyAgain(t *testing.T) {
	y := newYard(t)
	s := y.row(errand.Setup{Status: errand.SetupSurveying, Repository: errand.Repository{URL: repository(t, node)}})
	y.run()
	if s = y.waits(s.ID); s.Status != errand.SetupProposed || s.Proposal == nil || s.Error != nil {
		t.Errorf("taken up again the survey came to %+v", s)
	}
}

// TestAnswers gives answers to a survey's questions, before and after it.
func TestAnswers(t *testing.T) {
	y := newYard(t)
	y.run()
	repo := repository(t, node)
	s := y.waits(y.create(setup.Request{Repository: errand.Repository{URL: repo}}).ID)
	if !strings.Contains(s.Draft, "npm run dev") {
		t.Fatalf("the draft has no terminal: %s", s.Draft)
	}
	own := "make check"
	s, err := y.setups.Edit(t.Context(), caller, s.ID, setup.Edit{Answers: map[string]string{"terminals": "no"}, Verify: &own})
	if err != nil || strings.Contains(s.Draft, "npm run dev") || s.Verify != own || y.now(s.ID).Draft != s.Draft {
		t.Errorf("after the answer the draft is %s, verified by %q, %v", s.Draft, s.Verify, err)
	}
	for id, answer := range map[string]string{"terminals": "perhaps", "colour": "blue"} {
		if _, err := y.setups.Edit(t.Context(), caller, s.ID, setup.Edit{Answers: map[string]string{id: answer}}); errand.KindOf(err) != errand.Invalid || !strings.Contains(err.Error(), id) {
			t.Errorf("the answer %s=%s gave %v", id, answer, err)
		}
	}
	if now := y.now(s.ID); now.Draft != s.Draft || len(now.Answers) != 1 {
		t.Errorf("answers that are none changed the setup: %+v", now.Answers)
	}
	early := y.waits(y.create(setup.Request{Repository: errand.Repository{URL: repo}, Answers: map[string]string{"terminals": "no", "colour": "blue"}}).ID)
	if early.Draft != s.Draft || !slices.ContainsFunc(early.Proposal.Notes, func(n string) bool { return strings.Contains(n, "colour") }) {
		t.Errorf("answers given at once came to %s, %q", early.Draft, early.Proposal.Notes)
	}
}

// TestProvedHolds wants a proof to hold for exactly what it showed.
func TestProvedHolds(t *testing.T) {
	y := newYard(t)
	draft, other, verify, none := `{"install": "true"}`, `{"install": "echo"}`, "make check", ""
	s := y.row(errand.Setup{
		Status: errand.SetupProved, Commit: "c0ffee", Draft: draft, Verify: verify, Proposal: &errand.Proposal{Path: ".errand/environment.json"},
		Proof: &errand.Proof{Draft: draft, Verify: verify, OK: true},
	})
	for _, c := range []struct {
		edit setup.Edit
		want errand.SetupStatus
	}{
		{setup.Edit{Draft: &other}, errand.SetupProposed},
		{setup.Edit{Draft: &draft}, errand.SetupProved}, // as it was shown
		{setup.Edit{Verify: &none}, errand.SetupProposed},
		{setup.Edit{Verify: &verify}, errand.SetupProved},
	} {
		got, err := y.setups.Edit(t.Context(), caller, s.ID, c.edit)
		if err != nil || got.Status != c.want {
			t.Errorf("the edit gave %s, %v; want %s", got.Status, err, c.want)
		}
		_, err = y.setups.Accept(t.Context(), caller, s.ID, errand.Acceptance{As: "mail"}, false)
		if code := errand.AsError(err).Code; (code == "setup_not_proved") != (c.want == errand.SetupProposed) {
			t.Errorf("accepting what is %s gave %v", c.want, err)
		}
	}
}

// TestSentOnce sends a try to the model again, as after a kill: it gives the run
// that there is, and only another try makes another.
func TestSentOnce(t *testing.T) {
	y := newYard(t)
	y.options.Models = &runner.Models{
		Catalog: llm.NewCatalog().With(llm.Entry{ID: "m", Provider: "test"}), Default: "m",
		Providers: map[string]runner.Provider{"test": {New: func(llm.Entry) llm.Model { return nil }}},
	}
	y.open()
	s := y.row(errand.Setup{Status: errand.SetupWorking, Draft: `{"install": "true"}`, Repository: errand.Repository{URL: "/r"}, Proposal: &errand.Proposal{Path: ".errand/environment.json"}})
	var sent []errand.RunID
	for tries := range 3 {
		for range 2 {
			again := s // what a process that knows of no run has
			again.Tries = tries
			run, err := y.setups.Send(t.Context(), &again)
			if err != nil {
				t.Fatal(err)
			}
			sent = append(sent, run)
			s.Machine = again.Machine
		}
	}
	if sent[0] != sent[1] || sent[2] != sent[3] || sent[4] != sent[5] || sent[0] == sent[2] || sent[2] == sent[4] {
		t.Errorf("three tries, each sent twice, are the runs %v", sent)
	}
}

// TestPatch takes drafts as patches and applies them with git.
func TestPatch(t *testing.T) {
	y := newYard(t)
	y.run()
	const path = ".errand/environment.json"
	for _, c := range []struct{ name, old, draft, want string }{
		{"new", "", `{"install": "true"}` + "\n", `{"install": "true"}` + "\n"},
		{"without an end of line", "", `{"install": "true"}`, `{"install": "true"}` + "\n"},
		{"changed", "{\n  \"install\": \"a\",\n  \"start\": \"b\"\n}\n", "{\n  \"install\": \"c\",\n  \"start\": \"b\"\n}\n", "{\n  \"install\": \"c\",\n  \"start\": \"b\"\n}\n"},
	} {
		t.Run(c.name, func(t *testing.T) {
			files := map[string]string{"README": "hello\n"}
			if c.old != "" {
				files[path] = c.old
			}
			repo := repository(t, files)
			s := y.waits(y.create(setup.Request{Repository: errand.Repository{URL: repo}}).ID)
			if _, err := y.setups.Edit(t.Context(), caller, s.ID, setup.Edit{Draft: &c.draft}); err != nil {
				t.Fatal(err)
			}
			if _, err := y.setups.Accept(t.Context(), caller, s.ID, errand.Acceptance{As: errand.AcceptPatch}, true); err != nil {
				t.Fatal(err)
			}
			if s = y.waits(s.ID); s.Status != errand.SetupAccepted {
				t.Fatalf("the setup is %s: %v", s.Status, s.Error)
			}
			clone := t.TempDir()
			if out, err := exec.Command("git", "clone", "-q", repo, clone).CombinedOutput(); err != nil {
				t.Fatalf("%v %s", err, out)
			}
			apply := exec.Command("git", "-C", clone, "apply", "--whitespace=error-all", "-")
			apply.Stdin = strings.NewReader(s.Accept.Patch)
			if out, err := apply.CombinedOutput(); err != nil {
				t.Fatalf("%v %s\n%s", err, out, s.Accept.Patch)
			}
			out, err := exec.Command("cat", filepath.Join(clone, path)).Output()
			if err != nil || string(out) != c.want {
				t.Errorf("applied it is %q, %v; want %q", out, err, c.want)
			}
		})
	}
	for _, draft := range []string{"{}\n", "{}"} {
		t.Run("nothing to change", func(t *testing.T) {
			repo := repository(t, map[string]string{path: "{}\n"})
			s := y.waits(y.create(setup.Request{Repository: errand.Repository{URL: repo}}).ID)
			if _, err := y.setups.Edit(t.Context(), caller, s.ID, setup.Edit{Draft: &draft}); err != nil {
				t.Fatal(err)
			}
			if _, err := y.setups.Accept(t.Context(), caller, s.ID, errand.Acceptance{As: errand.AcceptPatch}, true); err != nil {
				t.Fatal(err)
			}
			if s = y.waits(s.ID); s.Status != errand.SetupProposed || s.Error == nil || s.Error.Code != "nothing_to_commit" {
				t.Errorf("%q: the setup is %s: %v", draft, s.Status, s.Error)
			}
		})
	}
}

// TestStored stores drafts on the server, also where an earlier process was
// killed after it had done so.
func TestStored(t *testing.T) {
	y := newYard(t)
	const draft = `{"install": "true"}`
	taken := errand.Setup{
		Status: errand.SetupWriting, Commit: "c0ffee", Draft: draft, Repository: errand.Repository{URL: "/srv/shop.git"},
		Proposal: &errand.Proposal{Path: ".errand/environment.json"}, Proof: &errand.Proof{Draft: draft, OK: true}, Accept: &errand.Acceptance{As: errand.AcceptStored},
	}
	first := y.row(taken)
	y.run()
	if first = y.waits(first.ID); first.Status != errand.SetupAccepted {
		t.Fatalf("the setup is %s: %v", first.Status, first.Error)
	}
	e, err := y.store.EnvironmentNamed(t.Context(), caller.Person(), "shop")
	if err != nil || e.JSON != draft || e.Owner != errand.OwnerPersonal || e.ID != first.Accept.Environment || len(e.Repositories) != 1 || e.Repositories[0].URL != "/srv/shop.git" {
		t.Fatalf("what is stored is %+v, %v", e, err)
	}

	// The same row again: what was stored is found, not stored twice.
	y.stop()
	again := y.row(taken)
	y.open()
	y.run()
	if again = y.waits(again.ID); again.Status != errand.SetupAccepted || again.Accept.Environment != e.ID {
		t.Errorf("entered again it is %s with %+v: %v", again.Status, again.Accept, again.Error)
	}

	// Another repository of the same last name is not what was stored.
	y.stop()
	elsewhere := taken
	elsewhere.Repository.URL, elsewhere.Accept = "/home/shop.git", &errand.Acceptance{As: errand.AcceptStored}
	another := y.row(elsewhere)
	y.open()
	y.run()
	if another = y.waits(another.ID); another.Status != errand.SetupProved || errand.KindOf(another.Error) != errand.Conflict {
		t.Errorf("the same draft for another repository is %s: %v", another.Status, another.Error)
	}

	// Another draft under a name that is taken leads back to where people decide.
	other := `{"install": "false"}`
	y.stop()
	taken.Draft, taken.Proof.Draft = other, other
	third := y.row(taken)
	y.open()
	y.run()
	if third = y.waits(third.ID); third.Status != errand.SetupProved || errand.KindOf(third.Error) != errand.Conflict {
		t.Errorf("a name that is taken gave %s: %v", third.Status, third.Error)
	}
	if now, err := y.store.Environment(t.Context(), e.ID); err != nil || now.JSON != draft {
		t.Errorf("the environment of the first is %+v, %v", now, err)
	}
}

// TestDelete ends setups wherever they stand.
func TestDelete(t *testing.T) {
	y := newYard(t)
	for _, status := range statuses {
		s := y.row(errand.Setup{Status: status})
		if err := y.setups.Delete(t.Context(), caller, s.ID); err != nil {
			t.Errorf("deleting what is %s: %v", status, err)
		}
		if _, err := y.setups.Setup(t.Context(), caller, s.ID); errand.KindOf(err) != errand.NotFound {
			t.Errorf("after its end the setup gives %v", err)
		}
		if err := y.setups.Delete(t.Context(), caller, s.ID); errand.KindOf(err) != errand.NotFound {
			t.Errorf("deleting it again gives %v", err)
		}
	}
}

// TestDeleteUnderWay wants nobody to take up what is being deleted: it would make
// machines that nobody removes.
func TestDeleteUnderWay(t *testing.T) {
	y := newYard(t)
	looked := make(chan struct{})
	look := sync.OnceFunc(func() { close(looked) })
	y.limits = setup.Options{Programs: func(ctx context.Context) map[string]string {
		select {
		case <-looked:
		default:
			look()
			<-ctx.Done() // the first is under way until it is ended
		}
		return nil
	}}
	y.open()
	repo := errand.Repository{URL: repository(t, node)}
	first := y.row(errand.Setup{Status: errand.SetupSurveying, Repository: repo})
	y.run()
	<-looked
	leave, err := y.setups.Enter(t.Context(), first.ID)
	if err != nil {
		t.Fatal(err)
	}
	before := len(y.events(first.ID))
	y.waits(y.create(setup.Request{Repository: repo}).ID) // all that is to be done was looked for
	if now := y.now(first.ID); now.Status != errand.SetupSurveying || len(y.events(first.ID)) != before {
		t.Errorf("while it is deleted somebody worked on it: it is %s\n%s", now.Status, y.story(first.ID))
	}
	leave()
	if now := y.waits(first.ID); now.Status != errand.SetupProposed {
		t.Errorf("as it was not deleted, it goes on to be %s: %v", now.Status, now.Error)
	}
	if err := y.setups.Delete(t.Context(), caller, first.ID); err != nil {
		t.Error(err)
	}
}

// TestList pages through setups, newest first.
func TestList(t *testing.T) {
	y := newYard(t)
	var want, got []errand.SetupID
	for range 5 {
		want = append(want, y.row(errand.Setup{Status: errand.SetupProposed}).ID)
	}
	slices.Reverse(want)
	cursor := ""
	for range 3 {
		page, next, err := y.setups.List(t.Context(), caller, 2, cursor)
		if err != nil {
			t.Fatal(err)
		}
		for _, s := range page {
			got = append(got, s.ID)
		}
		cursor = next
	}
	if fmt.Sprint(got) != fmt.Sprint(want) || cursor != "" {
		t.Errorf("the pages have %v, then %q; want %v", got, cursor, want)
	}
	if _, _, err := y.setups.List(t.Context(), caller, 2, "page2"); errand.KindOf(err) != errand.Invalid {
		t.Errorf("a cursor of another's gives %v", err)
	}
}
