package main_test

import (
	"bufio"
	"encoding/json"
	"errors"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/creack/pty"

	"github.com/errand-dev/errand/guest/guesttest"
)

// command prepares the errand command for the installation.
func (in *installation) command(args ...string) *exec.Cmd {
	cmd := exec.Command(guesttest.Program(in.t, "errand"), args...)
	cmd.Env = append(os.Environ(), "ERRAND_DATA="+in.data, "TERM=xterm-256color", "NO_COLOR=1")
	return cmd
}

// TestPersonInTheMachine uses the commands that go into an agent's machine, on
// each engine: exec with its streams and exit code, a shared terminal on a pty,
// and the diff of what was not committed.
func TestPersonInTheMachine(t *testing.T) {
	t.Parallel()
	in := install(t, here())
	for _, engine := range []string{"gvisor", "runc"} {
		t.Run(engine, func(t *testing.T) {
			made := in.agent("Be there", remote(t, map[string]string{"README": "hello\n"}), engine)
			id := made.Agent.ID
			in.finished(id, made.Run.ID)

			cmd := in.command("exec", id, "--", "sh", "-c", "cat; echo to stderr >&2; exit 3")
			cmd.Stdin = strings.NewReader("through and back\n")
			var stderr strings.Builder
			cmd.Stderr = &stderr
			out, err := cmd.Output()
			var exit *exec.ExitError
			if !errors.As(err, &exit) || exit.ExitCode() != 3 || string(out) != "through and back\n" || stderr.String() != "to stderr\n" {
				t.Errorf("exec gave %q, %q, %v", out, stderr.String(), err)
			}

			in.attach(t, id)

			if out, err := in.command("exec", id, "--", "sh", "-c", "echo more >> README; echo new > NEW").CombinedOutput(); err != nil {
				t.Fatalf("%v %s", err, out)
			}
			diff, err := in.command("diff", id).Output()
			if err != nil || !strings.Contains(string(diff), "+more\n") || !strings.Contains(string(diff), "+++ b/NEW") {
				t.Errorf("diff gave %v\n%s", err, diff)
			}
			if out, err := in.command("exec", id, "--", "git", "status", "--short").Output(); err != nil || string(out) != " M README\n?? NEW\n" {
				t.Errorf("after a diff git status says %q, %v: the agent's index was touched", out, err)
			}
		})
	}
}

// attach types into a shared terminal, leaves it, and finds it as it was.
func (in *installation) attach(t *testing.T, id string) {
	t.Helper()
	for _, expect := range []struct{ keys, seen string }{
		{"x=$((6*7)); echo the-answer-$x\n", "the-answer-42"},
		{"echo still-$x\n", "still-42"}, // in the same shell, after leaving
	} {
		cmd := in.command("attach", id, "desk")
		screen, err := pty.StartWithSize(cmd, &pty.Winsize{Rows: 24, Cols: 100})
		if err != nil {
			t.Fatal(err)
		}
		found, ended := make(chan bool, 1), make(chan error, 1)
		go func() {
			var seen strings.Builder
			buf := make([]byte, 4096)
			for {
				n, err := screen.Read(buf)
				seen.Write(buf[:n])
				if strings.Contains(seen.String(), "\n"+expect.seen) || strings.Contains(seen.String(), expect.seen+"\r") {
					found <- true
					break
				}
				if err != nil {
					found <- false
					break
				}
			}
			for {
				if _, err := screen.Read(buf); err != nil {
					return
				}
			}
		}()
		if _, err := screen.WriteString(expect.keys); err != nil {
			t.Fatal(err)
		}
		select {
		case ok := <-found:
			if !ok {
				t.Errorf("%q was not seen in the terminal", expect.seen)
			}
		case <-time.After(30 * time.Second):
			t.Errorf("%q was not seen in the terminal", expect.seen)
		}
		if _, err := screen.WriteString("\x02d"); err != nil { // tmux's own way out
			t.Error(err)
		}
		go func() { ended <- cmd.Wait() }()
		select {
		case err := <-ended:
			if err != nil {
				t.Errorf("leaving the terminal gave %v", err)
			}
		case <-time.After(20 * time.Second):
			t.Error("the terminal cannot be left")
			_ = cmd.Process.Kill()
		}
		screen.Close()
	}
}

// TestDemo runs the README's first command as a script would.
func TestDemo(t *testing.T) {
	t.Parallel()
	guesttest.Root(t)
	dir := filepath.Join(t.TempDir(), "demo")
	cmd := exec.Command(guesttest.Program(t, "errand"), "demo", "--json", "--dir", dir)
	cmd.Env = append(os.Environ(), "ANTHROPIC_API_KEY=", "OPENAI_API_KEY=")
	var stderr strings.Builder
	cmd.Stderr = &stderr
	out, err := cmd.Output()
	if err != nil {
		t.Fatalf("%v\n%s%s", err, out, stderr.String())
	}
	last := ""
	for lines := bufio.NewScanner(strings.NewReader(string(out))); lines.Scan(); {
		last = lines.Text()
	}
	var d struct {
		Status, Engine, AgentID, Branch string
		Commits, FilesChanged           int
		PhasesMs                        map[string]int64
		FollowUp                        struct{ Status string }
	}
	if err := json.Unmarshal([]byte(last), &d); err != nil {
		t.Fatalf("the last line is %q: %v", last, err)
	}
	if d.Status != "FINISHED" || d.Engine != "gvisor" || d.Commits != 2 || d.FilesChanged != 2 || d.FollowUp.Status != "FINISHED" || d.PhasesMs["work"] == 0 {
		t.Errorf("the demo says %s", last)
	}
	if got := git(t, filepath.Join(dir, "slug.git"), "show", d.Branch+":slug.sh"); !strings.Contains(got, "tr -s ' '") {
		t.Errorf("the branch has %q", got)
	}
	if found := left(t, dir); len(found) > 0 {
		t.Errorf("the demo left %v", found)
	}
}
