//go:build linux

package oci

import (
	"bytes"
	"context"
	"encoding/json"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"syscall"
	"time"

	"github.com/errand-dev/errand/machine"
	"github.com/errand-dev/errand/machine/process"
)

// engine is an OCI runtime program.
type engine struct {
	name    string
	program string // absolute; "" is missing
	state   string // the program's own directory
}

func (e engine) advice() string {
	if e.name == Runc {
		return "Install runc 1.1 or later, or use the engine \"gvisor\"."
	}
	return "Run \"make build\", which builds runsc, or put runsc into PATH."
}

// flags are the program's global ones.
func (e engine) flags(log string, ownCgroup bool) []string {
	flags := []string{"--root", e.state, "--log", log, "--log-format", "json"}
	if e.name != GVisor {
		return flags
	}
	flags = append(flags,
		"--platform=systrap", // works everywhere, also without hardware virtualization
		"--network=sandbox",  // its own stack over the TAP in the machine's namespace
		"--overlay2=none",    // writes land in our upper directory, not in memory
		"--host-uds=create",  // the guest's socket is one that we can connect to
		"--host-settings=ignore",
	)
	if !ownCgroup {
		flags = append(flags, "--ignore-cgroups")
	}
	return flags
}

// launch is one start of a machine.
type launch struct {
	id                   machine.ID
	bundle, pidFile, log string
	cgroups              bool     // the program sets up the cgroups in the bundle
	lock                 *os.File // stays held until the program has ended
}

// startLimit bounds the start of a machine's first process by its engine.
const startLimit = 2 * time.Minute

// start runs the machine's first process and returns when it was begun. It is
// in a session of its own and lives on when we end. A start that was begun is
// not broken off when ctx ends: a program that is killed half-way leaves
// processes and sockets that nothing knows of.
func (e engine) start(ctx context.Context, l launch) error {
	if ctx.Err() != nil {
		return ctx.Err()
	}
	asked := ctx
	ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), startLimit)
	defer cancel()
	args := append(e.flags(l.log, l.cgroups), "run", "--detach", "--bundle", l.bundle, "--pid-file", l.pidFile, nameOf(l.id))
	cmd := exec.CommandContext(ctx, e.program, args...)
	cmd.Dir = l.bundle
	cmd.Env = runtimeEnv()
	cmd.ExtraFiles = []*os.File{l.lock}
	cmd.SysProcAttr = &syscall.SysProcAttr{Setsid: true}
	// No pipes: the machine's first process inherits these, and outlives us.
	if err := cmd.Run(); err != nil {
		return fmt.Errorf("starting with %s: %w%s", e.name, err, loggedErrors(l.log))
	}
	return asked.Err()
}

// nameOf is the machine's name with the engines. runsc takes the beginning of a
// name for the name, even where it is one itself: the dot, which no id has, lets
// none be the beginning of another.
func nameOf(id machine.ID) string { return string(id) + "." }

// knows says whether the program has a state of id.
func (e engine) knows(id machine.ID) bool {
	for _, pattern := range []string{nameOf(id), nameOf(id) + "_sandbox:*"} { // runc's, runsc's
		if found, err := filepath.Glob(filepath.Join(e.state, pattern)); err == nil && len(found) > 0 {
			return true
		}
	}
	return false
}

// gofer gives the process that opens files for a machine of gVisor; nil where
// there is none.
func (e engine) gofer(id machine.ID) (*process.Process, error) {
	if e.name != GVisor {
		return nil, nil
	}
	name := nameOf(id)
	data, err := os.ReadFile(filepath.Join(e.state, name+"_sandbox:"+name+".state"))
	if err != nil {
		return nil, err
	}
	var state struct{ GoferPID int }
	if err := json.Unmarshal(data, &state); err != nil {
		return nil, fmt.Errorf("reading the state of %s: %w", e.name, err)
	}
	if state.GoferPID == 0 {
		return nil, nil
	}
	p, err := process.Find(state.GoferPID)
	return &p, err
}

// remove ends what runs under id and forgets it. That there is nothing is no
// error, also when somebody else was faster. The lock may be nil.
func (e engine) remove(ctx context.Context, id machine.ID, log string, cgroups bool, lock *os.File) error {
	if !e.knows(id) {
		return nil
	}
	if e.program == "" {
		return fmt.Errorf("a machine of the engine %s cannot be removed: it is not installed. %s", e.name, e.advice())
	}
	cmd := exec.CommandContext(ctx, e.program, append(e.flags(log, cgroups), "delete", "--force", nameOf(id))...)
	cmd.Env = runtimeEnv()
	if lock != nil {
		cmd.ExtraFiles = []*os.File{lock}
	}
	out, err := cmd.CombinedOutput()
	if err != nil && e.knows(id) && !bytes.Contains(out, []byte("does not exist")) {
		return fmt.Errorf("removing from %s: %w: %s", e.name, err, bytes.TrimSpace(out))
	}
	return nil
}

// runtimeEnv is all that an engine's program learns of our environment: what
// it inherits, a machine might.
func runtimeEnv() []string {
	return []string{"PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"}
}

// loggedErrors gives the last errors of a program's JSON log, in brackets.
func loggedErrors(log string) string {
	data, err := os.ReadFile(log)
	if err != nil {
		return ""
	}
	var said []string
	for line := range bytes.Lines(data) {
		var entry struct{ Level, Msg string }
		if json.Unmarshal(line, &entry) == nil && (entry.Level == "error" || entry.Level == "fatal") {
			said = append(said, entry.Msg)
		}
	}
	if len(said) == 0 {
		return ""
	}
	return " (" + strings.Join(said[max(0, len(said)-3):], "; ") + ")"
}
