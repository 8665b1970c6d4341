package inside

import (
	"bytes"
	"io"
	"os"
	"slices"
	"strconv"
	"strings"

	"github.com/errand-dev/errand/guest/wire"
)

// owners finds which processes hold sockets. A process that ends meanwhile, or
// that may not be looked at, holds none.
func owners(asked wire.Sockets) (wire.Owners, error) {
	wanted := map[string]uint64{}
	for _, inode := range asked.Inodes {
		wanted["socket:["+strconv.FormatUint(inode, 10)+"]"] = inode
	}
	entries, err := os.ReadDir("/proc")
	if err != nil {
		return wire.Owners{}, err
	}
	var pids []int
	for _, e := range entries {
		if pid, err := strconv.Atoi(e.Name()); err == nil {
			pids = append(pids, pid)
		}
	}
	slices.Sort(pids) // of processes that share a socket the first is the one that opened it
	var found wire.Owners
	for _, pid := range pids {
		if len(wanted) == 0 {
			break
		}
		for _, name := range held(pid) {
			if inode, ok := wanted[name]; ok {
				found.Owners = append(found.Owners, wire.Owner{Inode: inode, PID: pid, Command: commandOf(pid)})
				delete(wanted, name)
			}
		}
	}
	return found, nil
}

// held gives where a process's descriptors lead.
func held(pid int) (all []string) {
	dir := "/proc/" + strconv.Itoa(pid) + "/fd"
	d, err := os.Open(dir)
	if err != nil {
		return nil
	}
	defer d.Close()
	names, _ := d.Readdirnames(-1) // what was read is looked at
	for _, name := range names {
		if to, err := os.Readlink(dir + "/" + name); err == nil {
			all = append(all, to)
		}
	}
	return all
}

// commandOf gives the beginning of a process's command line.
func commandOf(pid int) string {
	f, err := os.Open("/proc/" + strconv.Itoa(pid) + "/cmdline")
	if err != nil {
		return ""
	}
	defer f.Close()
	text, _ := io.ReadAll(io.LimitReader(f, wire.MaxOwnerCommand))
	return strings.ToValidUTF8(string(bytes.ReplaceAll(bytes.TrimRight(text, "\x00"), []byte{0}, []byte{' '})), "")
}
