package local

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"time"

	"github.com/errand-dev/errand"
	"github.com/errand-dev/errand/api"
	"github.com/errand-dev/errand/client"
)

// tree is a repository with a working tree, here or in a machine.
type tree interface {
	// git runs the git program with more variables and an input, and gives what it
	// printed. That it ended badly is a *failure.
	git(ctx context.Context, env []string, stdin string, args ...string) (string, error)
	// index makes a copy of the index and gives its path there. done removes it.
	index(ctx context.Context) (path string, done func(), err error)
	// whose says in an error's words whose tree it is.
	whose() string
}

// failure is a git that ended badly.
type failure struct {
	verb string
	code int
	said string // on standard error
}

func (f *failure) Error() string {
	return fmt.Sprintf("git %s ended with exit code %d: %s", f.verb, f.code, strings.TrimSpace(f.said))
}

// maxOutput bounds what is kept of what a git prints, in bytes: a machine may say
// anything.
const maxOutput = 64 << 20

// bounded keeps max bytes at most.
type bounded struct {
	bytes.Buffer
	max int
}

func (b *bounded) Write(p []byte) (int, error) {
	if b.Len()+len(p) > b.max {
		return 0, errand.Errorf(errand.TooLarge, "too_much_output", "git printed more than %d MiB.", b.max>>20)
	}
	return b.Buffer.Write(p)
}

// Repository is the person's own.
type Repository struct {
	dir string // the top of its working tree
	// Progress is shown what git says while it carries objects; nil: nobody.
	Progress io.Writer
	// Bridge is the command line of this program that git runs in place of ssh: see
	// Bridge.
	Bridge []string
	Env    []string // that Bridge gets
}

// Open finds the repository that dir is in.
func Open(ctx context.Context, dir string) (*Repository, error) {
	if _, err := exec.LookPath("git"); err != nil {
		return nil, errand.Errorf(errand.Unavailable, "git_missing", "There is no git here. Install it, 2.31 or newer.")
	}
	r := &Repository{dir: dir}
	top, err := r.line(ctx, "rev-parse", "--show-toplevel")
	if err != nil || top == "" {
		return nil, errand.Errorf(errand.Invalid, "no_repository", "%s is in no repository with a working tree. Change into a clone of the agent's repository first.", dir)
	}
	r.dir = filepath.FromSlash(top)
	return r, nil
}

// Dir is the top of the working tree.
func (r *Repository) Dir() string { return r.dir }

func (r *Repository) whose() string { return "your" }

func (r *Repository) command(ctx context.Context, env []string, args ...string) *exec.Cmd {
	cmd := exec.CommandContext(ctx, "git", args...)
	cmd.Dir = r.dir
	cmd.Env = append(append(os.Environ(), "LC_ALL=C"), env...)
	cmd.WaitDelay = 5 * time.Second
	return cmd
}

func (r *Repository) git(ctx context.Context, env []string, stdin string, args ...string) (string, error) {
	cmd := r.command(ctx, env, args...)
	cmd.Stdin = strings.NewReader(stdin)
	out, complaints := &bounded{max: maxOutput}, &bounded{max: maxOutput}
	cmd.Stdout, cmd.Stderr = out, complaints
	err := cmd.Run()
	if exit := (*exec.ExitError)(nil); errors.As(err, &exit) && ctx.Err() == nil {
		return "", &failure{verb: verb(args), code: exit.ExitCode(), said: complaints.String()}
	}
	if err != nil && ctx.Err() != nil {
		err = context.Cause(ctx)
	}
	return out.String(), err
}

// index copies the index out of the repository, where a kill leaves nothing.
func (r *Repository) index(ctx context.Context) (string, func(), error) {
	from, err := r.line(ctx, "rev-parse", "--git-path", "index")
	if err != nil {
		return "", nil, err
	}
	if !filepath.IsAbs(from) {
		from = filepath.Join(r.dir, from)
	}
	dir, err := os.MkdirTemp("", "errand-index-")
	if err != nil {
		return "", nil, fmt.Errorf("copying the index: %w", err)
	}
	done := func() { os.RemoveAll(dir) }
	to := filepath.Join(dir, "index")
	if err := copyWithTime(from, to); err != nil && !errors.Is(err, os.ErrNotExist) { // a repository without files has none
		done()
		return "", nil, fmt.Errorf("copying the index: %w", err)
	}
	return to, done, nil
}

// copyWithTime copies a small file. By the time of its index git knows which files
// may have changed since without a sign.
func copyWithTime(from, to string) error {
	stat, err := os.Stat(from)
	if err != nil {
		return err
	}
	text, err := os.ReadFile(from)
	if err != nil {
		return err
	}
	if err := os.WriteFile(to, text, 0o600); err != nil {
		return err
	}
	return os.Chtimes(to, stat.ModTime(), stat.ModTime())
}

