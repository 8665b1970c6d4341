package runner

import (
	"bytes"
	"context"
	"errors"
	"io"
	"net"
	"net/netip"
	"slices"
	"strconv"
	"strings"
	"sync"
	"time"

	"github.com/google/uuid"

	"github.com/errand-dev/errand"
	"github.com/errand-dev/errand/environment/file"
	"github.com/errand-dev/errand/git"
	"github.com/errand-dev/errand/guest"
	"github.com/errand-dev/errand/presence"
	"github.com/errand-dev/errand/secret"
	"github.com/errand-dev/errand/terminal"
)

// ExecRequest is a command that a person runs in an agent's machine.
type ExecRequest struct {
	// ID joins the command of that name if it runs or has not been read to its
	// end; "" is a new one. Letters, digits, dots and dashes.
	ID    string
	Args  []string
	Dir   string // "" is the repository's root
	User  string // "" is the environment's
	Env   []string
	TTY   *guest.Size // non-nil: with a pty
	Stdin io.Reader   // nil: none; read until its end or the command's
	Limit time.Duration
	// Resize gives new sizes of the pty; may be nil.
	Resize <-chan guest.Size
	// Signal gives signals for the command and what it runs in its process group,
	// "TERM" and the like; may be nil. One that there is not is left out.
	Signal <-chan string
	// As says what Args are.
	As ExecAs
	// Whole passes on all that is printed as it is: programs at both ends speak a
	// protocol. The command waits for whoever does not read. Else what people must
	// not see is looked for in it, and of more than can be kept the middle is lost.
	Whole bool
}

// ExecAs says what the arguments of an ExecRequest are.
type ExecAs int

const (
	ExecProgram ExecAs = iota // a program with its arguments
	ExecShell                 // one text for the user's own shell; none is that shell
	ExecFiles                 // nothing: the command serves files by SFTP
	ExecOwn                   // those of the guest's own program
)

// argv gives the command for a user, and the one that it is started as: the
// user's shell is found in the machine.
func (req ExecRequest) argv(line *guest.Line) (argv []string, user string) {
	switch self := line.Hello().Program; req.As {
	case ExecShell:
		return append([]string{self, "exec", "-user", req.User, "-dir", req.Dir, "--"}, req.Args...), ""
	case ExecFiles:
		return []string{self, "sftp", "-dir", req.Dir}, req.User
	case ExecOwn:
		return append([]string{self}, req.Args...), req.User
	}
	return req.Args, req.User
}

// said is the command as people read it.
func (req ExecRequest) said() string {
	switch text := strings.Join(req.Args, " "); {
	case req.As == ExecFiles:
		return "(files by SFTP)"
	case text == "":
		return "(a shell)"
	default:
		return text
	}
}

// Exec runs a command in the agent's machine, waking it if it sleeps, and hands
// its output, without secrets, to out until it ends. When ctx ends first, the
// command is killed.
func (r *Runner) Exec(ctx context.Context, caller errand.Caller, id errand.AgentID, req ExecRequest, out func(guest.Output)) (guest.Exit, error) {
	p, err := r.visit(ctx, id)
	if err != nil {
		return guest.Exit{}, err
	}
	defer p.release()
	s := p.now()
	if s.line == nil {
		return guest.Exit{}, guest.ErrRebooted
	}
	if req.Dir == "" {
		req.Dir = root
	}
	if req.User == "" {
		req.User = s.environment.User
	}
	if !req.Whole {
		shown := r.show(out, req.TTY != nil)
		defer shown.flush()
		out = shown.take
	}
	env := append([]string(nil), s.env...)
	if req.TTY != nil {
		env = append(guest.ShellEnv(""), env...) // it may be a shell
	}
	r.noteCommand(ctx, caller, id, req.said())
	v := r.Rooms.Enter(id, presence.Person{Caller: caller, Doing: presence.Command})
	defer v.Leave()
	if req.Stdin != nil && req.TTY != nil {
		req.Stdin = keys{req.Stdin, v}
	}
	argv, user := req.argv(s.line)
	return terminal.Run(ctx, s.line, guest.Command{
		ID: "person." + orDefault(req.ID, uuid.NewString()), Args: argv, Dir: req.Dir, User: user,
		Env: append(env, req.Env...), TTY: req.TTY, Stdin: req.Stdin != nil, Limit: req.Limit,
		Hold: req.Whole,
	}, terminal.Streams{In: req.Stdin, Resize: req.Resize, Signal: req.Signal, Out: out})
}

