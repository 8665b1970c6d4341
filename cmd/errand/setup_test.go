package main_test

import (
	"archive/zip"
	"bytes"
	"context"
	"encoding/json"
	"fmt"
	"os/exec"
	"strings"
	"testing"
	"time"

	"github.com/errand-dev/errand"
	"github.com/errand-dev/errand/api"
	"github.com/errand-dev/errand/client"
	"github.com/errand-dev/errand/llm/scripted"
)

// The repositories that are set up. Node installs a package from the npm
// registry, Go a module from the Go proxy, Python a wheel that the repository
// brings.

var nodeRepository = map[string]string{
	".gitignore": "node_modules\n",
	"package.json": `{
  "name": "shop", "version": "1.0.0",
  "scripts": {"dev": "node server.js --port 4010", "test": "node test.js"},
  "dependencies": {"is-number": "7.0.0"}
}
`,
	"package-lock.json": `{
  "name": "shop", "version": "1.0.0", "lockfileVersion": 3, "requires": true,
  "packages": {
    "": {"name": "shop", "version": "1.0.0", "dependencies": {"is-number": "7.0.0"}},
    "node_modules/is-number": {
      "version": "7.0.0", "resolved": "https://registry.npmjs.org/is-number/-/is-number-7.0.0.tgz",
      "integrity": "sha512-41Cifkg6e8TylSpdtTpeLVMqvSBEVzTttHvERD741+pnZ8ANv0004MRL43QKPDlK9cGvNp6NZWZUBlbGXYxxng=="
    }
  }
}
`,
	"server.js": "require('http').createServer((q, s) => s.end('ok')).listen(4010)\n",
	"test.js":   "if (!require('is-number')(5)) process.exit(1)\nconsole.log('1 test passes')\n",
}

var goRepository = map[string]string{
	"go.mod": "module example.com/stamp\n\ngo 1.24\n\nrequire github.com/google/uuid v1.6.0\n",
	"go.sum": `github.com/google/uuid v1.6.0 h1:NIvaJDMOsjHA8n1jAhLSgzrAzy1Hgr+hNrb57e+94F0=
github.com/google/uuid v1.6.0/go.mod h1:TIyPZe4MgqvfeYDBFedMoGGpEw/LqOeaOT+nhxU+yHo=
`,
	"stamp.go":      "package stamp\n\nimport \"github.com/google/uuid\"\n\n// New gives a stamp.\nfunc New() string { return uuid.NewString() }\n",
	"stamp_test.go": "package stamp\n\nimport \"testing\"\n\nfunc TestNew(t *testing.T) {\n\tif len(New()) != 36 {\n\t\tt.Fatal(New())\n\t}\n}\n",
}

// pythonRepository has a test that wants a file which only the install can make.
func pythonRepository(t *testing.T) map[string]string {
	return map[string]string{
		".gitignore":       ".venv/\ngenerated/\n",
		"requirements.txt": "./greet-1.0-py3-none-any.whl\n",
		"greet-1.0-py3-none-any.whl": wheel(t, map[string]string{
			"greet.py":                     "def hello():\n    return 'hello'\n",
			"greet-1.0.dist-info/METADATA": "Metadata-Version: 2.1\nName: greet\nVersion: 1.0\n",
			"greet-1.0.dist-info/WHEEL":    "Wheel-Version: 1.0\nGenerator: test\nRoot-Is-Purelib: true\nTag: py3-none-any\n",
			"greet-1.0.dist-info/RECORD":   "greet.py,,\ngreet-1.0.dist-info/METADATA,,\ngreet-1.0.dist-info/WHEEL,,\ngreet-1.0.dist-info/RECORD,,\n",
		}),
		"tests/test_greet.py": `import pathlib, unittest, greet

class Greet(unittest.TestCase):
    def test_hello(self):
        self.assertEqual(greet.hello(), "hello")

    def test_generated(self):
        self.assertTrue(pathlib.Path("generated/table.txt").exists())
`,
	}
}

// wheel makes a package as pip takes it.
func wheel(t *testing.T, files map[string]string) string {
	t.Helper()
	var b bytes.Buffer
	z := zip.NewWriter(&b)
	for name, text := range files {
		w, err := z.Create(name)
		if err != nil {
			t.Fatal(err)
		}
		if _, err := w.Write([]byte(text)); err != nil {
			t.Fatal(err)
		}
	}
	if err := z.Close(); err != nil {
		t.Fatal(err)
	}
	return b.String()
}

