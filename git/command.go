package git

import (
	"bytes"
	"cmp"
	"context"
	"errors"
	"fmt"
	"io"
	neturl "net/url"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"slices"
	"strconv"
	"strings"
	"syscall"
	"time"

	"github.com/errand-dev/errand"
)

// command is one call of the git program.
type command struct {
	dir    string // the bare repository; "" for none
	url    string // the remote it talks to; "" for none
	args   []string
	env    []string
	stdin  io.Reader
	stdout io.Writer // nil: kept, at most most bytes, and returned
	most   int       // 0 is maxKept
}

const maxKept = 256 << 20

// errTooMuch is the failure of a git that said more than is kept.
var errTooMuch = errors.New("too much output")

// exitError is a git that ended with a failure.
type exitError struct {
	verb   string // "ls-remote"
	code   int    // -1 when it was killed
	stderr string // without credentials
	err    error
}

func (e *exitError) Error() string {
	if e.stderr == "" {
		return fmt.Sprintf("git %s: %v", e.verb, e.err)
	}
	return fmt.Sprintf("git %s: %v: %s", e.verb, e.err, e.stderr)
}

func (e *exitError) Unwrap() error { return e.err }

func (m *Mirrors) git(ctx context.Context, dir string, args ...string) ([]byte, error) {
	out, _, err := m.run(ctx, command{dir: dir, args: args})
	return out, err
}

// run calls git and waits for it. When ctx ends, git and all that it started
// are ended too. Both results are given also with an error.
func (m *Mirrors) run(ctx context.Context, c command) (stdout []byte, stderr string, err error) {
	args := c.args
	if c.dir != "" {
		args = append([]string{"--git-dir=" + c.dir}, args...)
	}
	cred, scrub := m.credential(c.url)
	cmd := exec.CommandContext(ctx, "git", args...)
	cmd.Dir = m.emptyDir()
	cmd.Env = slices.Concat(environ(c.url, cred), c.env, []string{m.mark()})
	cmd.Stdin = c.stdin
	kept := &bounded{max: cmp.Or(c.most, maxKept)}
	cmd.Stdout = kept
	if c.stdout != nil {
		cmd.Stdout = c.stdout
	}
	errs := &tail{max: 16 << 10}
	cmd.Stderr = errs
	// Its own process group, so that transports and helpers end with it; its
	// own session, so that ssh finds no terminal to ask on. It ends with us: with
	// the thread that started it, which must be this goroutine's alone for that.
	runtime.LockOSThread()
	defer runtime.UnlockOSThread()
	cmd.SysProcAttr = &syscall.SysProcAttr{Setsid: true, Pdeathsig: syscall.SIGTERM}
	cmd.Cancel = func() error { return syscall.Kill(-cmd.Process.Pid, syscall.SIGTERM) }
	cmd.WaitDelay = 3 * time.Second
	err = cmd.Run()
	if cmd.Process != nil && ctx.Err() != nil {
		endGroup(cmd.Process.Pid)
	}
	stderr = scrub(strings.TrimSpace(errs.String()))
	if err == nil && kept.over {
		err = errTooMuch
	}
	if err != nil {
		code := -1
		if exit, ok := errors.AsType[*exec.ExitError](err); ok {
			code = exit.ExitCode()
		}
		if ctx.Err() != nil {
			err = context.Cause(ctx)
		}
		err = &exitError{verb: verb(c.args), code: code, stderr: stderr, err: err}
	}
	return kept.kept, stderr, err
}

// groupGrace is how long what git started has to end after it was told to, with git.
const groupGrace = time.Second

// endGroup kills what is left of a group that was told to end, when it has had the
// time to take its locks away.
func endGroup(group int) {
	for deadline := time.Now().Add(groupGrace); syscall.Kill(-group, 0) == nil; time.Sleep(5 * time.Millisecond) {
		if time.Now().After(deadline) {
			_ = syscall.Kill(-group, syscall.SIGKILL)
			return
		}
	}
}

// verb is git's command among its arguments.
func verb(args []string) string {
	for len(args) > 2 && args[0] == "-c" {
		args = args[2:]
	}
	return args[0]
}

func (m *Mirrors) emptyDir() string { return filepath.Join(m.options.Dir, "empty") }

// credential gives what opens url and a function that takes it out of text.
func (m *Mirrors) credential(url string) (Credential, func(string) string) {
	var cred Credential
	if url != "" && m.options.Credential != nil {
		cred, _ = m.options.Credential(url)
	}
	return cred, func(text string) string {
		if cred.Password != "" {
			text = strings.NewReplacer(cred.Password, "…", neturl.QueryEscape(cred.Password), "…", neturl.PathEscape(cred.Password), "…").Replace(text)
		}
		return hideUserinfo(text)
	}
}

// keptEnv names the variables of our own environment that git may see: what it
// needs to find its way out, and none of the server's keys.
var keptEnv = []string{
	"PATH", "HOME", "USER", "LOGNAME", "TMPDIR", "XDG_CONFIG_HOME", "SUDO_UID",
	"SSH_AUTH_SOCK", "SSL_CERT_FILE", "SSL_CERT_DIR",
	"http_proxy", "https_proxy", "all_proxy", "no_proxy", "HTTP_PROXY", "HTTPS_PROXY", "ALL_PROXY", "NO_PROXY",
	"GIT_SSL_CAINFO", "GIT_SSL_CAPATH", "GIT_SSL_NO_VERIFY", "GIT_SSH", "GIT_SSH_COMMAND", "GIT_EXEC_PATH",
	"GIT_CONFIG_GLOBAL", "GIT_CONFIG_SYSTEM", "GIT_CONFIG_NOSYSTEM",
}