// carry runs a git that talks to the other end through Bridge, with the bridge's
// own arguments.
func (r *Repository) carry(ctx context.Context, bridge []string, args ...string) error {
	var line []string
	for _, word := range slices.Concat(r.Bridge, bridge) {
		line = append(line, quote(filepath.ToSlash(word)))
	}
	env := append([]string{"GIT_SSH_COMMAND=" + strings.Join(line, " "), "GIT_SSH_VARIANT=ssh", "GIT_TERMINAL_PROMPT=0"}, r.Env...)
	cmd := r.command(ctx, env, args...)
	complaints := &bounded{max: maxOutput}
	cmd.Stderr = io.Writer(complaints)
	if r.Progress != nil {
		cmd.Stderr = io.MultiWriter(complaints, r.Progress)
	}
	err := cmd.Run()
	switch exit := (*exec.ExitError)(nil); {
	case ctx.Err() != nil:
		return context.Cause(ctx)
	case errors.As(err, &exit):
		return &failure{verb: verb(args), code: exit.ExitCode(), said: complaints.String()}
	}
	return err
}

// quote makes one word for the shell that git runs GIT_SSH_COMMAND with.
func quote(word string) string { return "'" + strings.ReplaceAll(word, "'", `'\''`) + "'" }

func verb(args []string) string {
	for len(args) > 2 && args[0] == "-c" {
		args = args[2:]
	}
	return args[0]
}

func (r *Repository) line(ctx context.Context, args ...string) (string, error) {
	return line(ctx, r, args...)
}

// line gives what git prints without the end of its line.
func line(ctx context.Context, t tree, args ...string) (string, error) {
	out, err := t.git(ctx, nil, "", args...)
	return strings.TrimRight(out, "\r\n"), err
}

var objectID = regexp.MustCompile(`^([0-9a-f]{40}|[0-9a-f]{64})$`)

// commit gives the id that a name leads to, "" where there is none.
func commit(ctx context.Context, t tree, name string) (string, error) {
	id, err := line(ctx, t, "rev-parse", "--verify", "--quiet", "--end-of-options", name+"^{commit}")
	if f := (*failure)(nil); errors.As(err, &f) {
		return "", nil
	}
	if err == nil && !objectID.MatchString(id) {
		err = fmt.Errorf("git rev-parse answers %.80q", id)
	}
	return id, err
}

// branch gives the branch that is checked out, "" where none is.
func branch(ctx context.Context, t tree) (string, error) {
	name, err := line(ctx, t, "symbolic-ref", "--quiet", "--short", "HEAD")
	if f := (*failure)(nil); errors.As(err, &f) && f.code == 1 {
		return "", nil
	}
	return name, err
}

// within says whether all of commit a is in b.
func within(ctx context.Context, t tree, a, b string) (bool, error) {
	_, err := t.git(ctx, nil, "", "merge-base", "--is-ancestor", a, b)
	if f := (*failure)(nil); errors.As(err, &f) && f.code == 1 {
		return false, nil
	}
	return err == nil, err
}

// machine is an agent's repository in its machine.
type machine struct {
	client *client.Client
	agent  errand.AgentID
}

func (m machine) whose() string { return "the agent's" }

func (m machine) git(ctx context.Context, env []string, stdin string, args ...string) (string, error) {
	return m.run(ctx, env, stdin, append([]string{"git", "-c", "core.hooksPath=/dev/null", "-c", "advice.detachedHead=false"}, args...)...)
}

func (m machine) run(ctx context.Context, env []string, stdin string, args ...string) (string, error) {
	out, complaints := &bounded{max: maxOutput}, &bounded{max: maxOutput}
	streams := client.ExecIO{Stdout: out, Stderr: complaints}
	if stdin != "" {
		streams.Stdin = strings.NewReader(stdin)
	}
	exit, err := m.client.Exec(ctx, m.agent, api.ExecStart{Args: args, Env: append([]string{"LC_ALL=C"}, env...), Whole: true}, streams)
	switch {
	case err != nil:
		return "", err
	case exit.Unknown:
		return "", errand.Errorf(errand.Unavailable, "machine_restarted", "The machine was restarted meanwhile. Try again.")
	case exit.Code != 0:
		return "", &failure{verb: verb(args[min(5, len(args)-1):]), code: exit.Code, said: complaints.String()}
	}
	return out.String(), nil
}

// index copies the index within the repository, where the next copy removes what
// a kill left. Its time goes with it: by that git knows which files may have
// changed since without a sign.
func (m machine) index(ctx context.Context) (string, func(), error) {
	const script = `set -e
dir=$(git rev-parse --absolute-git-dir)/errand
mkdir -p "$dir"
find "$dir" -name 'index.*' -mmin +60 -exec rm -f {} +
copy=$(mktemp "$dir/index.XXXXXX")
from=$(git rev-parse --git-path index)
if [ -e "$from" ]; then cp -p "$from" "$copy"; else rm -f "$copy"; fi
printf %s "$copy"`
	path, err := m.run(ctx, nil, "", "sh", "-c", script)
	if err != nil {
		return "", nil, err
	}
	return path, func() {
		ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), 10*time.Second)
		defer cancel()
		_, _ = m.run(ctx, nil, "", "rm", "-f", path) // the next copy removes it
	}, nil
}
