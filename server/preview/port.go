package preview

import (
	"context"
	"errors"
	"maps"
	"net/http"
	"slices"
	"strings"
	"time"

	"github.com/coder/websocket"

	"github.com/errand-dev/errand"
	"github.com/errand-dev/errand/api"
	"github.com/errand-dev/errand/api/tunnel"
	"github.com/errand-dev/errand/guest"
	"github.com/errand-dev/errand/presence"
)

// Bounds of what is told of a machine's ports.
const (
	maxPorts   = 200
	maxCommand = 200 // runes
)

// lookEvery is how often a machine's ports are looked at while somebody looks.
const lookEvery = 2 * time.Second

// Ports gives the ports of an agent's machine that something listens on, and those
// that its environment names, by number. It wakes nothing.
func (p *Previews) Ports(ctx context.Context, caller errand.Caller, id errand.AgentID) (api.Ports, error) {
	return p.look(ctx, caller, id, new(sight))
}

// sight is what was seen at the last look. Who holds a listener is looked for only
// when there are others: it costs more than the rest.
type sight struct {
	listeners []guest.Listener
	owners    map[int]guest.Owner
}

func (p *Previews) look(ctx context.Context, caller errand.Caller, id errand.AgentID, last *sight) (api.Ports, error) {
	out := api.Ports{Items: []api.OpenPort{}}
	listeners, err := p.runner.Listeners(ctx, caller, id)
	if err != nil {
		return out, err
	}
	out.Awake = p.runner.Awake(id)
	named, err := p.runner.Ports(ctx, caller, id)
	if err != nil {
		return out, err
	}
	listeners = listeners[:min(len(listeners), maxPorts)]
	if !slices.Equal(listeners, last.listeners) {
		owners, err := p.runner.Owners(ctx, caller, id, listeners)
		if err != nil {
			return out, err
		}
		*last = sight{listeners, owners}
	}
	all := map[int]api.OpenPort{}
	for _, l := range listeners {
		o := last.owners[l.Port]
		all[l.Port] = api.OpenPort{Port: l.Port, Listening: true, Loopback: l.Address.IsLoopback(), PID: o.PID, Command: clip(o.Command)}
	}
	for _, n := range named {
		one := all[n.Port]
		one.Port, one.Name = n.Port, n.Name
		all[n.Port] = one
	}
	for _, port := range slices.Sorted(maps.Keys(all)) {
		out.Items = append(out.Items, all[port])
	}
	return out, nil
}

// clip shortens a command line to what a list shows.
func clip(command string) string {
	if all := []rune(command); len(all) > maxCommand {
		return strings.TrimSpace(string(all[:maxCommand])) + "…"
	}
	return command
}

// Watch hands each new state of an agent's ports to told, beginning with the one
// that holds, and nil at each look that found nothing new, until ctx ends or told
// fails. Only while it runs is anything looked at.
func (p *Previews) Watch(ctx context.Context, caller errand.Caller, id errand.AgentID, told func(*api.Ports) error) error {
	tick := time.NewTicker(lookEvery)
	defer tick.Stop()
	var seen sight
	var last *api.Ports
	for {
		now, err := p.look(ctx, caller, id, &seen)
		if err != nil {
			return err
		}
		changed := &now
		if last != nil && now.Awake == last.Awake && slices.Equal(now.Items, last.Items) {
			changed = nil
		}
		last = &now
		if err := told(changed); err != nil {
			return err
		}
		select {
		case <-tick.C: // a kernel tells of no listeners
		case <-ctx.Done():
			return nil
		}
	}
}

// Tunnel answers a request with a WebSocket that carries one connection to a
// target, which wakes the machine. It gives an error before it has answered only.
// origin is a pattern of hosts whose pages may ask for one.
func (p *Previews) Tunnel(w http.ResponseWriter, r *http.Request, caller errand.Caller, t Target, origin string) error {
	if r.Header.Get("Upgrade") == "" {
		return errand.Errorf(errand.Invalid, "validation_error", "This is a WebSocket (%s). Connect with one, or use: errand port %s %d", tunnel.Protocol, t.Agent, t.Port)
	}
	conn, err := p.connect(r.Context(), caller, t)
	if errors.Is(err, guest.ErrRefused) {
		return errand.Errorf(errand.Unavailable, "nothing_listens", "Nothing listens on port %d of the machine. What does: errand ports %s", t.Port, t.Agent)
	}
	if err != nil {
		return err
	}
	ws, err := websocket.Accept(w, r, &websocket.AcceptOptions{Subprotocols: []string{tunnel.Protocol}, OriginPatterns: []string{origin}})
	if err != nil {
		conn.Close()
		return nil // Accept has answered
	}
	defer p.runner.Rooms.Use(t.Agent, presence.Person{Caller: caller, Doing: presence.Port, Port: t.Port})()
	if err := tunnel.Join(r.Context(), ws, conn); err != nil {
		p.log.Debug("a forwarded connection was cut", "agent", t.Agent, "port", t.Port, "err", err)
	}
	return nil
}