// settings hold for every git that runs here, over what the server's own
// configuration says.
var settings = [][2]string{
	// No hooks of ours run. Those of a remote that is a path on this host do, as
	// the server's user: they are its policy, as those of any other remote.
	{"core.hooksPath", "/dev/null"},
	{"core.fsmonitor", "false"},
	{"core.askPass", ""},
	{"credential.interactive", "false"},
	{"gc.auto", "0"}, // a mirror's objects are used from machines: nothing is ever pruned
	{"maintenance.auto", "false"},
	{"fetch.recurseSubmodules", "false"},
	{"fetch.unpackLimit", "1"},
	{"push.recurseSubmodules", "no"},
	{"push.followTags", "false"},
	{"push.gpgSign", "false"},
	{"http.lowSpeedLimit", "1"}, // bytes a second, for as long as:
	{"http.lowSpeedTime", "120"},
	{"advice.detachedHead", "false"},
}

// environ is the whole environment of a git that talks to url ("" for none).
// The credential is in it and nowhere else: not in an argument, not in a file.
func environ(url string, cred Credential) []string {
	var env []string
	for _, name := range keptEnv {
		if v, ok := os.LookupEnv(name); ok {
			env = append(env, name+"="+v)
		}
	}
	env = append(env, "LC_ALL=C", "GIT_TERMINAL_PROMPT=0", "GIT_ALLOW_PROTOCOL=file:http:https:ssh",
		"GIT_NO_REPLACE_OBJECTS=1", "GIT_NO_LAZY_FETCH=1")
	config := settings
	if ssh := sshCommand(cred); ssh != "" {
		env = append(env, "GIT_SSH_COMMAND="+ssh)
	}
	if origin := httpOrigin(url); origin != "" && cred.Password != "" {
		user := cred.User
		if user == "" {
			user = "x-access-token"
		}
		env = append(env, "ERRAND_GIT_USER="+user, "ERRAND_GIT_PASSWORD="+cred.Password)
		config = append(slices.Clone(config),
			[2]string{"credential.helper", ""},
			// Named with the host: where a redirect leads, it is not asked.
			[2]string{"credential." + origin + ".helper", `!f() { test "$1" = get && printf 'username=%s\npassword=%s\n' "$ERRAND_GIT_USER" "$ERRAND_GIT_PASSWORD"; }; f`})
	}
	env = append(env, "GIT_CONFIG_COUNT="+strconv.Itoa(len(config)))
	for i, kv := range config {
		n := strconv.Itoa(i)
		env = append(env, "GIT_CONFIG_KEY_"+n+"="+kv[0], "GIT_CONFIG_VALUE_"+n+"="+kv[1])
	}
	return env
}

// sshCommand is "" where the server's own configuration is all there is.
func sshCommand(cred Credential) string {
	ssh := ""
	if cred.SSHKey != "" {
		ssh += " -i " + quote(cred.SSHKey) + " -o IdentitiesOnly=yes"
	}
	if cred.KnownHosts != "" {
		ssh += " -o UserKnownHostsFile=" + quote(cred.KnownHosts) + " -o GlobalKnownHostsFile=/dev/null"
	}
	if ssh == "" {
		return ""
	}
	return "ssh -o BatchMode=yes" + ssh
}

// httpOrigin is the scheme and host of an http URL, "" for any other.
func httpOrigin(url string) string {
	u, err := neturl.Parse(url)
	if err != nil || u.Scheme != "http" && u.Scheme != "https" {
		return ""
	}
	return u.Scheme + "://" + u.Host
}

// checkProgram says in a sentence what is missing.
func checkProgram() error {
	out, err := exec.Command("git", "version").Output()
	if err != nil {
		return errand.Errorf(errand.Unavailable, "git_missing", "The git program cannot be run on the server: %w. Install git 2.31 or newer.", err)
	}
	var major, minor int
	if _, err := fmt.Sscanf(string(out), "git version %d.%d", &major, &minor); err != nil || major*1000+minor < 2031 {
		return errand.Errorf(errand.Unavailable, "git_missing", "The server has %q, which is too old. Install git 2.31 or newer.", strings.TrimSpace(string(out)))
	}
	return nil
}

// bounded keeps up to max bytes and takes the rest for nothing.
type bounded struct {
	kept []byte
	max  int
	over bool
}

func (b *bounded) Write(p []byte) (int, error) {
	if len(b.kept)+len(p) > b.max {
		b.over = true
		return len(p), nil
	}
	b.kept = append(b.kept, p...)
	return len(p), nil
}

// tail keeps the last max bytes, from the start of a line where it can.
type tail struct {
	kept []byte
	max  int
}

func (t *tail) Write(p []byte) (int, error) {
	t.kept = append(t.kept, p...)
	if len(t.kept) > 2*t.max {
		t.kept = append(t.kept[:0], t.kept[len(t.kept)-t.max:]...)
	}
	return len(p), nil
}

func (t *tail) String() string {
	if len(t.kept) <= t.max {
		return string(t.kept)
	}
	cut := t.kept[len(t.kept)-t.max:]
	if i := bytes.IndexByte(cut, '\n'); i >= 0 {
		cut = cut[i+1:]
	}
	return string(cut)
}
