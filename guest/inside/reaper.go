package inside

import (
	"context"
	"os"
	"os/signal"
	"sync"
	"syscall"

	"golang.org/x/sys/unix"
)

// reaper starts children and waits for them, and for every orphan that the
// kernel gives us. Only one place may do so: two would take each other's
// children, so nothing in the guest uses os/exec or os.StartProcess.
type reaper struct {
	// forking is held for reading from before a fork until the child's pid is
	// in waiting, and for writing around wait4: a child that exits at once is
	// not taken for an orphan.
	forking sync.RWMutex

	mu      sync.Mutex
	waiting map[int]chan<- ending
}

// ending is how a child ended. Where lost is set nobody can know.
type ending struct {
	status syscall.WaitStatus
	lost   bool
}

func newReaper() *reaper { return &reaper{waiting: map[int]chan<- ending{}} }

// start starts a child. ended gets one value when it has exited. born, if not
// nil, is called before anybody can learn of that.
func (r *reaper) start(path string, argv []string, attr *syscall.ProcAttr, born func(pid int)) (pid int, ended <-chan ending, err error) {
	r.forking.RLock()
	defer r.forking.RUnlock()
	pid, err = syscall.ForkExec(path, argv, attr)
	if err != nil {
		return 0, nil, err
	}
	ch := make(chan ending, 1)
	r.mu.Lock()
	r.waiting[pid] = ch
	r.mu.Unlock()
	if born != nil {
		born(pid)
	}
	return pid, ch, nil
}

// run waits for children until ctx ends.
func (r *reaper) run(ctx context.Context) {
	exits := make(chan os.Signal, 1)
	signal.Notify(exits, unix.SIGCHLD)
	defer signal.Stop(exits)
	for {
		for r.reap() {
		}
		select {
		case <-exits:
		case <-ctx.Done():
			return
		}
	}
}

// reap waits for one child that has exited and says whether there was one.
func (r *reaper) reap() bool {
	r.forking.Lock()
	defer r.forking.Unlock()
	var status syscall.WaitStatus
	pid, err := syscall.Wait4(-1, &status, syscall.WNOHANG, nil)
	r.mu.Lock()
	defer r.mu.Unlock()
	switch {
	case err == syscall.EINTR:
		return true
	case err == syscall.ECHILD:
		// We have no children at all: who waits, waits for a ghost.
		for pid, ch := range r.waiting {
			delete(r.waiting, pid)
			ch <- ending{lost: true}
		}
		return false
	case err != nil || pid <= 0:
		return false
	}
	if ch := r.waiting[pid]; ch != nil {
		delete(r.waiting, pid)
		ch <- ending{status: status}
	}
	return true
}
