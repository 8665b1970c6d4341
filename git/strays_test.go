package git

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"io/fs"
	"net/http"
	"net/http/httptest"
	"os"
	"os/exec"
	"path/filepath"
	"syscall"
	"testing"

	"github.com/errand-dev/errand/guest/guesttest"
)

// victimVar is set where this program is the server that gets killed: the
// directory of its mirrors, and the URL that it fetches.
const victimVar, victimURLVar = "ERRAND_GITTEST_VICTIM", "ERRAND_GITTEST_URL"

// victim fetches until it is killed.
func victim(dir, url string) error {
	m, err := New(Options{Dir: dir})
	if err != nil {
		return err
	}
	_, err = m.Fetch(context.Background(), url)
	return err
}

// What a killed server had started must not write where the next one does.
func TestNothingOutlivesAKilledServer(t *testing.T) {
	t.Parallel()
	asked := make(chan struct{}, 10)
	remote := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		asked <- struct{}{}
		<-r.Context().Done() // git waits for an answer
	}))
	defer remote.Close()
	dir := filepath.Join(t.TempDir(), "git")
	server := exec.Command(os.Args[0])
	server.Env = append(os.Environ(), victimVar+"="+dir, victimURLVar+"="+remote.URL+"/r.git")
	out, err := server.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := server.Start(); err != nil {
		t.Fatal(err)
	}
	said := make(chan string, 1)
	go func() {
		lines := bufio.NewScanner(out)
		lines.Scan()
		said <- lines.Text()
	}()
	select {
	case <-asked:
	case line := <-said:
		t.Fatalf("the server ended: %s", line)
	}
	mark := []byte((&Mirrors{options: Options{Dir: dir}}).mark())
	if pids, err := bearing(mark); err != nil || len(pids) == 0 {
		t.Fatalf("no git is at work: %v, %v", pids, err)
	}
	if err := server.Process.Kill(); err != nil {
		t.Fatal(err)
	}
	<-said
	server.Wait()
	m, err := New(Options{Dir: dir})
	if err != nil {
		t.Fatal(err)
	}
	defer m.Close()
	if pids, err := bearing(mark); err != nil || len(pids) > 0 {
		t.Errorf("processes %v are still there: %v", pids, err)
	}
}

// A git that was about to move a branch of a remote on this host leaves no lock there,
// which would keep everybody from pushing it.
func TestStraysTakeTheirLocksAway(t *testing.T) {
	t.Parallel()
	bare, _ := newRemote(t)
	m := &Mirrors{options: Options{Dir: t.TempDir()}}
	cmd := exec.Command("git", "-C", bare, "update-ref", "--stdin")
	cmd.Env = append(os.Environ(), m.mark())
	in, err := cmd.StdinPipe()
	if err != nil {
		t.Fatal(err)
	}
	out, err := cmd.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { in.Close(); cmd.Wait() })
	fmt.Fprint(in, "start\ncreate refs/heads/new main\nprepare\n")
	lines := bufio.NewScanner(out)
	for lines.Scan() && lines.Text() != "prepare: ok" {
	}
	lock := filepath.Join(bare, "refs", "heads", "new.lock")
	if _, err := os.Stat(lock); err != nil {
		t.Fatalf("git has no lock: %v", err)
	}
	if err := m.endStrays(); err != nil {
		t.Fatal(err)
	}
	if _, err := os.Stat(lock); !errors.Is(err, fs.ErrNotExist) {
		t.Errorf("after git was ended its lock is still there: %v", err)
	}
}

// TestStraysOfMachinesAreLeftAlone: a machine of runc is seen from the host, and
// what runs in it chooses its own environment.
func TestStraysOfMachinesAreLeftAlone(t *testing.T) {
	guesttest.Root(t) // makes process namespaces
	const mark = "ERRAND_GITTEST_STRAY=1"
	start := func(flags uintptr) *exec.Cmd {
		t.Helper()
		cmd := exec.Command("cat")
		cmd.Env = append(os.Environ(), mark)
		cmd.SysProcAttr = &syscall.SysProcAttr{Cloneflags: flags}
		in, err := cmd.StdinPipe()
		if err != nil {
			t.Fatal(err)
		}
		if err := cmd.Start(); err != nil {
			t.Fatal(err)
		}
		t.Cleanup(func() { in.Close(); cmd.Wait() })
		return cmd
	}
	start(syscall.CLONE_NEWPID)
	ours := start(0)
	found, err := bearing([]byte(mark))
	if err != nil || len(found) != 1 || found[0].Pid != ours.Process.Pid {
		t.Errorf("found %v, %v; want %d alone", found, err, ours.Process.Pid)
	}
}

// runVictim is for TestMain.
func runVictim() {
	if dir := os.Getenv(victimVar); dir != "" {
		fmt.Println(victim(dir, os.Getenv(victimURLVar)))
		os.Exit(1)
	}
}
