package inside

import (
	"cmp"
	"fmt"
	"maps"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"syscall"
	"time"

	"github.com/creack/pty"
	"golang.org/x/sys/unix"

	"github.com/errand-dev/errand/guest/wire"
)

const (
	maxID        = 128   // bytes
	maxProcesses = 50000 // records that nobody has forgotten
	killAfter    = 5 * time.Second
)

// process is one command, from the first request that names it to Forget.
type process struct {
	command wire.Command
	born    time.Time
	out     *output
	in      *input // nil where stdin is empty
	tty     *os.File
	sources []*source

	ready  chan struct{} // closed when pid or fault is set
	pid    int
	fault  *wire.Fault
	exited chan struct{} // closed when exit is set
	exit   wire.Exit

	mu        sync.Mutex
	timedOut  bool
	limit     *time.Timer // the next step of Command.Limit
	gone      bool        // its process group is nobody's any more
	forgotten bool
}

// process finds the command of an id, or starts it. It returns when it is
// started, or is known not to be.
func (g *Guest) process(c wire.Command) (*process, error) {
	if err := checkID(c.ID); err != nil {
		return nil, err
	}
	g.mu.Lock()
	p := g.processes[c.ID]
	isNew := p == nil
	if isNew {
		if err := g.admitLocked(c); err != nil {
			g.mu.Unlock()
			return nil, err
		}
		p = &process{command: c, born: time.Now().UTC(), ready: make(chan struct{}), exited: make(chan struct{})}
		g.processes[c.ID] = p
	}
	g.mu.Unlock()
	if isNew {
		g.launch(p)
	}
	<-p.ready
	if p.fault != nil {
		return nil, p.fault
	}
	return p, nil
}

func checkID(id string) error {
	if id == "" || len(id) > maxID {
		return faultf(wire.CodeInvalid, "an id has 1 to %d bytes", maxID)
	}
	return nil
}

// admitLocked refuses what must not be started.
func (g *Guest) admitLocked(c wire.Command) error {
	switch {
	case len(c.Args) == 0 || c.Args[0] == "":
		return faultf(wire.CodeInvalid, "command %s has no program", c.ID)
	case g.used.has(c.ID):
		return faultf(wire.CodeForgotten, "command %s has run and was forgotten", c.ID)
	case g.ops.byID[c.ID] != nil:
		return faultf(wire.CodeInvalid, "%s is the id of a change to files", c.ID)
	case len(g.processes) >= maxProcesses:
		return faultf(wire.CodeTooLarge, "the guest keeps %d commands; forget some", maxProcesses)
	}
	return nil
}

// known finds the command of an id.
func (g *Guest) known(id string) (*process, error) {
	g.mu.Lock()
	p := g.processes[id]
	g.mu.Unlock()
	if p == nil {
		return nil, faultf(wire.CodeUnknown, "no command %q in this machine", id)
	}
	<-p.ready
	if p.fault != nil {
		return nil, p.fault
	}
	return p, nil
}

// launch starts a command and sets ready.
func (g *Guest) launch(p *process) {
	defer close(p.ready)
	ended, err := g.spawn(p)
	if err != nil {
		p.fault = faultf(wire.CodeNotStarted, "starting %s: %v", p.command.Args[0], err)
		close(p.exited)
		return
	}
	if p.command.Limit > 0 {
		p.mu.Lock()
		p.limit = time.AfterFunc(p.command.Limit, func() { g.expire(p, unix.SIGTERM) })
		p.mu.Unlock()
	}
	for _, s := range p.sources {
		go s.pump()
	}
	go g.await(p, ended)
}

// spawn opens the command's files and forks.
func (g *Guest) spawn(p *process) (<-chan ending, error) {
	c := &p.command
	user, err := lookup(c.User)
	if err != nil {
		return nil, err
	}
	env := environ(os.Environ(), user, c)
	dir := cmp.Or(c.Dir, "/")
	if stat, err := os.Stat(dir); err != nil || !stat.IsDir() {
		return nil, fmt.Errorf("directory %s does not exist in the machine", dir)
	}
	path, err := lookPath(c.Args[0], env)
	if err != nil {
		return nil, err
	}
	s := &stdio{}
	defer s.closeTheirs()
	if err := p.open(s, g); err != nil {
		s.closeOurs()
		p.out.drop()
		return nil, err
	}
	s.chown(int(user.uid))
	attr := &syscall.ProcAttr{Dir: dir, Env: env, Files: s.theirs[:], Sys: &syscall.SysProcAttr{
		Setsid:     true,
		Setctty:    c.TTY != nil,
		Credential: user.credential(),
	}}
	_, ended, err := g.reaper.start(path, c.Args, attr, func(pid int) { g.born(p, pid) })
	if err != nil {
		s.closeOurs()
		p.out.drop()
		return nil, err
	}
	return ended, nil
}

