package main_test

import (
	"bytes"
	"errors"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"github.com/creack/pty"

	"github.com/errand-dev/errand"
)

// typist is a person at a terminal: it reads what a command shows and types.
type typist struct {
	t    *testing.T
	tty  *os.File
	done chan struct{} // closed at the end of what is shown

	mu    sync.Mutex
	shown bytes.Buffer
	more  chan struct{} // something was shown
	seen  int           // bytes that expect has gone past
}

// sit starts an errand command on a terminal of 80 columns, in a folder of its own
// unless it has one. exit gives its code.
func (in *installation) sit(cmd *exec.Cmd) (p *typist, exit func() int) {
	in.t.Helper()
	if cmd.Dir == "" {
		cmd.Dir = in.t.TempDir()
	}
	tty, err := pty.StartWithSize(cmd, &pty.Winsize{Rows: 40, Cols: 80})
	if err != nil {
		in.t.Fatal(err)
	}
	p = &typist{t: in.t, tty: tty, done: make(chan struct{}), more: make(chan struct{}, 1)}
	go func() {
		defer close(p.done)
		buf := make([]byte, 4096)
		for {
			n, err := tty.Read(buf)
			p.mu.Lock()
			p.shown.Write(buf[:n])
			p.mu.Unlock()
			select {
			case p.more <- struct{}{}:
			default:
			}
			if err != nil { // EIO is how a terminal ends
				return
			}
		}
	}()
	in.t.Cleanup(func() {
		cmd.Process.Kill()
		tty.Close()
	})
	return p, func() int {
		in.t.Helper()
		<-p.done
		err := cmd.Wait()
		if err != nil && cmd.ProcessState == nil {
			in.t.Fatal(err)
		}
		return cmd.ProcessState.ExitCode()
	}
}

var escapes = regexp.MustCompile("\x1b\\[[0-9;?]*[A-Za-z]")

// text is what was shown so far, without what moves the cursor.
func (p *typist) text() string {
	p.mu.Lock()
	defer p.mu.Unlock()
	return escapes.ReplaceAllString(strings.ReplaceAll(p.shown.String(), "\r", ""), "")
}

// expect waits until something is shown after what was expected before.
func (p *typist) expect(what string) {
	p.t.Helper()
	limit := time.After(2 * time.Minute)
	for {
		text := p.text()
		if at := strings.Index(text[p.seen:], what); at >= 0 {
			p.seen += at + len(what)
			return
		}
		select {
		case <-p.more:
		case <-p.done:
			if !strings.Contains(p.text()[p.seen:], what) {
				p.t.Fatalf("it ended without %q:\n%s", what, p.text())
			}
		case <-limit:
			p.t.Fatalf("waited in vain for %q:\n%s", what, p.text())
		}
	}
}

func (p *typist) types(line string) {
	p.t.Helper()
	if _, err := io.WriteString(p.tty, line); err != nil && !errors.Is(err, syscall.EIO) {
		p.t.Fatal(err)
	}
}

// TestSetupAtTerminal is a person at a terminal who answers, errs, sees a proof
// fail, changes the verify command, works in the machine and takes a patch.
func TestSetupAtTerminal(t *testing.T) {
	t.Parallel()
	in := install(t, setupScript())
	repo := remote(t, map[string]string{
		"package.json": `{"name": "shop", "scripts": {"dev": "sleep 600", "test": "false"}}` + "\n",
		"check.sh":     "[ -f made ] || { echo made is missing; exit 3; }\n", ".gitignore": "made\n",
	})
	cmd := in.command("setup", "--repo", repo, "--engine", "runc")
	p, exit := in.sit(cmd)
	p.expect("Should the development server run in a terminal of every machine?")
	p.expect("? [1] ")
	p.types("maybe\n")
	p.expect(`There is no "maybe" here; type a number from 1 to 2.`)
	p.types("2\n")
	p.expect("[p] prove it")
	p.types("z\n")
	p.expect(`There is no "z" here.`)
	p.types("v\n")
	p.expect("the verify command: ")
	p.types("sh check.sh\n")
	p.expect("[p] prove it")
	p.types("\n") // the likeliest
	p.expect("exit code 3")
	p.expect("[p] prove it")

	p.types("m\n")
	p.expect("The machine is open.")
	p.expect("? [p] ")
	p.types("a\n")
	p.expect("Leave it with Ctrl-B D")
	p.expect("# ") // a shell
	p.types(`printf '{"install": "touch made"}' > .errand/environment.json; echo wr''itten` + "\n")
	p.expect("written")
	p.types("\x02d")
	p.expect("? [p] ")
	p.types("p\n")
	p.expect("It works in a clean machine.")
	p.expect("[c] commit it")
	p.types("t\n")
	p.expect("git apply environment.patch")
	if code := exit(); code != 0 {
		t.Errorf("the exit code is %d:\n%s", code, p.text())
	}
	patch, err := os.ReadFile(filepath.Join(cmd.Dir, "environment.patch"))
	if err != nil || !strings.Contains(string(patch), `+{"install": "touch made"}`) {
		t.Errorf("the patch is %q, %v", patch, err)
	}
	in.checkNoAgents()
}

// TestSetupLeft ends the input in the middle and is interrupted; the setup stays
// to be gone on with.
func TestSetupLeft(t *testing.T) {
	t.Parallel()
	in := install(t, setupScript())
	repo := remote(t, nodeRepository)
	p, exit := in.sit(in.command("setup", "--repo", repo))
	p.expect("? [1] ")
	p.types("\x04") // the end of input: what holds already, and then to leave
	p.expect("Go on: errand setup go set-")
	if code := exit(); code != 0 {
		t.Errorf("left by the end of input, the exit code is %d", code)
	}
	p, exit = in.sit(in.command("setup", "go"))
	p.expect("? [1] ")
	p.types("\x03")
	p.expect("Go on: errand setup go set-")
	if code := exit(); code != 130 {
		t.Errorf("interrupted, the exit code is %d", code)
	}
	left := 0
	for s, err := range in.client.AllSetups(t.Context()) {
		if left++; err != nil || s.Status != errand.SetupProposed {
			t.Errorf("the setup that was left is %s, %v", s.Status, err)
		}
		if err := in.client.DeleteSetup(t.Context(), errand.SetupID(s.ID)); err != nil {
			t.Error(err)
		}
	}
	if left != 1 {
		t.Errorf("%d setups were left, want 1", left)
	}
}