func call(name string, args map[string]any) scripted.Call {
	b, err := json.Marshal(args)
	if err != nil {
		panic(err)
	}
	return scripted.Call{Name: name, Args: b}
}

const (
	pythonInstall = "python3 -m venv .venv && .venv/bin/pip install -r requirements.txt"
	// A second time this fails, which only a proof in a clean machine shows.
	onceOnly = pythonInstall + " && mkdir generated && echo a > generated/table.txt"
	repeated = pythonInstall + " && mkdir -p generated && echo a > generated/table.txt"
)

// setupScript is what the model does in each repository: where the draft is
// right it says so; in the Python one it installs what is missing, first in a
// way that cannot be repeated.
func setupScript() *scripted.Script {
	write := func(install string, more ...any) scripted.Call {
		file := map[string]any{"install": install}
		for i := 0; i < len(more); i += 2 {
			file[more[i].(string)] = more[i+1]
		}
		text, _ := json.Marshal(file)
		return call("write_file", map[string]any{"path": ".errand/environment.json", "content": string(text) + "\n"})
	}
	run := func(command string) scripted.Call {
		return call("run_terminal_cmd", map[string]any{"command": command})
	}
	confirm := func(match, install, verify, expect string, more ...any) *scripted.Conversation {
		return &scripted.Conversation{Match: scripted.Pat(match), Turns: []*scripted.Turn{
			{Calls: []scripted.Call{run(install + " && " + install + " && " + verify)}},
			{Expect: scripted.Pat(expect), Calls: []scripted.Call{write(install, more...)}},
			{Text: "The draft is right."},
		}}
	}
	return &scripted.Script{Conversations: []*scripted.Conversation{
		confirm(`"npm ci"`, "npm ci", "npm test", "1 test passes",
			"terminals", []any{map[string]any{"name": "dev", "command": "npm run dev"}}, "ports", []any{4010}),
		confirm(`"go mod download"`, "go mod download", "go list -m all", "google/uuid"),
		{
			Match: scripted.Pat(`pip install -r requirements.txt`),
			Turns: []*scripted.Turn{
				{Text: "I try the draft.", Calls: []scripted.Call{run(pythonInstall + " && .venv/bin/python -m unittest discover -s tests")}},
				{Expect: scripted.Pat(`test_generated`), Text: "The table is missing.", Calls: []scripted.Call{write(onceOnly)}},
				{Text: "It is written."},
			},
			FollowUps: []*scripted.FollowUp{{
				Match: scripted.Pat(`(?s)second time.*File exists`),
				Turns: []*scripted.Turn{{Calls: []scripted.Call{write(repeated)}}, {Text: "It can be repeated now."}},
			}},
		},
	}}
}

// setupEnd is what `errand setup --json` prints.
func (in *installation) setup(args ...string) (api.Setup, error) {
	in.t.Helper()
	cmd := in.command(append([]string{"setup", "--json"}, args...)...)
	var stderr strings.Builder
	cmd.Stderr = &stderr
	out, err := cmd.Output()
	var s api.Setup
	if len(out) > 0 {
		if err := json.Unmarshal(out, &s); err != nil {
			in.t.Fatalf("setup printed %q: %v", out, err)
		}
	}
	if err != nil {
		err = fmt.Errorf("%w: %s", err, stderr.String())
	}
	return s, err
}

// TestSetup goes the whole way on three repositories, as a script would: with a
// model that works on the draft, with the survey's draft alone, and with each
// way to write the file.
func TestSetup(t *testing.T) {
	t.Parallel()
	in := install(t, setupScript())
	for _, c := range []struct {
		name, as, verify string
		files            map[string]string
		args             []string
		tries            int // how often the model had to be sent
	}{
		{"node", errand.AcceptCommit, "npm test", nodeRepository, []string{"--agent"}, 1},
		{"go", errand.AcceptStored, "go test ./...", goRepository, []string{"--agent", "--engine", "runc"}, 1},
		{"python", errand.AcceptPatch, "", pythonRepository(t), []string{"--agent", "--engine", "runc"}, 2},
	} {
		t.Run(c.name, func(t *testing.T) {
			repo := remote(t, c.files)
			s, err := in.setup(append([]string{"--repo", repo, "--yes", "--as", c.as}, c.args...)...)
			if err != nil || s.Status != errand.SetupAccepted {
				t.Fatalf("the setup is %s: %v\n%s", s.Status, err, in.setupStory(s.ID))
			}
			if c.verify != "" && s.Verify != c.verify {
				t.Errorf("it is verified by %q, want %q", s.Verify, c.verify)
			}
			checkProof(t, s)
			if p := s.Proof.Ports; c.name == "node" && (len(p) != 1 || p[0].Port != 4010 || p[0].Address == "") {
				t.Errorf("the development server's port is %+v", p)
			}
			if story := in.setupStory(s.ID); strings.Count(story, "the model works in its machine") != c.tries {
				t.Errorf("the model was not sent %d times:\n%s", c.tries, story)
			}
			in.checkWritten(t, repo, s)
		})
	}
}

