package sshd

import (
	"context"
	"encoding/binary"
	"fmt"
	"io"
	"regexp"
	"strings"
	"sync"

	"golang.org/x/crypto/ssh"

	"github.com/errand-dev/errand/auth"
	"github.com/errand-dev/errand/guest"
	"github.com/errand-dev/errand/runner"
	"github.com/errand-dev/errand/terminal"
)

// Payloads of requests on a session, RFC 4254 sections 6.2 to 6.10.
type (
	ptyRequest struct {
		Term                         string
		Cols, Rows, PixelsX, PixelsY uint32
		Modes                        string
	}
	sizeRequest struct{ Cols, Rows, PixelsX, PixelsY uint32 }
	envRequest  struct{ Name, Value string }
	textRequest struct{ Text string } // of exec, subsystem and signal
)

// envName is which variables a client may set, as sshd's AcceptEnv says what.
var envName = regexp.MustCompile(`^(LANG|LC_[A-Z_]+|TERM|COLORTERM|GIT_PROTOCOL|NO_COLOR)$`)

// maxEnv bounds the variables of a session, in bytes.
const maxEnv = 16 << 10

// maxSignals is how many signals may wait for a command to be sent them.
const maxSignals = 16

// visit is one session channel, which runs one thing.
type visit struct {
	*visitor
	ssh.Channel
	env     []string
	tty     *guest.Size
	sizes   chan guest.Size
	signals chan string
}

// session serves a session channel until it ends.
func (v *visitor) session(ctx context.Context, c ssh.NewChannel) {
	channel, requests, err := c.Accept()
	if err != nil {
		return
	}
	defer channel.Close()
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	s := &visit{visitor: v, Channel: channel, sizes: make(chan guest.Size, 1), signals: make(chan string, maxSignals)}
	var work sync.WaitGroup
	defer work.Wait()
	started := false
	// Ends when the channel does, which ends what runs.
	for r := range requests {
		run := s.take(r, started)
		if r.WantReply {
			_ = r.Reply(run != nil || s.heard(r), nil) // an end is seen by the loop
		}
		if run != nil {
			started = true
			work.Go(func() {
				defer channel.Close()
				s.end(run(ctx))
			})
		}
	}
	cancel()
}

// heard says whether a request that started nothing has been taken.
func (s *visit) heard(r *ssh.Request) bool {
	switch r.Type {
	case "pty-req":
		return s.tty != nil
	case "env", "window-change", "signal":
		return true
	}
	return false
}

// take takes a request, and gives what it starts, nil for nothing.
func (s *visit) take(r *ssh.Request, started bool) func(context.Context) (int, error) {
	switch r.Type {
	case "window-change":
		var size sizeRequest
		if ssh.Unmarshal(r.Payload, &size) == nil {
			s.resize(size.Cols, size.Rows)
		}
		return nil
	case "signal":
		var sig textRequest
		if ssh.Unmarshal(r.Payload, &sig) == nil {
			s.signal(sig.Text)
		}
		return nil
	case "pty-req", "env", "shell", "exec", "subsystem":
		if !started {
			return s.prepare(r)
		}
	}
	return nil
}

// prepare takes a request that comes before the session runs, or starts it.
func (s *visit) prepare(r *ssh.Request) func(context.Context) (int, error) {
	var text textRequest
	switch r.Type {
	case "pty-req":
		var pty ptyRequest
		if ssh.Unmarshal(r.Payload, &pty) == nil && s.grant.Allows(auth.PermitPTY) {
			size := sizeOf(pty.Cols, pty.Rows)
			s.tty = &size
			s.setEnv("TERM", pty.Term)
		}
		return nil
	case "env":
		var e envRequest
		if ssh.Unmarshal(r.Payload, &e) == nil {
			s.setEnv(e.Name, e.Value)
		}
		return nil
	case "shell":
		return s.shell("")
	}
	if ssh.Unmarshal(r.Payload, &text) != nil {
		return nil
	}
	if r.Type == "subsystem" {
		if text.Text != "sftp" {
			return nil
		}
		return func(ctx context.Context) (int, error) {
			return s.exec(ctx, runner.ExecRequest{As: runner.ExecFiles})
		}
	}
	if name, ok := strings.CutPrefix(text.Text, "attach "); ok && s.tty != nil {
		return func(ctx context.Context) (int, error) { return s.attach(ctx, strings.TrimSpace(name)) }
	}
	return s.shell(text.Text)
}

func (s *visit) setEnv(name, value string) {
	size := len(name) + len(value)
	for _, kv := range s.env {
		size += len(kv)
	}
	if envName.MatchString(name) && size <= maxEnv && !strings.Contains(value, "\x00") {
		s.env = append(s.env, name+"="+value)
	}
}

// sizeOf gives a size that a terminal can have: 0 is what a client says that does
// not know its own.
func sizeOf(cols, rows uint32) guest.Size {
	const most = 1000
	size := guest.Size{Cols: uint16(min(cols, most)), Rows: uint16(min(rows, most))}
	if size.Cols == 0 || size.Rows == 0 {
		return guest.Size{Cols: 80, Rows: 24}
	}
	return size
}

// resize hands on the latest size: one that nobody has taken is replaced.
func (s *visit) resize(cols, rows uint32) {
	size := sizeOf(cols, rows)
	select {
	case <-s.sizes:
	default:
	}
	s.sizes <- size
}

// signal hands on a signal, unless too many wait already. One that comes before
// the command does waits for it.
func (s *visit) signal(name string) {
	select {
	case s.signals <- name:
	default:
	}
}

// shell runs a text in the user's shell, or the shell alone.
func (s *visit) shell(text string) func(context.Context) (int, error) {
	req := runner.ExecRequest{As: runner.ExecShell}
	if text != "" {
		req.Args = []string{text}
	}
	return func(ctx context.Context) (int, error) { return s.exec(ctx, req) }
}

// exec runs a request with the channel as its streams, and gives its exit code.
func (s *visit) exec(ctx context.Context, req runner.ExecRequest) (int, error) {
	id, err := s.agent(ctx)
	if err != nil {
		return 0, err
	}
	req.Env, req.TTY, req.Resize, req.Signal, req.Stdin, req.Whole = s.env, s.tty, s.sizes, s.signals, s.Channel, s.tty == nil
	exit, err := s.Runner.Exec(ctx, s.who, id, req, s.print)
	if exit.Unknown && err == nil {
		err = fmt.Errorf("the machine ended before the command did")
	}
	return exit.Code, err
}

// attach shows a terminal of the machine.
func (s *visit) attach(ctx context.Context, name string) (int, error) {
	id, err := s.agent(ctx)
	if err != nil {
		return 0, err
	}
	return 0, s.Runner.Attach(ctx, s.who, id, terminal.View{Name: name, Size: *s.tty}, terminal.Streams{In: s.Channel, Resize: s.sizes, Out: s.print})
}

// print passes on a piece of output. It blocks while the client takes none.
func (s *visit) print(o guest.Output) {
	var to io.Writer = s.Channel
	if o.Stderr {
		to = s.Stderr()
	}
	_, _ = to.Write(o.Data) // a channel that has ended ends the session
}

// end tells the client how it ended: with what code, or why it did not run.
func (s *visit) end(code int, err error) {
	if err != nil {
		fmt.Fprintf(s.Stderr(), "errand: %s\r\n", said(err))
		code = 255 // as ssh itself says of what went wrong on the way
	}
	_ = s.CloseWrite()
	_, _ = s.SendRequest("exit-status", false, binary.BigEndian.AppendUint32(nil, uint32(code)))
}
