package bench

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net/netip"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"time"

	"github.com/errand-dev/errand"
	"github.com/errand-dev/errand/egress"
	"github.com/errand-dev/errand/guest"
	"github.com/errand-dev/errand/image"
	"github.com/errand-dev/errand/machine"
)

// cleanLimit bounds the taking away of what a part has made.
const cleanLimit = 2 * time.Minute

// rig is what machines of one engine need for a measurement: a driver on a
// directory of its own, and the way out.
type rig struct {
	machine.Driver
	engine string
	dir    string
	gate   *egress.Gate

	mu   sync.Mutex
	open map[*spawned]bool
}

// each gives f a rig for every engine, and afterwards takes away all that f has
// left on it.
func (b *bench) each(ctx context.Context, part string, f func(*rig) error) error {
	for _, engine := range b.Engines {
		r, err := b.rig(filepath.Join(b.Dir, part+"-"+engine), engine)
		if err != nil {
			return err
		}
		if err := errors.Join(f(r), r.close(ctx)); err != nil {
			return fmt.Errorf("on %s: %w", engine, err)
		}
	}
	return nil
}

// rig opens a driver in dir, as a server keeps its own in a data directory.
func (b *bench) rig(dir, engine string) (*rig, error) {
	images, err := image.Open(image.Options{Dir: filepath.Join(dir, "images"), Log: b.Log})
	if err != nil {
		return nil, err
	}
	d, err := b.Driver(filepath.Join(dir, "machines"), engine, images)
	if err != nil {
		return nil, err
	}
	gate := egress.New(egress.Options{Log: b.Log, Dial: dialOrigin})
	return &rig{Driver: d, engine: engine, dir: dir, gate: gate, open: map[*spawned]bool{}}, nil
}

// close destroys all machines that are left, also when ctx has ended, and
// removes the directory.
func (r *rig) close(ctx context.Context) error {
	ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), cleanLimit)
	defer cancel()
	r.mu.Lock()
	open := r.open
	r.open = map[*spawned]bool{}
	r.mu.Unlock()
	for s := range open {
		s.detach()
	}
	held, err := r.List(ctx)
	errs := []error{err}
	for _, h := range held {
		m, err := r.Open(ctx, h)
		if err == nil {
			err = m.Destroy(ctx)
		}
		errs = append(errs, err)
	}
	if c, ok := r.Driver.(io.Closer); ok {
		errs = append(errs, c.Close())
	}
	return errors.Join(append(errs, os.RemoveAll(r.dir))...)
}

// spawned is a machine with its network and a line to it.
type spawned struct {
	machine.Machine
	rig     *rig
	network *egress.Network
	line    *guest.Line
}

// spawn makes a machine as the server does and runs its first command: what a
// person waits for.
func (r *rig) spawn(ctx context.Context, id string, spec machine.Spec) (*spawned, error) {
	spec.Engine = r.engine
	m, err := r.Create(ctx, machine.ID(id), spec)
	if err != nil {
		return nil, err
	}
	s := &spawned{Machine: m, rig: r}
	r.mu.Lock()
	r.open[s] = true
	r.mu.Unlock()
	if err := s.attach(ctx); err != nil {
		return nil, err
	}
	return s, s.run(ctx, "first", "true")
}

func (s *spawned) attach(ctx context.Context) error {
	if n, ok := s.Machine.(machine.Networked); ok {
		link, err := n.Link(ctx)
		if err != nil {
			return err
		}
		if s.network, err = s.rig.gate.Attach(ctx, link, egress.Policy{Private: []netip.Prefix{originRange}}, func(errand.Connection) {}); err != nil {
			return errors.Join(err, link.File.Close())
		}
	}
	var err error
	s.line, err = guest.Open(ctx, s.Dial, guest.Options{Gone: func(err error) bool { return errors.Is(err, machine.ErrStopped) }})
	return err
}

// detach lets go of the machine's line and network.
func (s *spawned) detach() {
	if s.line != nil {
		s.line.Close()
	}
	if s.network != nil {
		s.network.Close()
	}
	s.rig.mu.Lock()
	delete(s.rig.open, s)
	s.rig.mu.Unlock()
}

// end takes the machine away.
func (s *spawned) end(ctx context.Context) error {
	s.detach()
	return s.Destroy(ctx)
}

// run runs a command that must succeed.
func (s *spawned) run(ctx context.Context, id string, args ...string) error {
	_, err := s.output(ctx, id, args...)
	return err
}

// output is run that gives what the command printed.
func (s *spawned) output(ctx context.Context, id string, args ...string) (string, error) {
	var out strings.Builder
	exit, err := s.line.Run(ctx, guest.Command{ID: id, Args: args, Dir: "/"}, func(o guest.Output) { out.Write(o.Data) })
	if err == nil && exit.Code != 0 {
		err = fmt.Errorf("%s ended with %d: %s", args[0], exit.Code, out.String())
	}
	return out.String(), errors.Join(err, s.line.Forget(ctx, id))
}