// Visit gives the line to the agent's machine, waking it if it sleeps. It does not
// sleep again before leave is called.
func (r *Runner) Visit(ctx context.Context, _ errand.Caller, id errand.AgentID) (line *guest.Line, leave func(), err error) {
	p, err := r.visit(ctx, id)
	if err != nil {
		return nil, nil, err
	}
	if line = p.current(); line == nil {
		p.release()
		return nil, nil, guest.ErrRebooted
	}
	return line, sync.OnceFunc(p.release), nil
}

// Dial connects to an address in the agent's machine, "localhost:3000" or
// "unix:/path", waking it if it sleeps. It does not sleep again before the
// connection is closed.
func (r *Runner) Dial(ctx context.Context, _ errand.Caller, id errand.AgentID, address string) (net.Conn, error) {
	p, err := r.visit(ctx, id)
	if err != nil {
		return nil, err
	}
	line := p.current()
	if line == nil {
		p.release()
		return nil, guest.ErrRebooted
	}
	conn, err := line.DialPort(ctx, address)
	if err != nil {
		p.release()
		return nil, err
	}
	return &visiting{Conn: conn, done: sync.OnceFunc(p.release)}, nil
}

// Forward listens on a port of the agent's machine, waking it if it sleeps, and
// hands each connection to serve, on a goroutine of its own, until stop. Where
// something listens there already the error is a Conflict. The machine does not
// sleep meanwhile.
func (r *Runner) Forward(ctx context.Context, _ errand.Caller, id errand.AgentID, port int, serve func(net.Conn)) (stop func(), err error) {
	p, err := r.visit(ctx, id)
	if err != nil {
		return nil, err
	}
	line := p.current()
	if line == nil {
		p.release()
		return nil, guest.ErrRebooted
	}
	name, address := "person."+uuid.NewString(), net.JoinHostPort("127.0.0.1", strconv.Itoa(port))
	remove := line.AddService(name, serve)
	if err := line.Listen(ctx, name, address); err != nil {
		remove()
		p.release()
		return nil, errand.Errorf(errand.Conflict, "port_in_use", "The machine cannot listen on port %d: %w", port, err)
	}
	return func() {
		clean, cancel := context.WithTimeout(context.WithoutCancel(ctx), 5*time.Second)
		defer cancel()
		if err := line.Unlisten(clean, address); err != nil {
			r.Log.Debug("ending a forwarded port", "agent", id, "err", err) // the machine has ended, and the port with it
		}
		remove()
		p.release()
	}, nil
}

// visiting is a connection into a machine, which stays awake for it.
type visiting struct {
	net.Conn
	done func()
}

func (v *visiting) Close() error {
	defer v.done()
	return v.Conn.Close()
}

// CloseWrite ends what is sent, and leaves what is received.
func (v *visiting) CloseWrite() error {
	if half, ok := v.Conn.(interface{ CloseWrite() error }); ok {
		return half.CloseWrite()
	}
	return nil
}

// shown passes on what a machine prints for a person, without secrets: each of
// the two streams for itself.
type shown struct {
	out     func(guest.Output)
	streams [2]*secret.Stream // standard output and error
	next    int64             // the offset after the last piece taken
	told    int64             // and after the last that was passed on
}

// show gives a shown in front of out; screen: of a terminal.
func (r *Runner) show(out func(guest.Output), screen bool) *shown {
	s := &shown{out: out}
	for i := range s.streams {
		stream := r.Redactor.Stream
		if screen {
			stream = r.Redactor.Screen
		}
		s.streams[i] = stream(passing{s, i == 1})
	}
	return s
}

func (s *shown) take(o guest.Output) {
	if gap := o.Offset - s.next; gap > 0 {
		s.flush()
		s.told += gap
	}
	s.next = o.Offset + int64(len(o.Data))
	stream := s.streams[0]
	if o.Stderr {
		stream = s.streams[1]
	}
	_, _ = stream.Write(o.Data) // passing gives no error
}

// flush passes on what was held back.
func (s *shown) flush() {
	for _, stream := range s.streams {
		_ = stream.Flush() // likewise
	}
}