// checkProof wants each step of the proof to have been gone through and shown.
func checkProof(t *testing.T, s api.Setup) {
	t.Helper()
	steps := map[errand.Phase]errand.ProofStep{}
	for _, step := range s.Proof.Steps {
		steps[step.Phase] = step
	}
	for _, phase := range []errand.Phase{errand.PhaseInstall, errand.PhaseAgain, errand.PhaseSnapshot, errand.PhaseVerify} {
		step, ok := steps[phase]
		if !ok || step.Failed || step.ExitCode != nil && *step.ExitCode != 0 {
			t.Errorf("the proof's step %s is %+v", phase, step)
		}
	}
	if steps[errand.PhaseInstall].Cached {
		t.Error("install did not run in a clean machine")
	}
	if out := steps[errand.PhaseVerify].Output; !strings.Contains(strings.ToLower(out), "ok") && !strings.Contains(out, "passes") {
		t.Errorf("the verify command printed %q", out)
	}
}

// checkWritten looks for the file where it was written, and that an agent of the
// repository finds the proof's disk.
func (in *installation) checkWritten(t *testing.T, repo string, s api.Setup) {
	t.Helper()
	switch a := s.Acceptance; a.As {
	case errand.AcceptCommit:
		if got := git(t, repo, "show", a.Branch+":.errand/environment.json"); got != strings.TrimSpace(s.Draft) {
			t.Errorf("the branch has %q", got)
		}
		if got := git(t, repo, "diff", "--name-only", "main", a.Branch); got != ".errand/environment.json" {
			t.Errorf("the commit changes %q", got)
		}
		if got := git(t, repo, "log", "-1", "--format=%s%n%b", a.Branch); !strings.Contains(got, "Verified by: npm test") {
			t.Errorf("the commit says %q", got)
		}
		git(t, repo, "update-ref", "refs/heads/main", a.Commit)
		made := in.agent("Do nothing", repo, "")
		if d := in.ended(made.Agent.ID, made.Run.ID); d.Error != nil && !strings.Contains(d.Error.Message, "script") {
			t.Errorf("the run ended with %v", d.Error)
		}
		found := false
		for _, e := range in.events(made.Agent.ID) {
			if e.Kind == errand.EventPhaseEnded {
				d := data[errand.PhaseEnded](t, e)
				found = found || d.Phase == errand.PhaseInstall && d.Cached
			}
		}
		if !found {
			t.Errorf("the first agent did not find the proof's disk:\n%s", in.story(made.Agent.ID))
		}
	case errand.AcceptPatch:
		apply := exec.Command("git", "apply", "--check", "-")
		apply.Dir = t.TempDir()
		git(t, apply.Dir, "clone", "-q", repo, ".")
		apply.Stdin = strings.NewReader(a.Patch)
		if out, err := apply.CombinedOutput(); err != nil {
			t.Errorf("the patch does not apply: %v %s\n%s", err, out, a.Patch)
		}
	case errand.AcceptStored:
		e, err := in.client.Environment(t.Context(), a.Environment)
		if err != nil || e.EnvironmentJSON != s.Draft {
			t.Errorf("what is stored is %+v, %v", e, err)
		}
	}
}