// born notes a command's process group. Where an earlier command had the same
// number, that one's group is empty: nobody may signal it any more.
func (g *Guest) born(p *process, pid int) {
	g.mu.Lock()
	defer g.mu.Unlock()
	if old := g.groups[pid]; old != nil {
		old.mu.Lock()
		old.gone = true
		old.mu.Unlock()
	}
	g.groups[pid] = p
	p.pid = pid
}

// lookPath finds a program as a shell would.
func lookPath(name string, env []string) (string, error) {
	if strings.Contains(name, "/") {
		return name, nil
	}
	var path string
	for _, kv := range env {
		if v, ok := strings.CutPrefix(kv, "PATH="); ok {
			path = v
		}
	}
	for _, dir := range filepath.SplitList(path) {
		file := filepath.Join(cmp.Or(dir, "."), name)
		if stat, err := os.Stat(file); err == nil && stat.Mode().IsRegular() && stat.Mode()&0o111 != 0 {
			return file, nil
		}
	}
	return "", fmt.Errorf("%s is not in the machine's PATH (%s)", name, path)
}

// stdio are the files of a command that is being started.
type stdio struct {
	theirs [3]uintptr // stdin, stdout, stderr of the child
	opened []int      // of these, what we close after the fork
	ours   []*os.File // the other ends
}

// open makes the command's stdin, stdout and stderr.
func (p *process) open(s *stdio, g *Guest) error {
	p.out = newOutput(g.budget, p.command.Keep, p.command.Hold)
	if p.command.TTY != nil {
		return p.openTTY(s)
	}
	s.theirs[0] = g.null.Fd()
	if p.command.Stdin {
		file, err := s.pipe(0)
		if err != nil {
			return err
		}
		p.in = newInput(file, false)
	}
	for fd := 1; fd <= 2; fd++ {
		file, err := s.pipe(fd)
		if err != nil {
			return err
		}
		src, err := newSource(file, fd == 2, false, p.out)
		if err != nil {
			return err
		}
		p.sources = append(p.sources, src)
	}
	return nil
}

func (p *process) openTTY(s *stdio) error {
	master, slave, err := pty.Open()
	if err != nil {
		return fmt.Errorf("opening a pty: %w", err)
	}
	defer slave.Close()
	s.ours = append(s.ours, master)
	if err := setSize(master, *p.command.TTY); err != nil {
		return err
	}
	fd, err := unix.FcntlInt(slave.Fd(), unix.F_DUPFD_CLOEXEC, 3)
	if err != nil {
		return err
	}
	s.opened = append(s.opened, fd)
	s.theirs = [3]uintptr{uintptr(fd), uintptr(fd), uintptr(fd)}
	src, err := newSource(master, false, true, p.out)
	if err != nil {
		return err
	}
	p.sources = []*source{src}
	p.tty = master
	p.in = newInput(master, true)
	return nil
}

func setSize(tty *os.File, size wire.Size) error {
	return pty.Setsize(tty, &pty.Winsize{Cols: size.Cols, Rows: size.Rows})
}

// pipe makes a pipe for the child's fd and gives our end of it, which does not
// block.
func (s *stdio) pipe(fd int) (*os.File, error) {
	var ends [2]int
	if err := unix.Pipe2(ends[:], unix.O_CLOEXEC); err != nil {
		return nil, fmt.Errorf("making a pipe: %w", err)
	}
	theirs, ours := ends[1], ends[0]
	if fd == 0 {
		theirs, ours = ends[0], ends[1]
	}
	unix.SetNonblock(ours, true)
	file := os.NewFile(uintptr(ours), "pipe")
	s.theirs[fd] = uintptr(theirs)
	s.opened = append(s.opened, theirs)
	s.ours = append(s.ours, file)
	return file, nil
}

// chown lets the command open its own /dev/stdout, which counts as opening the
// pipe anew.
func (s *stdio) chown(uid int) {
	for _, fd := range s.opened {
		unix.Fchown(fd, uid, -1)
	}
}

func (s *stdio) closeTheirs() {
	for _, fd := range s.opened {
		unix.Close(fd)
	}
}

func (s *stdio) closeOurs() {
	for _, f := range s.ours {
		f.Close()
	}
}

