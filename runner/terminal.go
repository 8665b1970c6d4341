package runner

import (
	"context"
	"errors"
	"io/fs"
	"slices"
	"strings"

	"github.com/errand-dev/errand"
	"github.com/errand-dev/errand/guest"
	"github.com/errand-dev/errand/presence"
	"github.com/errand-dev/errand/terminal"
)

// Attach shows a terminal of the agent's machine, waking it if it sleeps, until
// ctx or the input ends. What it shows has passed the redactor. The terminal goes
// on without its viewers. Of v, Dir, User and Env are set here.
func (r *Runner) Attach(ctx context.Context, caller errand.Caller, id errand.AgentID, v terminal.View, streams terminal.Streams) error {
	p, err := r.visit(ctx, id)
	if err != nil {
		return err
	}
	defer p.release()
	s := p.now()
	if s.line == nil {
		return guest.ErrRebooted
	}
	look := r.Rooms.Enter(id, presence.Person{Caller: caller, Doing: presence.Terminal, Terminal: r.Redactor.String(v.Name)})
	defer r.showPeople(ctx, s.line, look)()
	if streams.In != nil && !v.ReadOnly {
		streams.In = keys{streams.In, look}
	}
	shown := r.show(streams.Out, true)
	defer shown.flush()
	streams.Out = shown.take
	v.Dir, v.User, v.Env = root, s.environment.User, s.env
	return terminal.Attach(ctx, s.line, v, streams)
}

// OpenTerminal has a command run in a terminal of the agent's machine, as the
// environment's user, waking it if it sleeps. It is started again when it crashes.
// One that runs is left as it is; one whose command has ended is opened anew.
func (r *Runner) OpenTerminal(ctx context.Context, _ errand.Caller, id errand.AgentID, name, command string) error {
	p, err := r.visit(ctx, id)
	if err != nil {
		return err
	}
	defer p.release()
	s := p.now()
	if s.line == nil {
		return guest.ErrRebooted
	}
	all, err := s.line.Terminals(ctx)
	if err != nil {
		return err
	}
	if slices.ContainsFunc(all, func(t guest.TerminalState) bool { return t.Name == name && !t.Running }) {
		if err := s.line.CloseTerminal(ctx, name); err != nil {
			return err
		}
	}
	return s.line.OpenTerminal(ctx, guest.Terminal{Name: name, Command: command, Dir: root, User: s.environment.User, Env: s.env, Tend: true})
}

// NewTerminal makes a terminal in the agent's machine, waking it if it sleeps: a
// shell of the environment's user. "" lets a name be chosen; one that is taken is
// a Conflict.
func (r *Runner) NewTerminal(ctx context.Context, _ errand.Caller, id errand.AgentID, name string) (guest.TerminalState, error) {
	p, err := r.visit(ctx, id)
	if err != nil {
		return guest.TerminalState{}, err
	}
	defer p.release()
	s := p.now()
	if s.line == nil {
		return guest.TerminalState{}, guest.ErrRebooted
	}
	name, err = terminal.Open(ctx, s.line, guest.Terminal{Name: name, Dir: root, User: s.environment.User, Env: s.env})
	return guest.TerminalState{Name: name, Running: err == nil}, err
}

// CloseTerminal ends a terminal of the agent's machine and what runs in it; again
// is no error. A machine that sleeps has none: that is NotFound.
func (r *Runner) CloseTerminal(ctx context.Context, _ errand.Caller, id errand.AgentID, name string) error {
	if _, err := r.Store.Agent(ctx, id); err != nil {
		return err
	}
	asked, err := onLine(r.placeOf(id), func(line *guest.Line) ([]bool, error) { return []bool{true}, line.CloseTerminal(ctx, name) })
	if err == nil && len(asked) == 0 {
		return terminal.Missing(name)
	}
	return err
}

// History gives what a terminal of the agent's machine has shown, at most so many
// lines before its screen, without secrets. A machine that sleeps has none.
func (r *Runner) History(ctx context.Context, _ errand.Caller, id errand.AgentID, name string, lines int) (guest.History, error) {
	if _, err := r.Store.Agent(ctx, id); err != nil {
		return guest.History{}, err
	}
	p := r.placeOf(id)
	all, err := onLine(p, func(line *guest.Line) ([]guest.History, error) {
		h, err := line.History(ctx, name, lines)
		return []guest.History{h}, err
	})
	switch {
	case errors.Is(err, fs.ErrNotExist), err == nil && len(all) == 0:
		return guest.History{}, terminal.Missing(name)
	case err != nil:
		return guest.History{}, err
	case !p.knowsSecrets():
		return guest.History{}, unopened(id)
	}
	var clean strings.Builder
	screen := r.Redactor.Screen(&clean)
	if _, err := screen.Write([]byte(all[0].Text)); err != nil {
		return guest.History{}, err
	}
	all[0].Text = ""
	if err := screen.Flush(); err != nil {
		return guest.History{}, err
	}
	return guest.History{Text: clean.String(), Alternate: all[0].Alternate}, nil
}

// Terminals lists the terminals of the agent's machine, without what the secrets
// are that they show; while these cannot be opened it is Unavailable. A machine
// that sleeps has none.
func (r *Runner) Terminals(ctx context.Context, _ errand.Caller, id errand.AgentID) ([]guest.TerminalState, error) {
	if _, err := r.Store.Agent(ctx, id); err != nil {
		return nil, err
	}
	p := r.placeOf(id)
	all, err := onLine(p, func(line *guest.Line) ([]guest.TerminalState, error) { return line.Terminals(ctx) })
	if len(all) > 0 && !p.knowsSecrets() {
		return nil, unopened(id)
	}
	for i, t := range all {
		all[i].Name, all[i].Command = r.Redactor.String(t.Name), r.Redactor.String(t.Command)
		if t.Tended != nil {
			t.Tended.Last = r.Redactor.String(t.Tended.Last)
		}
	}
	return all, err
}

// unopened says that the agent's secrets are not known.
func unopened(id errand.AgentID) error {
	return errand.Errorf(errand.Unavailable, "secrets_unavailable",
		"The secrets of agent %s cannot be opened now, and so not be taken out of what its terminals say. See why in the server's log; once the key is back, any follow-up opens them: errand send %s \"Go on\"", id, id)
}
