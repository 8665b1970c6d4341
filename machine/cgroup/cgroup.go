//go:build linux

// Package cgroup bounds processors, memory and processes by the host's control
// groups.
//
// Two ideas carry it. What a host can hold is found out once, by making a group
// of our own, so that a limit that is not held is known beforehand and said. And
// version 1, version 2 and both at once look the same from outside: a group is a
// name below Parent, and who knows the name need not know the hierarchies.
//
// It puts no process into a machine's group; the engine's program does that.
package cgroup

import (
	"fmt"
	"io/fs"
	"os"
	"path"
	"path/filepath"
	"slices"
	"strconv"
	"strings"

	"golang.org/x/sys/unix"

	"github.com/errand-dev/errand"
)

// Parent is the group that all of ours stand in, below the root.
const Parent = "errand"

// Host is what the host's cgroups can hold. On a hybrid host, whose controllers
// are on version 1, that is version 1.
type Host struct {
	Version int    // 1, 2, or 0 for none that we can use
	Root    string // where the hierarchies are mounted
	Held    Held
}

// Held says which limits are enforced.
type Held struct{ CPU, Memory, PIDs bool }

// controllers are those that hold a limit of ours.
var controllers = []string{"cpu", "memory", "pids"}

// Find looks at the host, and makes Parent.
func Find() Host {
	h := Host{Root: "/sys/fs/cgroup"}
	var usable []string
	if _, err := os.Stat(filepath.Join(h.Root, "cgroup.controllers")); err == nil {
		usable = h.usable2()
		h.Version = 2
	} else if usable = h.usable1(); len(usable) > 0 {
		h.Version = 1
	}
	h.Held = Held{CPU: slices.Contains(usable, "cpu"), Memory: slices.Contains(usable, "memory"), PIDs: slices.Contains(usable, "pids")}
	return h
}

// usable1 lists the controllers of version 1 in which we can make groups.
func (h Host) usable1() []string {
	var usable []string
	for _, name := range controllers {
		dir := filepath.Join(h.Root, name)
		if _, err := os.Stat(filepath.Join(dir, "cgroup.procs")); err != nil {
			continue
		}
		if os.MkdirAll(filepath.Join(dir, Parent), 0o755) == nil {
			usable = append(usable, name)
		}
	}
	return usable
}

// usable2 lists the controllers of version 2 that reach our own group, and asks
// for those that do not yet.
func (h Host) usable2() []string {
	if os.MkdirAll(filepath.Join(h.Root, Parent), 0o755) != nil {
		return nil
	}
	for _, name := range controllers {
		// Refused where it is not ours to give; then the list below lacks it.
		os.WriteFile(filepath.Join(h.Root, "cgroup.subtree_control"), []byte("+"+name), 0)
	}
	data, err := os.ReadFile(filepath.Join(h.Root, Parent, "cgroup.controllers"))
	if err != nil {
		return nil
	}
	return strings.Fields(string(data))
}

// Tidy removes Parent, if it is empty.
func (h Host) Tidy() {
	for _, dir := range h.hierarchies() {
		os.Remove(filepath.Join(dir, Parent)) // fails while it is in use
	}
}

// hierarchies are the directories in which a group may stand, also where it
// holds no limit.
func (h Host) hierarchies() []string {
	if h.Version == 2 {
		return []string{h.Root}
	}
	entries, err := os.ReadDir(h.Root)
	if err != nil {
		return nil // there are none
	}
	var dirs []string
	for _, e := range entries {
		dirs = append(dirs, filepath.Join(h.Root, e.Name()))
	}
	return dirs
}

// Unenforced gives a sentence for each limit that is not held.
func (h Held) Unenforced() []string {
	var said []string
	for _, l := range []struct {
		held bool
		what string
		name string
	}{
		{h.CPU, "processors", "cpu"}, {h.Memory, "memory", "memory"}, {h.PIDs, "processes", "pids"},
	} {
		if !l.held {
			said = append(said, "The limit of "+l.what+" is not enforced: this host's cgroups give Errand no "+l.name+" controller.")
		}
	}
	return said
}

// Group is a control group. The zero Group is none.
type Group struct {
	host Host
	name string // below the root: "errand/build-1/steps"
}

// Group names a group below Parent, which may be several deep. It makes nothing.
func (h Host) Group(name string) Group { return Group{h, path.Join(Parent, name)} }

// Name is the group's path below the root of each hierarchy, as engines take it.
func (g Group) Name() string { return "/" + g.name }

// Dirs are the group's directories, one for each hierarchy that holds a limit:
// who writes to the file cgroup.procs in each of them is in the group.
func (g Group) Dirs() []string {
	switch g.host.Version {
	case 1:
		var dirs []string
		for _, name := range g.host.Held.controllers() {
			dirs = append(dirs, g.dir(name))
		}
		return dirs
	case 2:
		return []string{g.dir("")}
	}
	return nil
}

func (h Held) controllers() []string {
	var names []string
	for i, held := range []bool{h.CPU, h.Memory, h.PIDs} {
		if held {
			names = append(names, controllers[i])
		}
	}
	return names
}