// setupStory is a setup's journal in short.
func (in *installation) setupStory(id string) string {
	var b strings.Builder
	ctx, cancel := context.WithTimeout(in.t.Context(), 5*time.Second)
	defer cancel()
	for e, err := range in.client.FollowSetup(ctx, errand.SetupID(id), 0) {
		if err != nil {
			break
		}
		text := string(e.Data)
		if len(text) > 400 {
			text = text[:400] + "…"
		}
		fmt.Fprintf(&b, "%4d %s %-14s %s\n", e.Seq, e.Time.Format("05.000"), e.Kind, text)
		if e.Kind == errand.EventSetupChanged && !data[errand.SetupChanged](in.t, e).Status.Busy() {
			s, err := in.client.Setup(ctx, errand.SetupID(id))
			if err != nil || !s.Status.Busy() {
				break
			}
		}
	}
	return b.String()
}

// TestSetupByHand is what a person does over the API: a machine is opened, the
// file is changed in it, proved from there, fails, is mended and proved again;
// and the server is killed meanwhile.
func TestSetupByHand(t *testing.T) {
	in := install(t, setupScript())
	repo := remote(t, map[string]string{"check.sh": "[ -f made/it ] || { echo made/it is missing; exit 3; }\n", ".gitignore": "made\n"})
	ctx := t.Context()
	s, err := in.client.CreateSetup(ctx, api.CreateSetup{Repository: api.Repo{URL: repo}, Mode: errand.SetupPerson, Verify: "sh check.sh"})
	if err != nil {
		t.Fatal(err)
	}
	id := errand.SetupID(s.ID)
	if s = in.waits(id); s.Status != errand.SetupProposed || s.MachineID == "" || s.Error != nil {
		t.Fatalf("the setup is %+v", s)
	}
	if _, err := in.client.AcceptSetup(ctx, id, api.AcceptSetup{As: errand.AcceptPatch}); errand.KindOf(err) != errand.Conflict {
		t.Errorf("accepting what is not proved gave %v", err)
	}
	write := func(install string) {
		t.Helper()
		out, err := in.command("exec", s.MachineID, "--", "sh", "-c", `printf '{"install": "%s", "start": "sleep 600 &"}' "$1" > .errand/environment.json`, "sh", install).CombinedOutput()
		if err != nil {
			t.Fatalf("%v %s", err, out)
		}
	}
	prove := func() {
		t.Helper()
		if _, err := in.client.ProveSetup(ctx, id, api.ProveSetup{FromMachine: true}); err != nil {
			t.Fatal(err)
		}
		s = in.waits(id)
	}
	for _, c := range []struct{ install, code string }{
		{"exit 7", "install_failed"}, {"mkdir made && touch made/it", "install_not_repeatable"}, {"true", "verify_failed"},
	} {
		write(c.install)
		if prove(); s.Error == nil || s.Error.Code != c.code || s.Status != errand.SetupProposed {
			t.Errorf("%q gave %+v, want %s", c.install, s.Error, c.code)
		}
	}
	if s.Error != nil && (s.Error.ExitCode == nil || *s.Error.ExitCode != 3 || !strings.Contains(s.Error.Output, "made/it is missing")) {
		t.Errorf("the verify command's failure is %+v", s.Error)
	}

	// Killed while it proves, it goes on at the next start.
	write("mkdir -p made && sleep 2 && touch made/it")
	if _, err := in.client.ProveSetup(ctx, id, api.ProveSetup{FromMachine: true}); err != nil {
		t.Fatal(err)
	}
	if _, err := in.client.EditSetup(ctx, id, api.EditSetup{Verify: new(string)}); errand.KindOf(err) != errand.Conflict {
		t.Errorf("editing under way gave %v", err)
	}
	in.underWay(id, errand.PhaseInstall)
	in.kill()
	in.start()
	if s = in.waits(id); s.Status != errand.SetupProved || !s.Proof.OK {
		t.Fatalf("after the kill the setup is %s: %+v\n%s", s.Status, s.Error, in.setupStory(s.ID))
	}
	if _, err := in.client.AcceptSetup(ctx, id, api.AcceptSetup{As: errand.AcceptCommit, Branch: "environment"}); err != nil {
		t.Fatal(err)
	}
	if s = in.waits(id); s.Status != errand.SetupAccepted {
		t.Fatalf("the setup is %s: %+v", s.Status, s.Error)
	}
	if got := git(t, repo, "show", "environment:.errand/environment.json"); !strings.Contains(got, "mkdir -p made") {
		t.Errorf("the branch has %q", got)
	}
	if err := in.client.DeleteSetup(ctx, id); err != nil {
		t.Error(err)
	}
	if _, err := in.client.Setup(ctx, id); errand.KindOf(err) != errand.NotFound {
		t.Errorf("after its end the setup gives %v", err)
	}
	in.checkNoAgents()
}

