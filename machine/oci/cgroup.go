//go:build linux

package oci

import (
	"os"
	"path/filepath"
	"strings"
)

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