func (g Group) dir(controller string) string {
	if g.host.Version == 2 {
		controller = ""
	}
	return filepath.Join(g.host.Root, controller, g.name)
}

// Make makes the group, and those above it, if they are not there. Under
// version 2 those above can hold no process then.
func (g Group) Make() error {
	for _, dir := range g.Dirs() {
		if err := os.MkdirAll(dir, 0o755); err != nil {
			return fmt.Errorf("making control group %s: %w", g.name, err)
		}
	}
	if g.host.Version != 2 {
		return nil
	}
	above := ""
	for part := range strings.SplitSeq(path.Dir(g.name), "/") {
		above = path.Join(above, part)
		for _, name := range g.host.Held.controllers() {
			file := filepath.Join(g.host.Root, above, "cgroup.subtree_control")
			if err := os.WriteFile(file, []byte("+"+name), 0); err != nil {
				return fmt.Errorf("making control group %s: %w", g.name, err)
			}
		}
	}
	return nil
}

// Limit bounds what all processes in the group take together, as far as the host
// can. What is zero in l is not bounded; disks are none of a group's. The group
// is there.
func (g Group) Limit(l errand.Limits) error {
	const period = 100_000 // microseconds
	const unbounded = "max"
	var files [][3]string // controller, file, value
	cpu, memory, pids := unbounded, unbounded, unbounded
	if l.CPUs > 0 {
		cpu = strconv.FormatInt(max(1000, int64(l.CPUs*period)), 10) // the kernel takes no less
	}
	if l.Memory > 0 {
		memory = strconv.FormatInt(l.Memory, 10)
	}
	if l.PIDs > 0 {
		pids = strconv.FormatInt(l.PIDs, 10)
	}
	if g.host.Version == 2 {
		files = [][3]string{{"cpu", "cpu.max", fmt.Sprintf("%s %d", cpu, period)}, {"memory", "memory.max", memory}, {"pids", "pids.max", pids}}
	} else {
		none := strings.NewReplacer(unbounded, "-1") // what version 1 says
		files = [][3]string{{"cpu", "cpu.cfs_period_us", strconv.Itoa(period)}, {"cpu", "cpu.cfs_quota_us", none.Replace(cpu)},
			{"memory", "memory.limit_in_bytes", none.Replace(memory)}, {"pids", "pids.max", pids}}
	}
	held := g.host.Held.controllers()
	for _, f := range files {
		if !slices.Contains(held, f[0]) {
			continue
		}
		if err := os.WriteFile(filepath.Join(g.dir(f[0]), f[1]), []byte(f[2]), 0); err != nil {
			return fmt.Errorf("setting the limits of control group %s: %w", g.name, err)
		}
	}
	return nil
}

// Remove removes the group and those below it that hold no process. Those that
// hold one stay, without an error.
func (g Group) Remove() {
	if g.name == "" {
		return
	}
	for _, hierarchy := range g.host.hierarchies() {
		var groups []string
		// What cannot be read is not there.
		_ = filepath.WalkDir(filepath.Join(hierarchy, g.name), func(at string, e fs.DirEntry, err error) error {
			if err == nil && e.IsDir() {
				groups = append(groups, at)
			}
			return nil
		})
		for _, group := range slices.Backward(groups) {
			_ = unix.Rmdir(group) // its files are none of ours to remove
		}
	}
}

// Left says where the group is still there: in use, or not removed.
func (g Group) Left() []string {
	var left []string
	for _, hierarchy := range g.host.hierarchies() {
		if at := filepath.Join(hierarchy, g.name); exists(at) {
			left = append(left, at)
		}
	}
	return left
}

func exists(path string) bool {
	_, err := os.Lstat(path)
	return err == nil
}

// Refusals counts what a limit has ended or refused.
type Refusals struct {
	Killed int64 // processes that were killed for want of memory
	Forks  int64 // processes and threads that were not begun
}

// Since is what came to r after earlier.
func (r Refusals) Since(earlier Refusals) Refusals {
	return Refusals{Killed: r.Killed - earlier.Killed, Forks: r.Forks - earlier.Forks}
}

// CounterFiles are the files of a group that Refusals are read from, under
// either version.
var CounterFiles = []string{"memory.oom_control", "memory.events", "pids.events"}

// Count adds a line of a counter file to r.
func (r *Refusals) Count(file, line string) {
	key, value, _ := strings.Cut(strings.TrimSpace(line), " ")
	n, err := strconv.ParseInt(value, 10, 64)
	switch {
	case err != nil:
	case key == "oom_kill" && strings.HasPrefix(file, "memory."):
		r.Killed += n
	case key == "max" && file == "pids.events":
		r.Forks += n
	}
}

// Refusals reads what was refused in the group. Under version 1, and in part
// under version 2, what happens in a group below is counted there alone.
func (g Group) Refusals() Refusals {
	var r Refusals
	for _, dir := range g.Dirs() {
		for _, file := range CounterFiles {
			text, err := os.ReadFile(filepath.Join(dir, file))
			if err != nil {
				continue // of the other version or another controller
			}
			for line := range strings.Lines(string(text)) {
				r.Count(file, line)
			}
		}
	}
	return r
}
