package guest_test

import (
	"bytes"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"syscall"
	"testing"
	"time"

	"github.com/errand-dev/errand/guest"
)

// TestProgramSize holds the promise of a small guest.
func TestProgramSize(t *testing.T) {
	file := filepath.Join(t.TempDir(), "errand-guest")
	must(t, build(file, false))
	stat, err := os.Stat(file)
	must(t, err)
	if stat.Size() >= 8<<20 {
		t.Errorf("errand-guest has %d bytes, and must stay below 8 MiB", stat.Size())
	}
	t.Logf("errand-guest has %d bytes", stat.Size())
}

// connect runs errand-guest connect as a driver would.
func connect(t *testing.T, m *machine) (cmd *exec.Cmd, in io.WriteCloser, out io.Reader) {
	t.Helper()
	cmd = exec.Command(program, "connect", "-socket", m.socket)
	cmd.Stderr = os.Stderr
	in, err := cmd.StdinPipe()
	must(t, err)
	out, err = cmd.StdoutPipe()
	must(t, err)
	must(t, cmd.Start())
	return cmd, in, out
}

// knock opens a stream of the mux's and waits for the guest to accept it.
func knock(t *testing.T, in io.Writer, out io.Reader) {
	t.Helper()
	_, err := in.Write([]byte{0, 1, 0, 1, 0, 0, 0, 1, 0, 0, 0, 0})
	must(t, err)
	got := make([]byte, 4)
	if _, err := io.ReadFull(out, got); err != nil || !bytes.Equal(got, []byte{0, 1, 0, 2}) {
		t.Errorf("the guest answered %v, %v", got, err)
	}
}

// ends waits for a program that must end by itself.
func ends(t *testing.T, cmd *exec.Cmd) {
	t.Helper()
	ended := make(chan error, 1)
	go func() { ended <- cmd.Wait() }()
	select {
	case <-ended:
	case <-time.After(10 * time.Second):
		t.Error("connect did not end")
		cmd.Process.Kill()
		<-ended
	}
}

func TestConnectEndsWithEitherSide(t *testing.T) {
	m := boot(t)
	t.Run("stdin closed", func(t *testing.T) {
		cmd, in, _ := connect(t, m)
		must(t, in.Close())
		ends(t, cmd)
	})
	t.Run("guest gone", func(t *testing.T) {
		cmd, in, out := connect(t, m)
		defer in.Close()
		knock(t, in, out)
		m.kill()
		ends(t, cmd)
		m.start()
	})
	t.Run("before the guest is there", func(t *testing.T) {
		m.stop()
		cmd, in, out := connect(t, m)
		m.start()
		knock(t, in, out)
		in.Close()
		ends(t, cmd)
	})
}

func TestSocketIsRootsAlone(t *testing.T) {
	m := boot(t)
	m.line(nil, guest.Options{})
	stat, err := os.Stat(m.socket)
	must(t, err)
	if stat.Mode().Perm() != 0o600 || stat.Sys().(*syscall.Stat_t).Uid != uint32(os.Getuid()) {
		t.Errorf("%v", stat.Mode())
	}
}

// BenchmarkExec is a command's whole round trip over a ready line.
func BenchmarkExec(b *testing.B) {
	l := boot(b).line(nil, guest.Options{})
	for b.Loop() {
		c := guest.Command{ID: id(), Args: []string{"/bin/true"}}
		if _, err := l.Run(b.Context(), c, nil); err != nil {
			b.Fatal(err)
		}
	}
}

// BenchmarkAsk is the line's part of that.
func BenchmarkAsk(b *testing.B) {
	l := boot(b).line(nil, guest.Options{})
	for b.Loop() {
		if _, err := l.Known(b.Context(), "x"); err != nil {
			b.Fatal(err)
		}
	}
}

// BenchmarkBareExec is what the process alone costs here.
func BenchmarkBareExec(b *testing.B) {
	for b.Loop() {
		if err := exec.Command("/bin/true").Run(); err != nil {
			b.Fatal(err)
		}
	}
}
