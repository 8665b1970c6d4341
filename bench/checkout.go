package bench

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"io"
	"os/exec"
	"path/filepath"

	"github.com/errand-dev/errand/environment"
	"github.com/errand-dev/errand/git"
	"github.com/errand-dev/errand/machine"
)

// repositoryFiles is the size of the tree that is checked out.
const repositoryFiles = 1000

// checkouts is in how many machines, since one takes up to half as long again as
// another.
const checkouts = 40

// measureCheckout times the mirror of a repository with a long history, and a
// fresh machine's checkout from it beside the same files alone.
func measureCheckout(ctx context.Context, b *bench) (err error) {
	commits := b.size(50_000)
	url := filepath.Join(b.Dir, "history.git")
	if err := makeHistory(ctx, url, commits); err != nil {
		return fmt.Errorf("making a repository: %w", err)
	}
	mirrors, err := git.New(git.Options{Dir: filepath.Join(b.Dir, "git"), Log: b.Log})
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, mirrors.Close()) }()
	var mirror *git.Mirror
	fetch := func(int) error { mirror, err = mirrors.Fetch(ctx, url); return err }
	cold, err := times(1, fetch)
	if err != nil {
		return err
	}
	again, err := times(10, fetch)
	if err != nil {
		return err
	}
	b.keep("checkout", "mirror fetch, the first", "server", "ms", cold, fmt.Sprintf("%d commits, from a repository on the same disk", commits))
	b.keep("checkout", "mirror fetch, nothing new", "server", "ms", again, "")
	commit, branch, err := mirror.Resolve(ctx, "")
	if err != nil {
		return err
	}
	want := git.Checkout{Commit: commit, Branch: "errand/measured-ab12", BaseBranch: branch}
	return b.each(ctx, "checkout", func(r *rig) error { return b.checkoutOn(ctx, r, mirror, want) })
}

func (b *bench) checkoutOn(ctx context.Context, r *rig, mirror *git.Mirror, want git.Checkout) error {
	var whole, alone, above []float64
	for i := range b.size(checkouts) {
		s, err := r.spawn(ctx, fmt.Sprintf("checkout-%d", i), machine.Spec{
			Mounts: []machine.Mount{{Source: mirror.Dir(), Target: git.MirrorTarget(mirror.URL())}},
		})
		if err != nil {
			return err
		}
		// What comes first in a fresh machine is slower, whatever it is, so the
		// two take turns.
		var took [2]float64
		for turn := range took {
			what := (i + turn) % 2
			do := func(int) error {
				_, err := mirror.Checkout(ctx, want, environment.NewPlace(s.line))
				return err
			}
			if what == 1 {
				if err := s.run(ctx, "index", "sh", "-c", borrowed, "sh", git.MirrorTarget(mirror.URL()), want.Commit); err != nil {
					return err
				}
				do = func(int) error { return s.run(ctx, "files", "git", "-C", "/files", "checkout-index", "--all") }
			}
			ms, err := times(1, do)
			if err != nil {
				return err
			}
			took[what] = ms[0]
		}
		whole, alone, above = append(whole, took[0]), append(alone, took[1]), append(above, took[0]-took[1])
		if err := s.end(ctx); err != nil {
			return err
		}
	}
	b.keep("checkout", "checkout from the mirror", r.engine, "ms", whole, fmt.Sprintf("%d files", repositoryFiles))
	b.keep("checkout", "the same files alone", r.engine, "ms", alone, "git checkout-index into an empty directory, in the same machines; first in every second one")
	b.keep("checkout", "checkout above its files", r.engine, "ms", above, "")
	return nil
}

// borrowed makes a repository in /files that has no history of its own, with an
// index and no files.
const borrowed = `git init -q /files && cd /files && echo "$1/objects" >.git/objects/info/alternates && git read-tree "$2"`

// makeHistory makes a bare repository with a tree of files, each commit of
// which changes one of them.
func makeHistory(ctx context.Context, dir string, commits int) error {
	if out, err := exec.CommandContext(ctx, "git", "init", "-q", "--bare", "-b", "main", dir).CombinedOutput(); err != nil {
		return fmt.Errorf("%w: %s", err, out)
	}
	return fastImport(ctx, dir, func(w io.Writer) error { return writeHistory(w, commits) })
}

// fastImport gives a repository what write writes in the form of git
// fast-import.
func fastImport(ctx context.Context, dir string, write func(io.Writer) error) error {
	cmd := exec.CommandContext(ctx, "git", "-C", dir, "fast-import", "--quiet")
	in, err := cmd.StdinPipe()
	if err != nil {
		return err
	}
	if err := cmd.Start(); err != nil {
		return err
	}
	written := errors.Join(write(in), in.Close())
	return errors.Join(cmd.Wait(), written)
}

// writeHistory writes commits in the form of git fast-import.
func writeHistory(to io.Writer, commits int) error {
	w := bufio.NewWriterSize(to, 1<<20)
	file := func(n, version int) {
		text := fmt.Sprintf("// Package p%[1]d is file %[1]d in version %[2]d.\npackage p%[1]d\n\n", n, version)
		for i := range 40 {
			text += fmt.Sprintf("func f%d() int { return %d }\n", i, n*i+version)
		}
		fmt.Fprintf(w, "M 100644 inline d%d/d%d/f%d.go\ndata %d\n%s\n", n%10, n/10%10, n, len(text), text)
	}
	for c := range commits {
		message := fmt.Sprintf("change %d", c)
		fmt.Fprintf(w, "commit refs/heads/main\ncommitter Ada Lovelace <ada@example.com> %d +0000\ndata %d\n%s\n", 1_700_000_000+c*60, len(message), message)
		if c > 0 {
			file(c%repositoryFiles, c)
			continue
		}
		for n := range repositoryFiles {
			file(n, 0)
		}
	}
	return w.Flush()
}