// passing is one stream's way to a shown's out.
type passing struct {
	*shown
	stderr bool
}

func (p passing) Write(b []byte) (int, error) {
	if len(b) > 0 {
		p.out(guest.Output{Stderr: p.stderr, Offset: p.told, Data: bytes.Clone(b)})
		p.told += int64(len(b))
	}
	return len(b), nil
}

// onLine asks a place's machine, and asks again where the line was replaced
// meanwhile, as it is when a run takes the machine up. Where there is none it
// gives none.
func onLine[T any](p *place, ask func(*guest.Line) ([]T, error)) ([]T, error) {
	for {
		line := p.current()
		if line == nil {
			return nil, nil
		}
		all, err := ask(line)
		if !errors.Is(err, guest.ErrClosed) || p.current() == line {
			return all, err
		}
	}
}

// Ports gives the ports that the environment of the agent's machine names. One
// that sleeps has none.
func (r *Runner) Ports(ctx context.Context, _ errand.Caller, id errand.AgentID) ([]file.Port, error) {
	if _, err := r.Store.Agent(ctx, id); err != nil {
		return nil, err
	}
	return r.placeOf(id).now().environment.Ports, nil
}

// Listeners gives the TCP ports that programs listen on in the agent's machine
// now, without our own. A machine that sleeps has none.
func (r *Runner) Listeners(ctx context.Context, _ errand.Caller, id errand.AgentID) ([]guest.Listener, error) {
	if _, err := r.Store.Agent(ctx, id); err != nil {
		return nil, err
	}
	all, err := onLine(r.placeOf(id), func(line *guest.Line) ([]guest.Listener, error) { return line.Listeners(ctx) })
	broker := netip.MustParseAddrPort(git.BrokerAddress)
	return slices.DeleteFunc(all, func(l guest.Listener) bool { return l.Port == int(broker.Port()) && l.Address == broker.Addr() }), err
}

// Owners gives the processes that hold some listeners of the agent's machine, by
// port, as far as they can be found out. What they call themselves has passed the
// redactor; while the agent's secrets cannot be opened nothing is told.
func (r *Runner) Owners(ctx context.Context, _ errand.Caller, id errand.AgentID, listeners []guest.Listener) (map[int]guest.Owner, error) {
	p := r.placeOf(id)
	line := p.current()
	if line == nil || !p.knowsSecrets() {
		return nil, nil
	}
	all, err := line.Owners(ctx, listeners)
	for port, o := range all {
		o.Command = r.Redactor.String(o.Command)
		all[port] = o
	}
	return all, err
}

// Awake says whether the agent's machine can be used without being woken.
func (r *Runner) Awake(id errand.AgentID) bool { return r.placeOf(id).now().isReady() }

// visit wakes the machine for a person, or makes that of an agent which has no
// runs. An agent whose first run has not made one yet has nothing to visit.
func (r *Runner) visit(ctx context.Context, id errand.AgentID) (*place, error) {
	agent, err := r.Store.Agent(ctx, id)
	if err != nil {
		return nil, err
	}
	if _, err := r.Store.Machine(ctx, id); err != nil && (agent.LatestRun != "" || errand.KindOf(err) != errand.NotFound) {
		return nil, err
	}
	p, err := r.wake(ctx, id, "")
	if err == nil || !died(err) {
		return p, err
	}
	r.lose(ctx, id, "", err)
	return r.wake(ctx, id, "")
}

// Diff is what an agent's branch adds to its base.
type Diff struct {
	Base  string         `json:"base"`
	Head  string         `json:"head"` // "" where it is not committed
	Files []git.FileStat `json:"files"`
	Patch []byte         `json:"-"`
	// Uncommitted says that the machine was asked, so that work which is not
	// committed is in it.
	Uncommitted bool `json:"uncommitted"`
}

// checkedOut gives an agent that has a repository to compare with.
func (r *Runner) checkedOut(ctx context.Context, id errand.AgentID) (errand.Agent, error) {
	agent, err := r.Store.Agent(ctx, id)
	if err == nil && agent.Base == "" {
		err = errand.Errorf(errand.NotFound, "no_diff", "Agent %s has no repository checked out yet, so there is nothing to compare.", id)
	}
	return agent, err
}

