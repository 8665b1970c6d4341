package setup

import (
	"context"
	"fmt"
	"slices"
	"strings"
	"time"

	"github.com/errand-dev/errand"
	"github.com/errand-dev/errand/environment/file"
	"github.com/errand-dev/errand/guest"
)

// settle is how long a proof waits for ports where the draft names none but has
// terminals.
const settle = 5 * time.Second

// showPorts looks which ports are listened on, now that start and terminals are
// up. Those that the draft names are waited for; that one of them stays silent
// is told and is no failure, since its program may be one that people start.
// Those that it does not name are proposed.
func (s *Setups) showPorts(ctx context.Context, setup *errand.Setup, e *file.Environment) (*errand.Error, error) {
	if e.Start == "" && len(e.Terminals) == 0 && len(e.Ports) == 0 {
		return nil, nil
	}
	began := time.Now()
	step := errand.ProofStep{Phase: errand.PhasePorts}
	var ports []errand.ProofPort
	err := s.phase(ctx, setup.ID, errand.PhasePorts, func() (string, error) {
		open, err := s.awaitPorts(ctx, *setup, e)
		ports = compare(e.Ports, open)
		step.Note = portsNote(ports)
		return step.Note, err
	})
	if err != nil {
		return nil, err
	}
	step.DurationMs = time.Since(began).Milliseconds()
	setup.Proof.Ports = ports
	for _, notice := range s.portNotices(*setup) {
		if _, err := s.Journal.Append(ctx, setup.ID, "", errand.Fact{Kind: errand.EventNotice, Data: notice}); err != nil {
			return nil, err
		}
	}
	return s.noted(ctx, setup, step)
}

// awaitPorts gives the ports that are listened on as soon as those that the draft
// names are among them, or at the limit.
func (s *Setups) awaitPorts(ctx context.Context, setup errand.Setup, e *file.Environment) ([]guest.Listener, error) {
	most := s.PortLimit
	if len(e.Ports) == 0 {
		most = min(most, settle)
	}
	limit := time.NewTimer(most)
	defer limit.Stop()
	for wait := 50 * time.Millisecond; ; wait = min(wait*3/2, time.Second) {
		open, err := s.Runner.Listeners(ctx, setup.Caller, setup.Proof.Agent)
		if err != nil {
			return nil, fmt.Errorf("looking for ports: %w", err)
		}
		silent := slices.ContainsFunc(compare(e.Ports, open), func(p errand.ProofPort) bool { return p.Address == "" })
		if !silent && (len(open) > 0 || len(e.Terminals) == 0) {
			return open, nil
		}
		select {
		case <-ctx.Done():
			return nil, ctx.Err()
		case <-limit.C:
			return open, nil
		case <-time.After(wait): // a kernel tells of no listeners
		}
	}
}

// maxFound bounds the ports that are proposed: what comes out of a machine is
// not to be trusted with the length of a row.
const maxFound = 20

// compare gives the ports that a draft names, each with where it is listened on,
// and then those that it does not name.
func compare(named []file.Port, open []guest.Listener) []errand.ProofPort {
	var all []errand.ProofPort
	for _, p := range named {
		port := errand.ProofPort{Port: p.Port, Name: p.Name, Named: true}
		if at := slices.IndexFunc(open, func(l guest.Listener) bool { return l.Port == p.Port }); at >= 0 {
			port.Address = open[at].Address.String()
		}
		all = append(all, port)
	}
	for _, l := range open {
		if len(all) >= len(named)+maxFound {
			break
		}
		if !slices.ContainsFunc(named, func(p file.Port) bool { return p.Port == l.Port }) {
			all = append(all, errand.ProofPort{Port: l.Port, Address: l.Address.String()})
		}
	}
	return all
}

// portsNote says in a line what was seen of ports.
func portsNote(ports []errand.ProofPort) string {
	var listens, silent, found []string
	for _, p := range ports {
		n := fmt.Sprint(p.Port)
		switch {
		case !p.Named:
			found = append(found, n)
		case p.Address == "":
			silent = append(silent, n)
		default:
			listens = append(listens, n)
		}
	}
	var parts []string
	for _, part := range []struct {
		ports []string
		says  string
	}{{silent, "nothing on %s"}, {listens, "open: %s"}, {found, "open and not named: %s"}} {
		if len(part.ports) > 0 {
			parts = append(parts, fmt.Sprintf(part.says, strings.Join(part.ports, ", ")))
		}
	}
	if len(parts) == 0 {
		return "nothing listens"
	}
	return strings.Join(parts, "; ")
}

// portNotices tells people what to do about ports that are not as the draft says.
func (s *Setups) portNotices(setup errand.Setup) []errand.Notice {
	var all []errand.Notice
	for _, p := range setup.Proof.Ports {
		n := errand.Notice{Level: "warning", Text: fmt.Sprintf("The draft names port %d, but nothing listened on it within %s of start and terminals. Correct it, unless its program is one that you start when you need it.", p.Port, s.PortLimit)}
		if !p.Named {
			n = errand.Notice{Level: "info", Text: fmt.Sprintf("Something listens on port %d (%s) once start and terminals are up, and the draft does not name it. To add it: errand setup edit %.12s --ports", p.Port, p.Address, setup.ID)}
		} else if p.Address != "" {
			continue
		}
		all = append(all, n)
	}
	return all
}

// addFound puts the ports that the latest proof found into the draft. What the
// proof showed holds for the draft with them: it saw them open, and a port
// decides nothing of a machine.
func addFound(setup *errand.Setup) error {
	found := setup.Proof.Found()
	if len(found) == 0 {
		return errand.Errorf(errand.Conflict, "no_ports_found", "The latest proof of setup %s found no port that the draft does not name.", setup.ID)
	}
	holds := proved(*setup)
	draft, err := file.AddPorts(pathOf(*setup), setup.Draft, found...)
	if err != nil {
		return err
	}
	setup.Draft = draft
	p := *setup.Proof
	p.Ports = slices.Clone(p.Ports)
	for i := range p.Ports {
		p.Ports[i].Named = true
	}
	if holds {
		p.Draft = draft
	}
	setup.Proof = &p
	return nil
}
