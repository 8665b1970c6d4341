package git

import (
	"context"
	"errors"
	"io/fs"
	"os"
	"os/exec"
	"os/user"
	"path"
	"path/filepath"
	"strconv"
	"strings"
	"syscall"
)

// The machine as a Place, as a guest does it. When ctx ends it is as if all had
// been killed there: nothing is done any more, and what runs is ended.

// Exists implements Place.
func (m *machine) Exists(ctx context.Context, path string) (bool, error) {
	if ctx.Err() != nil {
		return false, ctx.Err()
	}
	_, err := os.Lstat(path)
	if errors.Is(err, fs.ErrNotExist) || errors.Is(err, syscall.ENOTDIR) {
		return false, nil
	}
	return err == nil, err
}

// Read implements Place.
func (m *machine) Read(ctx context.Context, path string) ([]byte, error) {
	if ctx.Err() != nil {
		return nil, ctx.Err()
	}
	b, err := os.ReadFile(path)
	if errors.Is(err, fs.ErrNotExist) {
		return nil, nil
	}
	return b, err
}

// Write implements Place.
func (m *machine) Write(ctx context.Context, dir string, files []File) error {
	for _, f := range files {
		if ctx.Err() != nil {
			return ctx.Err()
		}
		to := path.Join(dir, f.Path)
		if err := m.makeAll(path.Dir(to)); err != nil {
			return err
		}
		mode := os.FileMode(0o644)
		if f.Executable {
			mode = 0o755
		}
		if err := os.WriteFile(to+".new", []byte(f.Data), mode); err != nil {
			return err
		}
		if err := like(to+".new", path.Dir(to)); err != nil {
			return err
		}
		if err := os.Rename(to+".new", to); err != nil {
			return err
		}
	}
	return nil
}

// makeAll makes a directory and those above it, each belonging to the owner of
// the one above.
func (m *machine) makeAll(dir string) error {
	if _, err := os.Stat(dir); err == nil {
		return nil
	}
	if err := m.makeAll(filepath.Dir(dir)); err != nil {
		return err
	}
	if err := os.Mkdir(dir, 0o755); err != nil && !errors.Is(err, fs.ErrExist) { // git may have made it meanwhile
		return err
	}
	return like(dir, filepath.Dir(dir))
}

// like gives name to the owner of dir.
func like(name, dir string) error {
	info, err := os.Stat(dir)
	if err != nil {
		return err
	}
	owner := info.Sys().(*syscall.Stat_t)
	return os.Lchown(name, int(owner.Uid), int(owner.Gid))
}

// Run implements Place.
func (m *machine) Run(ctx context.Context, c Command) (string, int, error) {
	if ctx.Err() != nil {
		return "", 0, ctx.Err()
	}
	if m.without != "" && c.Args[0] == m.without {
		return "", 127, nil
	}
	cmd := exec.CommandContext(ctx, "/usr/bin/env", c.Args...) // which looks in the machine's PATH
	cmd.Env, cmd.Dir = append(m.env(), c.Env...), c.Dir
	cmd.SysProcAttr = &syscall.SysProcAttr{Setpgid: true}
	cmd.Cancel = func() error { return syscall.Kill(-cmd.Process.Pid, syscall.SIGKILL) }
	if c.User != "" {
		credential, err := credentialOf(c.User)
		if err != nil {
			return "", 0, err
		}
		cmd.SysProcAttr.Credential = credential
	}
	if m.started != nil {
		m.started(c.Args[0])
	}
	out, err := cmd.CombinedOutput()
	if ctx.Err() != nil {
		return "", 0, ctx.Err()
	}
	if exit := new(exec.ExitError); errors.As(err, &exit) {
		return string(out), exit.ExitCode(), nil
	}
	return string(out), 0, err
}

func credentialOf(name string) (*syscall.Credential, error) {
	uid, gid, both := strings.Cut(name, ":")
	if u, err := user.Lookup(name); err == nil {
		uid, gid, both = u.Uid, u.Gid, true
	}
	if !both {
		gid = uid
	}
	id, err := strconv.ParseUint(uid, 10, 32)
	if err != nil {
		return nil, err
	}
	group, err := strconv.ParseUint(gid, 10, 32)
	return &syscall.Credential{Uid: uint32(id), Gid: uint32(group)}, err
}

// checkOut makes the checkout, which must go well, and gives its notices.
func (m *machine) checkOut(r *Mirror, c Checkout) string {
	m.t.Helper()
	out, err := r.Checkout(m.t.Context(), c, m)
	if err != nil {
		m.t.Fatalf("checkout: %v", err)
	}
	return out
}
