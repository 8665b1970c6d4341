package inside

import (
	"bufio"
	"cmp"
	"fmt"
	"os"
	"slices"
	"strconv"
	"strings"
	"syscall"

	"github.com/errand-dev/errand/guest/wire"
)

// account is a user of the machine.
type account struct {
	name  string // the number where it has no name
	uid   uint32
	gid   uint32
	home  string
	shell string
}

const defaultPath = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"

// lookup finds a user by name or number, with ":group" at will. "" is root. A
// number that /etc/passwd does not know is taken as it is.
func lookup(user string) (account, error) {
	name, group, hasGroup := strings.Cut(cmp.Or(user, "0"), ":")
	a, err := findUser(name)
	if err != nil {
		return account{}, err
	}
	if hasGroup {
		if a.gid, err = findGroup(group); err != nil {
			return account{}, err
		}
	}
	return a, nil
}

func findUser(name string) (account, error) {
	for f := range fields("/etc/passwd", 7) {
		if f[0] != name && f[2] != name {
			continue
		}
		uid, err1 := strconv.ParseUint(f[2], 10, 32)
		gid, err2 := strconv.ParseUint(f[3], 10, 32)
		if err1 != nil || err2 != nil {
			continue
		}
		return account{f[0], uint32(uid), uint32(gid), cmp.Or(f[5], "/"), cmp.Or(f[6], "/bin/sh")}, nil
	}
	uid, err := strconv.ParseUint(name, 10, 32)
	if err != nil {
		return account{}, fmt.Errorf("user %q does not exist in the machine", name)
	}
	home := "/"
	if uid == 0 {
		name, home = "root", "/root"
	}
	return account{name, uint32(uid), 0, home, "/bin/sh"}, nil
}

func findGroup(name string) (uint32, error) {
	for f := range fields("/etc/group", 4) {
		if f[0] == name || f[2] == name {
			if gid, err := strconv.ParseUint(f[2], 10, 32); err == nil {
				return uint32(gid), nil
			}
		}
	}
	gid, err := strconv.ParseUint(name, 10, 32)
	if err != nil {
		return 0, fmt.Errorf("group %q does not exist in the machine", name)
	}
	return uint32(gid), nil
}

// groups gives the groups that list the user as a member.
func (a account) groups() []uint32 {
	var all []uint32
	for f := range fields("/etc/group", 4) {
		if !slices.Contains(strings.Split(f[3], ","), a.name) {
			continue
		}
		if gid, err := strconv.ParseUint(f[2], 10, 32); err == nil {
			all = append(all, uint32(gid))
		}
	}
	return all
}

// credential gives what a child needs to run as the user, nil where it is us.
func (a account) credential() *syscall.Credential {
	if int(a.uid) == os.Geteuid() && int(a.gid) == os.Getegid() {
		return nil
	}
	return &syscall.Credential{Uid: a.uid, Gid: a.gid, Groups: a.groups()}
}

// fields gives the lines of a file like /etc/passwd that have n fields.
func fields(file string, n int) func(yield func([]string) bool) {
	return func(yield func([]string) bool) {
		f, err := os.Open(file)
		if err != nil {
			return
		}
		defer f.Close()
		for lines := bufio.NewScanner(f); lines.Scan(); {
			if f := strings.Split(lines.Text(), ":"); len(f) == n && !yield(f) {
				return
			}
		}
	}
}

// environ gives the environment of a command: the machine's, then what belongs
// to the user, then the command's own.
func environ(machine []string, a account, c *wire.Command) []string {
	env := map[string]string{}
	put := func(list []string) {
		for _, kv := range list {
			if k, v, ok := strings.Cut(kv, "="); ok && k != "" {
				env[k] = v
			}
		}
	}
	put(machine)
	env["PATH"] = cmp.Or(env["PATH"], defaultPath)
	// The machine's own HOME is kept for its own user: an image may set it.
	if c.User != "" || env["HOME"] == "" || env["HOME"] == "/" {
		env["HOME"] = a.home
	}
	env["USER"], env["LOGNAME"], env["SHELL"] = a.name, a.name, a.shell
	if c.TTY != nil {
		env["TERM"] = "xterm-256color"
	} else {
		delete(env, "TERM")
	}
	put(c.Env)
	list := make([]string, 0, len(env))
	for k, v := range env {
		list = append(list, k+"="+v)
	}
	slices.Sort(list)
	return list
}