// TestSetupKilled kills the server in the middle of each command of a proof. The
// next one begins the proof anew, and nothing is left of those before.
func TestSetupKilled(t *testing.T) {
	in := install(t, setupScript())
	repo := remote(t, map[string]string{"README": "hello\n", ".errand/environment.json": `{"install": "sleep 1", "start": "sleep 1"}`})
	s, err := in.client.CreateSetup(t.Context(), api.CreateSetup{Repository: api.Repo{URL: repo}, Verify: "sleep 1", Engine: "runc"})
	if err != nil {
		t.Fatal(err)
	}
	id := errand.SetupID(s.ID)
	in.waits(id)
	if _, err := in.client.ProveSetup(t.Context(), id, api.ProveSetup{}); err != nil {
		t.Fatal(err)
	}
	for _, phase := range []errand.Phase{errand.PhaseInstall, errand.PhaseAgain, errand.PhaseStart, errand.PhaseVerify} {
		in.underWay(id, phase)
		in.kill()
		in.start()
	}
	if s = in.waits(id); s.Status != errand.SetupProved || !s.Proof.OK {
		t.Fatalf("after the kills the setup is %s: %+v\n%s", s.Status, s.Error, in.setupStory(s.ID))
	}
	agents := 0
	for a, err := range in.client.AllAgents(t.Context(), client.AgentQuery{IncludeArchived: true}) {
		if agents++; err != nil || a.ID != string(s.Proof.Agent) {
			t.Errorf("the proofs left the agent %s, %v", a.ID, err)
		}
	}
	if agents != 1 {
		t.Errorf("there are %d agents, want the one of the proof", agents)
	}
	if err := in.client.DeleteSetup(t.Context(), id); err != nil {
		t.Fatal(err)
	}
	in.checkNoAgents()
}

// checkNoAgents wants setups to have taken their machines with them.
func (in *installation) checkNoAgents() {
	in.t.Helper()
	if out, err := in.command("ls", "-a").Output(); err != nil || len(bytes.TrimSpace(out)) > 0 {
		in.t.Errorf("setups left agents: %s, %v", out, err)
	}
}

// waits follows a setup until it waits for people.
func (in *installation) waits(id errand.SetupID) api.Setup {
	in.t.Helper()
	ctx, cancel := context.WithTimeout(in.t.Context(), 3*time.Minute)
	defer cancel()
	s, err := in.client.Setup(ctx, id)
	if err != nil {
		in.t.Fatal(err)
	}
	if !s.Status.Busy() {
		return s
	}
	for e, err := range in.client.FollowSetup(ctx, id, 0) {
		if err != nil {
			in.t.Fatalf("following %s: %v\n%s", id, err, in.logged())
		}
		if e.Kind != errand.EventSetupChanged || data[errand.SetupChanged](in.t, e).Status.Busy() {
			continue
		}
		if s, err = in.client.Setup(ctx, id); err != nil {
			in.t.Fatal(err)
		}
		if !s.Status.Busy() {
			return s
		}
	}
	in.t.Fatalf("the journal of %s ended", id)
	panic("unreachable")
}

// underWay waits until a phase of the setup's latest proof has begun.
func (in *installation) underWay(id errand.SetupID, phase errand.Phase) {
	in.t.Helper()
	ctx, cancel := context.WithTimeout(in.t.Context(), time.Minute)
	defer cancel()
	proving := false
	for e, err := range in.client.FollowSetup(ctx, id, 0) {
		if err != nil {
			in.t.Fatal(err)
		}
		if e.Kind == errand.EventSetupChanged {
			d := data[errand.SetupChanged](in.t, e)
			proving = d.Status == errand.SetupProving
		}
		if proving && e.Kind == errand.EventPhaseStarted && data[errand.PhaseStarted](in.t, e).Phase == phase {
			// Earlier proofs had the phase too: the one that counts is under way.
			if s, err := in.client.Setup(ctx, id); err == nil && s.Status == errand.SetupProving && e.Time.After(s.UpdatedAt.Add(-time.Minute)) && !e.Time.Before(s.Proof.StartedAt) {
				return
			}
		}
	}
}
