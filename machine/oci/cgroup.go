//go:build linux

package oci

import (
	"os"
	"path/filepath"
	"strings"
)

// cgroupParent is the group that machines' groups stand in, below the root.
const cgroupParent = "errand"

// cgroupHost is what the host's cgroups can hold.
type cgroupHost struct {
	version  int // 1 (also hybrid), 2, or 0 for none
	root     string
	held     heldLimits
	missing  []string // sentences
	writable bool
}

// heldLimits says which limits this host can enforce.
type heldLimits struct{ cpu, memory, pids bool }

func findCgroups() cgroupHost {
	c := cgroupHost{root: "/sys/fs/cgroup"}
	if data, err := os.ReadFile(filepath.Join(c.root, "cgroup.controllers")); err == nil {
		c.version = 2
		has := strings.Fields(string(data))
		for _, name := range has {
			c.set(name)
		}
		return c
	}
	for _, name := range []string{"cpu", "memory", "pids"} {
		if st, err := os.Stat(filepath.Join(c.root, name)); err == nil && st.IsDir() {
			c.version = 1
			c.set(name)
		}
	}
	return c
}

func (c *cgroupHost) set(name string) {
	switch name {
	case "cpu":
		c.held.cpu = true
	case "memory":
		c.held.memory = true
	case "pids":
		c.held.pids = true
	}
}

// tidy removes the group that machines' groups stand in, if it is empty.
func (c cgroupHost) tidy() error {
	if c.version == 2 {
		os.Remove(filepath.Join(c.root, cgroupParent))
		return nil
	}
	controllers, err := os.ReadDir(c.root)
	if err != nil {
		return nil
	}
	for _, e := range controllers {
		os.Remove(filepath.Join(c.root, e.Name(), cgroupParent)) // fails while it is in use
	}
	return nil
}
