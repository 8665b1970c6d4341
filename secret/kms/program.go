package kms

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net/rpc"
	"net/url"
	"os/exec"
	"sync"
	"time"

	"github.com/errand-dev/errand"
	"github.com/errand-dev/errand/secret"
)

// Program is errand-kms, which is started when a key is first used and again
// when it has ended. It may be used from many goroutines.
type Program struct {
	path string
	args []string

	mu      sync.Mutex
	running *running
	closed  bool
}

// running is one life of the program.
type running struct {
	client *rpc.Client
	cmd    *exec.Cmd
	words  tail
}

// NewProgram gives the program at path, "" if this host does not have it, with
// args before its own. It is not started yet. The caller closes it.
func NewProgram(path string, args ...string) *Program { return &Program{path: path, args: args} }

// Open gives the key that u names. Whether it can be used shows when it is.
func (p *Program) Open(_ context.Context, u *url.URL) (*secret.KEK, error) {
	name := u.String()
	if p.path == "" {
		return nil, errand.Errorf(errand.Unavailable, "kms_unavailable", "The key %s needs the program errand-kms, which is neither beside errand nor in PATH. Put it there (make build makes it) and try again; nothing was overwritten.", name)
	}
	return &secret.KEK{
		Name: name,
		Wrap: func(ctx context.Context, key []byte) ([]byte, string, error) {
			out, err := p.call(ctx, "Keys.Wrap", Call{Key: name, Data: key})
			return out.Data, out.Version, err
		},
		Unwrap: func(ctx context.Context, wrapped []byte, version string) ([]byte, error) {
			out, err := p.call(ctx, "Keys.Unwrap", Call{Key: name, Data: wrapped, Version: version})
			return out.Data, err
		},
	}, nil
}

// call asks the program, a new one if the one that was there has ended meanwhile:
// asking again changes nothing.
func (p *Program) call(ctx context.Context, method string, in Call) (Answer, error) {
	if until, ok := ctx.Deadline(); ok {
		in.Within = time.Until(until)
	}
	for again := range 2 {
		r, err := p.start()
		if err != nil {
			return Answer{}, err
		}
		var out Answer
		call := r.client.Go(method, in, &out, make(chan *rpc.Call, 1))
		select {
		case <-ctx.Done():
			return Answer{}, ctx.Err()
		case <-call.Done:
		}
		if call.Error == nil {
			return out, out.Fault.error()
		}
		if words := p.drop(r); again == 1 {
			return Answer{}, fmt.Errorf("errand-kms ended: %w\n%s", call.Error, words)
		}
	}
	panic("unreachable")
}

// start gives the program, running.
func (p *Program) start() (*running, error) {
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.closed {
		return nil, errors.New("the server is ending")
	}
	if p.running != nil {
		return p.running, nil
	}
	r := &running{cmd: exec.Command(p.path, p.args...)}
	r.cmd.Stderr = &r.words
	in, err := r.cmd.StdinPipe()
	if err != nil {
		return nil, err
	}
	out, err := r.cmd.StdoutPipe()
	if err != nil {
		return nil, err
	}
	if err := r.cmd.Start(); err != nil {
		return nil, fmt.Errorf("starting errand-kms: %w", err)
	}
	r.client = rpc.NewClient(pipes{out, in})
	p.running = r
	return r, nil
}

// drop forgets a program that ended, unless another goroutine has, and gives
// what it said last.
func (p *Program) drop(r *running) string {
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.running == r {
		p.running = nil
		r.end()
	}
	return r.words.String()
}

// end ends the program, which holds nothing that could be lost, and waits.
func (r *running) end() {
	_ = r.client.Close() // it may have ended by itself; so for all of these
	_ = r.cmd.Process.Kill()
	_ = r.cmd.Wait()
}

// Close ends the program. Keys that it opened can no longer be used.
func (p *Program) Close() error {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.closed = true
	if p.running != nil {
		p.running.end()
		p.running = nil
	}
	return nil
}

// pipes are both directions of the program as one.
type pipes struct {
	io.ReadCloser
	in io.WriteCloser
}

func (p pipes) Write(b []byte) (int, error) { return p.in.Write(b) }

// Close closes what the program reads. What it writes ends with it.
func (p pipes) Close() error { return p.in.Close() }

// tail keeps the last that was written.
type tail struct {
	mu   sync.Mutex
	text []byte
}

func (t *tail) Write(b []byte) (int, error) {
	t.mu.Lock()
	defer t.mu.Unlock()
	t.text = append(t.text, b...)
	t.text = t.text[max(0, len(t.text)-1024):]
	return len(b), nil
}

func (t *tail) String() string {
	t.mu.Lock()
	defer t.mu.Unlock()
	return string(t.text)
}
