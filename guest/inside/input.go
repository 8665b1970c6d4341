package inside

import (
	"context"
	"os"
	"sync"

	"github.com/errand-dev/errand/guest/wire"
)

// maxPending is how much stdin may wait for a command to read it, in bytes.
const maxPending = 1 << 20

// input is a command's stdin. Its bytes are counted, so that each is taken once.
type input struct {
	file *os.File
	tty  bool // file is the pty, and not ours to close

	mu      sync.Mutex
	taken   int64 // bytes accepted so far
	pending [][]byte
	size    int  // bytes of pending
	closing bool // no more will come
	dead    bool // the command reads no more: what comes is thrown away
	writing bool // a goroutine is at work
	room    bell
}

func newInput(file *os.File, tty bool) *input { return &input{file: file, tty: tty} }

// write accepts the part of data that was not accepted before, and waits while
// too much is pending. It keeps data.
func (in *input) write(ctx context.Context, offset int64, data []byte) error {
	in.mu.Lock()
	defer in.mu.Unlock()
	for {
		if offset > in.taken || offset < 0 {
			return faultf(wire.CodeInvalid, "stdin has %d bytes, so none can be written at %d", in.taken, offset)
		}
		rest := data[min(in.taken-offset, int64(len(data))):]
		switch {
		case len(rest) == 0:
			return nil
		case in.dead:
			in.taken += int64(len(rest))
			return nil
		case in.closing:
			return faultf(wire.CodeInvalid, "stdin was closed")
		case in.size == 0 || in.size+len(rest) <= maxPending:
			in.taken += int64(len(rest))
			in.addLocked(rest)
			return nil
		}
		wait := in.room.wait()
		in.mu.Unlock()
		select {
		case <-wait:
		case <-ctx.Done():
		}
		in.mu.Lock()
		if ctx.Err() != nil {
			return ctx.Err()
		}
	}
}

// close ends stdin after what is pending.
func (in *input) close() {
	in.mu.Lock()
	defer in.mu.Unlock()
	if in.closing {
		return
	}
	in.closing = true
	if in.tty && !in.dead {
		const eof = 0x04
		in.addLocked([]byte{eof})
	}
	in.flushLocked()
}

func (in *input) addLocked(data []byte) {
	in.pending = append(in.pending, data)
	in.size += len(data)
	in.flushLocked()
}

// end says that the command has exited.
func (in *input) end() {
	in.mu.Lock()
	defer in.mu.Unlock()
	in.dead, in.pending, in.size = true, nil, 0
	in.room.ring()
	if !in.tty {
		in.file.Close()
	}
}

// flushLocked sees to it that a goroutine writes what is pending. It ends by
// itself: when all is written, or when end closes the file.
func (in *input) flushLocked() {
	if in.writing || in.dead {
		return
	}
	in.writing = true
	go in.flush()
}

func (in *input) flush() {
	in.mu.Lock()
	defer in.mu.Unlock()
	defer func() { in.writing = false }()
	for !in.dead && len(in.pending) > 0 {
		data := in.pending[0]
		in.pending[0] = nil
		in.pending = in.pending[1:]
		in.size -= len(data)
		in.room.ring()
		in.mu.Unlock()
		_, err := in.file.Write(data)
		in.mu.Lock()
		if err != nil {
			in.dead, in.pending, in.size = true, nil, 0
			in.room.ring()
		}
	}
	if in.closing && !in.tty {
		in.file.Close()
	}
}
