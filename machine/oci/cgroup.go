//go:build linux

package oci

import (
	"os"
	"path/filepath"
	"slices"
	"strings"
)

// cgroupParent is the group that machines' groups stand in, below the root.
const cgroupParent = "errand"

// cgroupHost is what the host's cgroups can hold. On a hybrid host, whose
// controllers are on version 1, that is version 1.
type cgroupHost struct {
	version int // 1, 2, or 0 for none that we can use
	root    string
	held    heldLimits
}

// heldLimits says which limits are enforced.
type heldLimits struct{ cpu, memory, pids bool }

func findCgroups() cgroupHost {
	c := cgroupHost{root: "/sys/fs/cgroup"}
	var usable []string
	if _, err := os.Stat(filepath.Join(c.root, "cgroup.controllers")); err == nil {
		usable = c.usable2()
		c.version = 2
	} else if usable = c.usable1(); len(usable) > 0 {
		c.version = 1
	}
	c.held = heldLimits{cpu: slices.Contains(usable, "cpu"), memory: slices.Contains(usable, "memory"), pids: slices.Contains(usable, "pids")}
	return c
}

// usable1 lists the controllers of version 1 in which we can make groups.
func (c cgroupHost) usable1() []string {
	var usable []string
	for _, name := range []string{"cpu", "memory", "pids"} {
		dir := filepath.Join(c.root, name)
		if _, err := os.Stat(filepath.Join(dir, "cgroup.procs")); err != nil {
			continue
		}
		if os.MkdirAll(filepath.Join(dir, cgroupParent), 0o755) == nil {
			usable = append(usable, name)
		}
	}
	return usable
}

// usable2 lists the controllers of version 2 that reach our own group, and asks
// for those that do not yet.
func (c cgroupHost) usable2() []string {
	if os.MkdirAll(filepath.Join(c.root, cgroupParent), 0o755) != nil {
		return nil
	}
	for _, name := range []string{"cpu", "memory", "pids"} {
		// Refused where it is not ours to give; then the list below lacks it.
		os.WriteFile(filepath.Join(c.root, "cgroup.subtree_control"), []byte("+"+name), 0)
	}
	data, err := os.ReadFile(filepath.Join(c.root, cgroupParent, "cgroup.controllers"))
	if err != nil {
		return nil
	}
	return strings.Fields(string(data))
}

// tidy removes the group that machines' groups stand in, if it is empty.
func (c cgroupHost) tidy() {
	if c.version == 2 {
		os.Remove(filepath.Join(c.root, cgroupParent))
		return
	}
	controllers, err := os.ReadDir(c.root)
	if err != nil {
		return
	}
	for _, e := range controllers {
		os.Remove(filepath.Join(c.root, e.Name(), cgroupParent)) // fails while it is in use
	}
}

// unenforced gives a sentence for each limit that is not held.
func (h heldLimits) unenforced() []string {
	var said []string
	for _, l := range []struct {
		held bool
		what string
		name string
	}{
		{h.cpu, "processors", "cpu"}, {h.memory, "memory", "memory"}, {h.pids, "processes", "pids"},
	} {
		if !l.held {
			said = append(said, "The limit of "+l.what+" is not enforced: this host's cgroups give Errand no "+l.name+" controller.")
		}
	}
	return said
}
