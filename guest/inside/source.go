package inside

import (
	"os"
	"sync"
	"syscall"
	"time"

	"golang.org/x/sys/unix"
)

// source is where a command's output comes from: our end of a pipe, or of a
// pty. It is read until its last writer has closed it, which may be long after
// the command's exit.
type source struct {
	file   *os.File
	raw    syscall.RawConn
	stderr bool
	tty    bool
	out    *output
	ended  chan struct{} // closed after the last read

	mu sync.Mutex // held from each read to the end of its write to out
}

// buffers serve the reads of all sources; a source that waits holds none.
var buffers = sync.Pool{New: func() any { return new([maxChunk]byte) }}

func newSource(file *os.File, stderr, tty bool, out *output) (*source, error) {
	raw, err := file.SyscallConn()
	if err != nil {
		return nil, err
	}
	return &source{file: file, raw: raw, stderr: stderr, tty: tty, out: out, ended: make(chan struct{})}, nil
}

// pump reads until the last writer is gone, then closes the file.
func (s *source) pump() {
	defer close(s.ended)
	defer s.file.Close()
	for {
		for wait := s.out.full(); wait != nil; wait = s.out.full() {
			<-wait
		}
		more := true
		err := s.raw.Read(func(fd uintptr) bool {
			n, err := s.read(fd)
			more = n > 0
			return err != unix.EAGAIN
		})
		if err != nil || !more {
			return
		}
	}
}

// read takes what is there, at most one buffer of it.
func (s *source) read(fd uintptr) (int, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	buf := buffers.Get().(*[maxChunk]byte)
	defer buffers.Put(buf)
	for {
		n, err := unix.Read(int(fd), buf[:])
		if err == unix.EINTR {
			continue
		}
		if n > 0 {
			s.out.write(s.stderr, buf[:n])
		}
		return n, err
	}
}

// drain takes what was written up to now, for a command that has just exited.
// It does not wait for other writers.
func (s *source) drain() {
	if s.tty {
		// What was written to a pty arrives a little later; its end comes soon
		// after the leader's exit, because the kernel hangs it up.
		select {
		case <-s.ended:
		case <-time.After(100 * time.Millisecond):
		}
		return
	}
	s.raw.Control(func(fd uintptr) {
		// With the lock, because pump may have read and not yet written.
		s.mu.Lock()
		left, err := unix.IoctlGetInt(int(fd), unix.TIOCINQ)
		s.mu.Unlock()
		if err != nil {
			left = 1 << 20
		}
		for left > 0 {
			n, err := s.read(fd)
			if n <= 0 || err != nil {
				return
			}
			left -= n
		}
	})
}