// await waits for the command's exit and makes it known, after the output that
// came before it.
func (g *Guest) await(p *process, ended <-chan ending) {
	end := <-ended
	for _, s := range p.sources {
		s.drain()
	}
	exit := wire.Exit{Started: p.born, Ended: time.Now().UTC(), End: p.out.seal()}
	switch {
	case end.lost:
		exit.Code, exit.Unknown = -1, true
	case end.status.Signaled():
		exit.Code = 128 + int(end.status.Signal())
		exit.Signal = strings.TrimPrefix(unix.SignalName(end.status.Signal()), "SIG")
	default:
		exit.Code = end.status.ExitStatus()
	}
	if p.in != nil {
		p.in.end()
	}
	p.mu.Lock()
	exit.TimedOut = p.timedOut
	if p.limit != nil && !p.timedOut {
		p.limit.Stop()
	}
	p.exit = exit
	close(p.exited)
	forgotten := p.forgotten
	p.mu.Unlock()
	if forgotten {
		g.ungroup(p)
	}
}

// expire ends a command that took too long: first by asking, then, with all
// that it left in its group, by force.
func (g *Guest) expire(p *process, sig syscall.Signal) {
	p.mu.Lock()
	defer p.mu.Unlock()
	if sig == unix.SIGTERM {
		if p.hasExited() {
			return
		}
		p.timedOut = true
		p.limit = time.AfterFunc(killAfter, func() { g.expire(p, unix.SIGKILL) })
	}
	p.killLocked(sig)
}

// signal sends a signal to a command's group.
func (p *process) signal(name string) error {
	sig := unix.SignalNum("SIG" + strings.TrimPrefix(name, "SIG"))
	if sig == 0 {
		return faultf(wire.CodeInvalid, "%q is not a signal", name)
	}
	p.mu.Lock()
	defer p.mu.Unlock()
	return p.killLocked(sig)
}

func (p *process) killLocked(sig syscall.Signal) error {
	err := unix.ESRCH
	if !p.gone {
		err, _ = unix.Kill(-p.pid, sig).(syscall.Errno)
	}
	switch err {
	case 0:
		return nil
	case unix.ESRCH:
		return faultf(wire.CodeEnded, "command %s has exited", p.command.ID)
	}
	return faultf(wire.CodePermission, "signalling %s: %v", p.command.ID, err)
}

// resize sets the size of a command's pty.
func (p *process) resize(size wire.Size) error {
	if p.tty == nil {
		return faultf(wire.CodeInvalid, "command %s has no pty", p.command.ID)
	}
	if err := setSize(p.tty, size); err != nil {
		return faultf(wire.CodeEnded, "setting the size of %s: %v", p.command.ID, err)
	}
	return nil
}

// forget drops what is kept under ids. A command that still runs goes on, its
// output read and thrown away.
func (g *Guest) forget(ids []string) {
	var dropped []*process
	g.mu.Lock()
	for _, id := range ids {
		if p := g.processes[id]; p != nil {
			delete(g.processes, id)
			dropped = append(dropped, p)
		}
		g.ops.forget(id)
		if len(id) <= maxID {
			g.used.add(id)
		}
	}
	g.mu.Unlock()
	for _, p := range dropped {
		<-p.ready
		if p.fault != nil {
			continue
		}
		p.out.drop()
		p.mu.Lock()
		p.forgotten = true
		running := !p.hasExited()
		p.mu.Unlock()
		if !running {
			g.ungroup(p)
		}
	}
}

// ungroup lets go of a forgotten command whose group nobody can name any more.
func (g *Guest) ungroup(p *process) {
	g.mu.Lock()
	defer g.mu.Unlock()
	if g.groups[p.pid] == p {
		delete(g.groups, p.pid)
	}
}

func (p *process) hasExited() bool {
	select {
	case <-p.exited:
		return true
	default:
		return false
	}
}

// list gives all commands, oldest first.
func (g *Guest) list() []wire.Process {
	g.mu.Lock()
	all := slices.Collect(maps.Values(g.processes))
	g.mu.Unlock()
	slices.SortFunc(all, func(a, b *process) int { return a.born.Compare(b.born) })
	list := make([]wire.Process, 0, len(all))
	for _, p := range all {
		<-p.ready
		if p.fault != nil {
			continue
		}
		w := wire.Process{ID: p.command.ID, PID: p.pid, Args: p.command.Args, Started: p.born}
		w.Kept, w.End = p.out.kept()
		if p.hasExited() {
			exit := p.exit
			w.Exit = &exit
		}
		list = append(list, w)
	}
	return list
}