// Diff gives what the agent changed: from its machine while that runs, with
// what is not committed; otherwise what was pushed.
func (r *Runner) Diff(ctx context.Context, _ errand.Caller, id errand.AgentID) (Diff, error) {
	agent, err := r.checkedOut(ctx, id)
	if err != nil {
		return Diff{}, err
	}
	if p := r.placeOf(id); p.now().isReady() {
		d, err := r.liveDiff(ctx, p, agent)
		if err == nil || !died(err) {
			return d, err
		}
	}
	if agent.Pushed == "" {
		return Diff{Base: agent.Base, Head: agent.Base}, nil
	}
	patch, files, err := r.Mirrors.Diff(ctx, id, agent.Repositories[0].URL, agent.Base, agent.Pushed)
	return r.redactedDiff(Diff{Base: agent.Base, Head: agent.Pushed, Files: files, Patch: patch}), err
}

// redactedDiff gives a diff without the secrets that stand in it or in the names
// of its files.
func (r *Runner) redactedDiff(d Diff) Diff {
	for i, f := range d.Files {
		d.Files[i].Path, d.Files[i].OldPath = r.Redactor.String(f.Path), r.Redactor.String(f.OldPath)
	}
	d.Patch = []byte(r.Redactor.String(string(d.Patch)))
	return d
}

// diffBound is how much of a diff is taken out of a machine, in bytes.
const diffBound = 32 << 20

// liveDiff asks git in the machine, through an index of its own so that the
// agent's is not touched.
func (r *Runner) liveDiff(ctx context.Context, p *place, agent errand.Agent) (Diff, error) {
	// How long the stats are, the stats, the patch.
	const script = `set -e
index=$(mktemp) stats=$(mktemp)
trap 'rm -f "$index" "$stats"' EXIT
cp -p "$(git rev-parse --git-path index)" "$index"
export GIT_INDEX_FILE="$index"
git add -A >/dev/null 2>&1
changes() { git -c core.quotepath=false diff --cached --no-color --no-ext-diff --no-textconv -M "$@" --; }
changes --raw --numstat -z "$1" >"$stats"
wc -c <"$stats"
cat "$stats"
changes -p --full-index "$1"`
	out, err := r.printed(ctx, p, agent.ID, []string{"sh", "-c", script, "diff", agent.Base})
	if err != nil {
		return Diff{}, err
	}
	length, rest, _ := bytes.Cut(out, []byte("\n"))
	n, err := strconv.Atoi(string(bytes.TrimSpace(length)))
	if err != nil || n < 0 || n > len(rest) {
		return Diff{}, errand.Errorf(errand.Unavailable, "diff_failed", "git in the machine printed what is no diff. Look at the repository there: errand exec %s -- git status", agent.ID)
	}
	return r.redactedDiff(Diff{Base: agent.Base, Files: git.ParseStats(rest[:n]), Patch: rest[n:], Uncommitted: true}), nil
}

// printed gives the standard output of a command in the machine.
func (r *Runner) printed(ctx context.Context, p *place, agent errand.AgentID, args []string) ([]byte, error) {
	s := p.now()
	if s.line == nil {
		return nil, guest.ErrRebooted
	}
	op := "person." + uuid.NewString()
	var b, complaint []byte
	exit, err := s.line.RunBounded(ctx, guest.Command{ID: op, Args: args, Dir: root, User: s.environment.User, Limit: time.Minute, Keep: diffBound}, diffBound, func(o guest.Output) {
		if o.Stderr {
			complaint = append(complaint, o.Data...)
			return
		}
		b = append(b, o.Data...)
	})
	tooLarge := errors.Is(err, guest.ErrTooLarge)
	if err != nil && !tooLarge {
		return nil, err
	}
	if err := s.line.Forget(ctx, op); err != nil {
		return nil, err
	}
	if exit.Code != 0 {
		e := errand.Errorf(errand.Unavailable, "diff_failed", "git in the machine ended with exit code %d. Look at the repository there: errand exec %s -- git status", exit.Code, agent)
		e.Output = r.clipTail(string(complaint))
		return nil, e
	}
	if tooLarge || exit.Dropped > 0 {
		return nil, errand.Errorf(errand.TooLarge, "diff_too_large", "The diff has more than %d MiB. Fetch the branch and look at it with git.", diffBound>>20)
	}
	return b, nil
}
