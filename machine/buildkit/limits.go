//go:build linux

package buildkit

import (
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"os"
	"path"
	"path/filepath"
	"strings"

	"github.com/errand-dev/errand"
	"github.com/errand-dev/errand/machine"
	"github.com/errand-dev/errand/machine/cgroup"
	"github.com/errand-dev/errand/machine/volume"
)

// The groups of a builder: the daemon's own, and that of all commands together,
// so that it is a command that ends when commands take too much.
const (
	daemonGroup  = "daemon"
	commandGroup = "steps"
)

// daemonLimits are the daemon's own: what it takes is not the Dockerfile's to
// decide.
var daemonLimits = errand.Limits{Memory: 2 << 30, PIDs: 4096}

// sentryThreads is what gVisor's own kernels take of the limit of processes:
// under it every process of a command is one of the host.
const sentryThreads = 256

// group names the builder's control group, or one in it.
func (b *Builder) group(sub string) cgroup.Group {
	sum := sha256.Sum256([]byte(b.opts.Dir))
	return b.cgroups.Group(path.Join("build-"+hex.EncodeToString(sum[:4]), sub))
}

// makeGroups makes the groups that a daemon and its commands start in.
func (b *Builder) makeGroups() error {
	return errors.Join(b.group(daemonGroup).Make(), b.group(commandGroup).Make(), b.group(daemonGroup).Limit(daemonLimits))
}

// bound sets the limits of the next build.
func (b *Builder) bound(l errand.Limits) error {
	commands := errand.Limits{Memory: l.Memory, PIDs: l.PIDs}
	if b.opts.Engine == GVisor {
		commands.PIDs += sentryThreads
	}
	return errors.Join(b.group("").Limit(errand.Limits{CPUs: l.CPUs}), b.group(commandGroup).Limit(commands))
}

// enter is what a shell does to be in a group.
func enter(g cgroup.Group) string {
	steps := []string{"true"}
	for _, dir := range g.Dirs() {
		steps = append(steps, "echo 0 >"+dir+"/cgroup.procs")
	}
	return strings.Join(steps, " && ")
}

// refusalsFile is where, in the daemon's root, the counters of a command's own
// group are noted when it has failed, a line each, after the name of their file.
const refusalsFile = "/run/refusals"

// note is a shell's function that notes the counters of a command's group, by
// the command's id.
func note(g cgroup.Group) string {
	var files []string
	for _, dir := range g.Dirs() {
		for _, file := range cgroup.CounterFiles {
			files = append(files, dir+"/buildkit/$1/"+file)
		}
	}
	return `note() {
	for counters in ` + strings.Join(files, " ") + `; do
		[ ! -f "$counters" ] || sed "s|^|${counters##*/} |" "$counters"
	done >>` + refusalsFile + `
}
`
}

// refusals counts what was refused to all commands so far.
func (b *Builder) refusals() cgroup.Refusals {
	r := b.group(commandGroup).Refusals()
	text, err := os.ReadFile(filepath.Join(b.daemon.root(), refusalsFile))
	if err != nil {
		return r // no command has failed
	}
	for line := range strings.Lines(string(text)) {
		file, counter, _ := strings.Cut(line, " ")
		r.Count(file, counter)
	}
	return r
}

// limitError tells of a limit that a failed build ran into; nil is none.
func (o *build) limitError(err error, line int, output string) *errand.Error {
	l := o.Limits.Or(o.builder.opts.Limits)
	refused := o.builder.refusals().Since(o.before)
	const raise = "Have it take less, or raise the limit: %s of `errand run`, or of `errand serve` for all.%s"
	switch {
	case refused.Killed > 0:
		return errand.Errorf(errand.Invalid, "build_memory", "%s: it ran out of memory: the commands of a build have %d MB together. "+raise,
			o.file.At(line), l.Memory>>20, "--memory", o.quote(line))
	case refused.Forks > 0:
		return errand.Errorf(errand.Invalid, "build_processes", "%s: it ran out of processes: the commands of a build have %d together, threads included. "+raise,
			o.file.At(line), l.PIDs, "--pids", o.quote(line))
	case strings.Contains(strings.ToLower(output+err.Error()), "no space left on device"):
		return errand.Errorf(errand.Invalid, "build_disk", "%s: it ran out of disk: a build may write %d MB. Have it write less, or raise the limit with --disk of `errand serve`.%s",
			o.file.At(line), o.builder.opts.Limits.Disk>>20, o.quote(line))
	}
	return nil
}

// inspectLimits says which limits of commands hold.
func (b *Builder) inspectLimits() machine.Finding {
	l := b.opts.Limits
	missing := b.cgroups.Held.Unenforced()
	if err := volume.Ready(); err != nil {
		missing = append(missing, fmt.Sprintf("The limit of disk is not enforced: %v.", err))
	}
	f := machine.Finding{Name: "dockerfile limits", OK: len(missing) == 0}
	f.Detail = fmt.Sprintf("the commands of a build have %g processors, %d MB of memory, %d processes and %d MB of disk together", l.CPUs, l.Memory>>20, l.PIDs, l.Disk>>20)
	if !f.OK {
		f.Detail += ". " + strings.Join(missing, " ")
	}
	return f
}
