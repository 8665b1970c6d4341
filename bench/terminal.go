package bench

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"sync"
	"time"

	"github.com/errand-dev/errand"
	"github.com/errand-dev/errand/api"
	"github.com/errand-dev/errand/client"
	"github.com/errand-dev/errand/guest"
	"github.com/errand-dev/errand/machine"
	"github.com/errand-dev/errand/terminal"
)

// measureTerminal times a key from its press to its echo: over the line with the
// machine alone, and through the server as the panel's page does it.
func measureTerminal(ctx context.Context, b *bench) error {
	err := b.each(ctx, "terminal", func(r *rig) error {
		s, err := r.spawn(ctx, "terminal", machine.Spec{})
		if err != nil {
			return err
		}
		view := terminal.View{Name: "typed", Bare: true, Size: guest.Size{Cols: 120, Rows: 40}}
		took, err := b.typed(ctx, func(ctx context.Context, in io.Reader, out io.Writer) error {
			return terminal.Attach(ctx, s.line, view, terminal.Streams{In: in, Out: func(o guest.Output) { _, _ = out.Write(o.Data) }}) // a screen gives no error
		})
		b.keep("terminal", "key → echo, over the line alone", r.engine, "ms", took, "")
		return errors.Join(err, s.end(ctx))
	})
	if err != nil {
		return err
	}
	return b.eachAgent(ctx, "terminal", b.typedThrough)
}

// typedThrough times keys through a server.
func (b *bench) typedThrough(ctx context.Context, s *served, id errand.AgentID) error {
	if _, err := s.client.OpenTerminal(ctx, id, "typed"); err != nil {
		return err
	}
	start := api.ExecStart{TTY: &api.Size{Cols: 120, Rows: 40}, Window: 256 << 10, Bare: true, Existing: true}
	took, err := b.typed(ctx, func(ctx context.Context, in io.Reader, out io.Writer) error {
		_, err := s.client.Attach(ctx, id, "typed", start, client.ExecIO{Stdin: in, Stdout: out})
		return err
	})
	b.keep("terminal", "key → echo, through the panel's WebSocket", s.engine, "ms", took, "")
	return err
}

// typed types at a shell that show shows, and gives how long each key's echo took.
func (b *bench) typed(ctx context.Context, show func(ctx context.Context, in io.Reader, out io.Writer) error) ([]float64, error) {
	// None of them is in what moves a cursor.
	const keys = "QWYZ&%!*"
	ctx, stop := context.WithTimeout(ctx, 2*time.Minute)
	in, press := io.Pipe()
	seen := &screen{news: make(chan struct{}, 1)}
	done := make(chan error, 1)
	go func() {
		done <- show(ctx, in, seen)
		in.CloseWithError(io.ErrClosedPipe)
	}()
	defer func() {
		stop()
		in.Close()
		<-done // that it was stopped
	}()
	key := func(text, echo string) error {
		seen.clear()
		if _, err := io.WriteString(press, text); err != nil {
			return fmt.Errorf("typing %q: %w", text, err)
		}
		return seen.await(ctx, echo)
	}
	// What is typed is echoed by the machine's kernel: no program adds its own time.
	if err := key("stty -icanon; printf re''ady; exec cat >/dev/null\r", "ready"); err != nil {
		return nil, err
	}
	return times(b.size(500), func(i int) error {
		k := keys[i%len(keys) : i%len(keys)+1]
		return key(k, k)
	})
}

// screen is what was shown since it was cleared.
type screen struct {
	mu   sync.Mutex
	text []byte
	news chan struct{}
}

func (s *screen) Write(p []byte) (int, error) {
	s.mu.Lock()
	s.text = append(s.text, p...)
	s.mu.Unlock()
	select {
	case s.news <- struct{}{}:
	default:
	}
	return len(p), nil
}

func (s *screen) clear() {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.text = s.text[:0]
}

func (s *screen) await(ctx context.Context, text string) error {
	for {
		s.mu.Lock()
		found := bytes.Contains(s.text, []byte(text))
		s.mu.Unlock()
		if found {
			return nil
		}
		select {
		case <-s.news:
		case <-ctx.Done():
			return fmt.Errorf("waiting for %q to be shown: %w", text, context.Cause(ctx))
		}
	}
}
