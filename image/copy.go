package image

import (
	"bytes"
	"context"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"regexp"
	"strconv"
	"strings"
	"syscall"

	"golang.org/x/sys/unix"
)

// credential matches what a configuration file holds only when it holds a
// secret: a password in a URL, a registry's token, an authorization header.
var credential = regexp.MustCompile(`(?i)://[^/\s:@]+:[^/\s@]+@|_auth(token)?\s*=|_?password\s*[=:]\s*\S|authorization:|-----BEGIN [A-Z ]*PRIVATE KEY`)

// copyTree copies /name to root/name with owners, modes and times, leaving out
// what only some may read and what looks like a secret.
func copyTree(ctx context.Context, root, name string) error {
	if err := copyParents(root, name); err != nil {
		return err
	}
	return filepath.WalkDir("/"+name, func(src string, d fs.DirEntry, err error) error {
		if err != nil {
			return nil // gone or unreadable: the host goes on living while we look
		}
		if err := ctx.Err(); err != nil {
			return err
		}
		rel := strings.TrimPrefix(src, "/")
		st, err := d.Info()
		if err != nil {
			return nil
		}
		if skipped(rel) || st.Mode().Perm()&0o004 == 0 && st.Mode()&fs.ModeSymlink == 0 {
			if d.IsDir() {
				return fs.SkipDir
			}
			return nil
		}
		return copyOne(src, filepath.Join(root, rel), st)
	})
}

func copyParents(root, name string) error {
	dir := filepath.Dir(name)
	if dir == "." {
		return nil
	}
	return os.MkdirAll(filepath.Join(root, dir), 0o755)
}

func copyOne(src, dst string, st fs.FileInfo) error {
	sys := st.Sys().(*syscall.Stat_t)
	switch {
	case st.IsDir():
		if err := os.Mkdir(dst, 0o755); err != nil && !os.IsExist(err) {
			return err
		}
	case st.Mode()&fs.ModeSymlink != 0:
		target, err := os.Readlink(src)
		if err != nil {
			return nil
		}
		os.Remove(dst)
		if err := os.Symlink(target, dst); err != nil {
			return err
		}
		return os.Lchown(dst, int(sys.Uid), int(sys.Gid))
	case st.Mode().IsRegular():
		data, err := os.ReadFile(src)
		if err != nil {
			return nil
		}
		if strings.HasPrefix(src, "/etc/") && holdsSecret(data) {
			return nil
		}
		if err := os.WriteFile(dst, data, 0o600); err != nil {
			return err
		}
	default:
		return nil // sockets, devices and pipes are not part of a system's files
	}
	if err := os.Lchown(dst, int(sys.Uid), int(sys.Gid)); err != nil {
		return err
	}
	if err := unix.Chmod(dst, sys.Mode&0o7777); err != nil {
		return err
	}
	times := []unix.Timespec{unix.Timespec(sys.Mtim), unix.Timespec(sys.Mtim)}
	return unix.UtimesNanoAt(unix.AT_FDCWD, dst, times, unix.AT_SYMLINK_NOFOLLOW)
}

// holdsSecret looks at files that people write; larger ones are data.
func holdsSecret(data []byte) bool {
	return len(data) < 64<<10 && !bytes.ContainsRune(data, 0) && credential.Match(data)
}

// writeAccounts makes the account files with the host's system accounts only:
// no people, no password hashes.
func writeAccounts(root string) error {
	var passwd, shadow, group, gshadow strings.Builder
	for _, f := range accounts("/etc/passwd", 7) {
		if f[0] == "root" {
			f[4], f[5] = "root", "/root"
		}
		f[1] = "x"
		fmt.Fprintln(&passwd, strings.Join(f, ":"))
		fmt.Fprintf(&shadow, "%s:*:19000:0:99999:7:::\n", f[0])
	}
	for _, f := range accounts("/etc/group", 4) {
		fmt.Fprintf(&group, "%s:x:%s:\n", f[0], f[2])
		fmt.Fprintf(&gshadow, "%s:*::\n", f[0])
	}
	files := []struct {
		name, text string
		mode       os.FileMode
	}{
		{"passwd", passwd.String(), 0o644}, {"group", group.String(), 0o644},
		{"shadow", shadow.String(), 0o640}, {"gshadow", gshadow.String(), 0o640},
		{"subuid", "", 0o644}, {"subgid", "", 0o644}, {"environment", "", 0o644},
	}
	if _, err := os.Stat("/usr/bin/sudo"); err == nil {
		files = append(files, struct {
			name, text string
			mode       os.FileMode
		}{"sudoers", "root ALL=(ALL:ALL) ALL\n%sudo ALL=(ALL:ALL) NOPASSWD: ALL\n@includedir /etc/sudoers.d\n", 0o440})
	}
	for _, f := range files {
		if err := os.WriteFile(filepath.Join(root, "etc", f.name), []byte(f.text), f.mode); err != nil {
			return err
		}
	}
	return nil
}

// accounts reads the lines of an account file that belong to the system: ids
// below 1000, and nobody.
func accounts(file string, fields int) [][]string {
	data, err := os.ReadFile(file)
	if err != nil {
		data = []byte(map[int]string{7: "root:x:0:0:root:/root:/bin/sh\n", 4: "root:x:0:\n"}[fields])
	}
	var lines [][]string
	for line := range strings.Lines(string(data)) {
		f := strings.Split(strings.TrimSpace(line), ":")
		if len(f) != fields {
			continue
		}
		if id, err := strconv.Atoi(f[2]); err == nil && (id < 1000 || id == 65534) {
			lines = append(lines, f)
		}
	}
	return lines
}
