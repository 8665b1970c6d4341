package git

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"path"
	"slices"
	"strings"

	"github.com/errand-dev/errand"
)

// Entry is a file of a commit.
type Entry struct {
	Path string // slash-separated, from the directory that was listed
	Mode string // as git writes it: one of the Mode constants
	ID   string // of its content; of a submodule, the commit it stands at
}

// The modes of entries that are no plain files.
const (
	ModeExecutable = "100755"
	ModeLink       = "120000"
	ModeSubmodule  = "160000"
)

// Entries lists the files of a commit below a directory, in git's order; "" or
// "." is the whole tree. NotFound when there is no such directory.
func (r *Mirror) Entries(ctx context.Context, commit, dir string) ([]Entry, error) {
	at, ok := inTree(dir)
	if !hexID.MatchString(commit) || !ok {
		return nil, errand.Errorf(errand.NotFound, "file_not_found", "The commit %s of %s has no directory %q.", clip(commit), r.url, clip(dir))
	}
	found, err := r.look(ctx, commit+":"+at)
	if err != nil {
		return nil, err
	}
	if found[0].kind != "tree" {
		return nil, errand.Errorf(errand.NotFound, "file_not_found", "The commit %s of %s has no directory %q.", clip(commit), r.url, clip(dir))
	}
	out, err := r.mirrors.git(ctx, r.dir, "ls-tree", "-r", "-z", "--full-tree", found[0].id)
	if err != nil {
		return nil, fmt.Errorf("listing %s of %s: %w", commit, r.url, err)
	}
	var entries []Entry
	for entry := range strings.SplitSeq(string(out), "\x00") {
		meta, name, ok := strings.Cut(entry, "\t")
		if f := strings.Fields(meta); ok && len(f) == 3 {
			entries = append(entries, Entry{Path: name, Mode: f[0], ID: f[2]})
		}
	}
	return entries, nil
}

// Export writes entries, as Entries gave them, below to, with the modes that git
// knows; a submodule is an empty directory. What has more than limit bytes in
// all is TooLarge, and some of it is there then.
func (r *Mirror) Export(ctx context.Context, entries []Entry, to *os.Root, limit int64) error {
	var ids []string
	for _, e := range entries {
		if err := to.MkdirAll(path.Dir(e.Path), 0o755); err != nil {
			return fmt.Errorf("writing %s: %w", e.Path, err)
		}
		if e.Mode == ModeSubmodule {
			if err := to.MkdirAll(e.Path, 0o755); err != nil {
				return fmt.Errorf("writing %s: %w", e.Path, err)
			}
			continue
		}
		ids = append(ids, e.ID)
	}
	if len(ids) == 0 {
		return nil
	}
	files := slices.DeleteFunc(slices.Clone(entries), func(e Entry) bool { return e.Mode == ModeSubmodule })
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	contents, out := io.Pipe()
	ran := make(chan error, 1)
	go func() {
		_, _, err := r.mirrors.run(ctx, command{dir: r.dir, args: []string{"cat-file", "--batch"},
			stdin: strings.NewReader(strings.Join(ids, "\n") + "\n"), stdout: out})
		out.CloseWithError(err)
		ran <- err
	}()
	err := writeAll(files, bufio.NewReaderSize(contents, 1<<16), to, limit)
	if err != nil {
		cancel()
	}
	contents.CloseWithError(err)
	if ended := <-ran; err == nil && ended != nil {
		err = fmt.Errorf("reading files of %s: %w", r.url, ended)
	}
	return err
}

// writeAll writes files from what `git cat-file --batch` prints.
func writeAll(files []Entry, contents *bufio.Reader, to *os.Root, limit int64) error {
	left := limit
	for _, e := range files {
		header, err := contents.ReadString('\n')
		if err != nil {
			return fmt.Errorf("reading %s: %w", e.Path, err)
		}
		o := parseObject(header)
		if o.kind != "blob" {
			return fmt.Errorf("reading %s: git answers %q", e.Path, strings.TrimSpace(header))
		}
		if left -= o.size; left < 0 {
			return errand.Errorf(errand.TooLarge, "context_too_large", "The files have more than %d MB; %q passes that. Leave out what is not needed.", limit>>20, clip(e.Path))
		}
		if err := e.write(io.LimitReader(contents, o.size), to); err != nil {
			return fmt.Errorf("writing %s: %w", e.Path, err)
		}
		if _, err := contents.Discard(1); err != nil {
			return fmt.Errorf("reading %s: %w", e.Path, err)
		}
	}
	return nil
}

func (e Entry) write(content io.Reader, to *os.Root) error {
	if e.Mode == ModeLink {
		target, err := io.ReadAll(io.LimitReader(content, 1<<16))
		if err != nil {
			return err
		}
		return to.Symlink(string(target), e.Path)
	}
	mode := os.FileMode(0o644)
	if e.Mode == ModeExecutable {
		mode = 0o755
	}
	f, err := to.OpenFile(e.Path, os.O_CREATE|os.O_EXCL|os.O_WRONLY, mode)
	if err != nil {
		return err
	}
	_, err = io.Copy(f, content)
	return errors.Join(err, f.Close())
}
