package build

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"strings"

	"github.com/errand-dev/errand"
	"github.com/errand-dev/errand/egress"
	"github.com/errand-dev/errand/environment/file"
	"github.com/errand-dev/errand/git"
	"github.com/errand-dev/errand/guest"
	"github.com/errand-dev/errand/machine"
)

// OpenLine opens the line to a machine that runs and offers git in it: broker
// serves each connection. The caller closes the line.
func OpenLine(ctx context.Context, m machine.Machine, broker func(net.Conn), log *slog.Logger) (*guest.Line, error) {
	line, err := guest.Open(ctx, m.Dial, guest.Options{
		Log:      log,
		Services: map[string]func(net.Conn){"git": broker},
		Gone:     func(err error) bool { return errors.Is(err, machine.ErrStopped) || errors.Is(err, machine.ErrNotFound) },
	})
	if err != nil {
		return nil, fmt.Errorf("opening the line to machine %s: %w", m.Handle().ID, err)
	}
	if err := line.Listen(ctx, "git", git.BrokerAddress); err != nil {
		line.Close()
		return nil, fmt.Errorf("offering git in machine %s: %w", m.Handle().ID, err)
	}
	return line, nil
}

// Narrow applies what an environment file says about the way out. The file
// comes with the repository, which an agent may change: it can make a list
// where the server is open, and never adds to a list of the server.
func Narrow(p egress.Policy, e file.Environment) egress.Policy {
	listed := len(e.EgressAllowlist) > 0 && e.EgressMode == "" ||
		e.EgressMode == file.EgressNetworkSettingsOnly || e.EgressMode == file.EgressDefaultWithSettings
	if p.Mode != egress.Listed && listed {
		p.Mode, p.Allow = egress.Listed, e.EgressAllowlist
	}
	return p
}

// MachineID is the machine's in which a build is made. It follows from the
// build, so that making it again finds it.
func MachineID(id errand.BuildID) machine.ID { return machine.ID("b-" + digits(id)) }

// ownDisk names the disk of one build only: of one that failed, or that was to
// be made anew.
func ownDisk(id errand.BuildID) machine.SnapshotKey { return machine.SnapshotKey("b-" + digits(id)) }

// digits are those of a build's UUID.
func digits(id errand.BuildID) string {
	return strings.ReplaceAll(string(id[len("bld-20060102-"):]), "-", "")
}

// place is what this process holds of a build's machine.
type place struct {
	builds *Builds
	id     errand.BuildID
	url    string // of the repository; "" for none
	policy egress.Policy

	machine machine.Machine // the one opened last, nil before
	line    *guest.Line
	network egress.Joined
}

// open connects this process with a machine that runs: network first, so that
// nothing inside waits for it, then the line.
func (p *place) open(ctx context.Context, m machine.Machine) (*guest.Line, error) {
	p.close()
	b := p.builds
	network, err := b.Gate.Join(ctx, m, p.policy, p.connections(ctx))
	if err != nil {
		return nil, err
	}
	broker := func(c net.Conn) { c.Close() }
	if p.url != "" {
		h, err := b.Mirrors.Broker(git.Grant{URL: p.url}, nil)
		if err != nil {
			network.Close()
			return nil, fmt.Errorf("opening the git broker: %w", err)
		}
		broker = func(c net.Conn) { git.ServeConn(h, c) }
	}
	line, err := OpenLine(ctx, m, broker, b.Log.With("build", p.id))
	if err != nil {
		network.Close()
		return nil, err
	}
	p.machine, p.line, p.network = m, line, network
	_, err = b.Journal.Append(ctx, p.id, "", machine.Told("found", m, line.Hello().Boot))
	return line, err
}

// connections gives what writes the machine's connections into the build's log.
func (p *place) connections(ctx context.Context) func([]errand.Connection) {
	ctx = context.WithoutCancel(ctx)
	return func(ended []errand.Connection) {
		if err := p.builds.Journal.AppendConnections(ctx, p.id, ended); err != nil {
			p.builds.Log.Error("cannot record connections", "build", p.id, "error", err)
		}
	}
}

// close drops line and network. The machine stays as it is.
func (p *place) close() {
	if p.line != nil {
		p.line.Close()
	}
	p.network.Close()
	p.line, p.network = nil, egress.Joined{}
}

// destroy removes the build's machine. One that is not there is no error.
func (b *Builds) destroy(ctx context.Context, id errand.BuildID) error {
	held, err := b.Driver.List(ctx)
	if err != nil {
		return fmt.Errorf("listing machines: %w", err)
	}
	for _, h := range held {
		if h.ID != MachineID(id) {
			continue
		}
		m, err := b.Driver.Open(ctx, h)
		if err == nil {
			err = m.Destroy(ctx)
		}
		if err != nil && !errors.Is(err, machine.ErrNotFound) {
			return fmt.Errorf("destroying machine %s: %w", h.ID, err)
		}
	}
	return nil
}
