package git

import (
	"bufio"
	"bytes"
	"context"
	"errors"
	"fmt"
	"io/fs"
	"maps"
	"os"
	"path/filepath"
	"strings"

	"github.com/errand-dev/errand"
)

// Mirror is the local copy of one repository: its branches, its tags and their
// history. It is shared by all agents and only ever grows.
type Mirror struct {
	mirrors *Mirrors
	dir     string
	url     string
}

// Dir is the mirror's bare repository on the server, to be shown read-only in
// machines at MirrorTarget. Other users may read it.
func (r *Mirror) Dir() string { return r.dir }

// URL is the clean URL of what is mirrored.
func (r *Mirror) URL() string { return r.url }

// updates is who brings one mirror up to date now, and who will next.
type updates struct {
	running, next *update
	swept         bool // what a killed git left has been removed
}

type update struct {
	done    chan struct{}
	carried []string // commits that are taken up; see FetchCarried
	err     error
}

// Fetch makes the mirror of url or brings it up to date, and returns when it is
// at least as new as the remote was at the time of the call. When the remote
// has nothing new this costs one exchange with it and nothing in proportion to
// history. Callers at the same time share the work, which goes on when one of
// them leaves.
//
// Errors are *errand.Error with the code repository_access (NotFound,
// Forbidden, Unavailable), or Invalid for a URL that Clean refuses.
func (m *Mirrors) Fetch(ctx context.Context, url string) (*Mirror, error) {
	return m.fetch(ctx, url, "")
}

func (m *Mirrors) fetch(ctx context.Context, url, carried string) (*Mirror, error) {
	r, err := m.mirror(url)
	if err != nil {
		return nil, err
	}
	u, err := m.update(r, carried)
	if err != nil {
		return nil, err
	}
	select {
	case <-u.done:
	case <-ctx.Done():
		return nil, fmt.Errorf("waiting for the mirror of %s: %w", r.url, context.Cause(ctx))
	}
	if u.err != nil {
		return nil, u.err
	}
	return r, nil
}

// Open gives the mirror of url as it is, without the network. NotFound means
// that there is none yet.
func (m *Mirrors) Open(ctx context.Context, url string) (*Mirror, error) {
	r, err := m.mirror(url)
	if err != nil {
		return nil, err
	}
	if !r.exists() {
		return nil, errand.Errorf(errand.NotFound, "repository_access", "There is no mirror of %s yet. Fetch it first.", r.url)
	}
	return r, nil
}

func (m *Mirrors) mirror(url string) (*Mirror, error) {
	clean, err := Clean(url)
	if err != nil {
		return nil, err
	}
	return &Mirror{mirrors: m, dir: m.mirrorDir(clean), url: clean}, nil
}

func (r *Mirror) exists() bool {
	_, err := os.Stat(filepath.Join(r.dir, "HEAD"))
	return err == nil
}

// update gives one that starts after the call: joining one that is under way
// could miss what was pushed while it ran. carried, if not "", is taken up too.
func (m *Mirrors) update(r *Mirror, carried string) (*update, error) {
	m.mu.Lock()
	defer m.mu.Unlock()
	if m.ctx.Err() != nil {
		return nil, errand.Errorf(errand.Unavailable, "repository_access", "The server is shutting down. Try again when it is back.")
	}
	name := Name(r.url)
	s := m.updates[name]
	if s == nil {
		s = &updates{}
		m.updates[name] = s
	}
	u := s.next
	if u == nil {
		u = &update{done: make(chan struct{})}
	}
	if carried != "" {
		u.carried = append(u.carried, carried)
	}
	if s.next != nil {
		return u, nil
	}
	if s.running != nil {
		s.next = u
		return u, nil
	}
	s.running = u
	m.work.Go(func() { m.updateAll(r, s) })
	return u, nil
}

func (m *Mirrors) updateAll(r *Mirror, s *updates) {
	for {
		ctx, cancel := context.WithTimeout(m.ctx, m.options.Timeout)
		m.mu.Lock()
		u := s.running // nothing is added to it any more
		m.mu.Unlock()
		err := r.update(ctx, s)
		for i := 0; i < len(u.carried) && err == nil; i++ {
			err = r.takeUp(ctx, u.carried[i])
		}
		cancel()
		m.mu.Lock()
		s.running, s.next = s.next, nil
		more := s.running != nil
		m.mu.Unlock()
		u.err = err
		close(u.done)
		if !more {
			return
		}
	}
}

func (r *Mirror) update(ctx context.Context, s *updates) error {
	remote, head, err := r.remoteRefs(ctx, maxKept)
	if err != nil {
		return accessError("Reading the repository", r.url, err)
	}
	if !r.exists() {
		if err := r.clone(ctx, remote, head); err != nil {
			return accessError("Mirroring the repository", r.url, err)
		}
		s.swept = true
		return nil
	}
	if !s.swept {
		if err := sweep(r.dir); err != nil {
			return err
		}
		s.swept = true
	}
	local, err := r.refs(ctx)
	if err != nil {
		return err
	}
	if !maps.Equal(local, remote) {
		if err := fetchInto(ctx, r.mirrors, r.dir, r.url); err != nil {
			s.swept = false
			return accessError("Updating the mirror of", r.url, err)
		}
	}
	if err := r.setHead(ctx, r.dir, head); err != nil {
		return err
	}
	return r.tidy(ctx)
}

// remoteRefs asks the remote for its branches and tags, and for the branch that
// its HEAD names ("" if it names none). An answer of more than most bytes is
// errTooMuch.
func (r *Mirror) remoteRefs(ctx context.Context, most int) (refs map[string]string, head string, err error) {
	out, _, err := r.mirrors.run(ctx, command{url: r.url, most: most, args: []string{"ls-remote", "--symref", "--", r.url, "HEAD", "refs/heads/*", "refs/tags/*"}})
	if err != nil {
		return nil, "", err
	}
	refs = map[string]string{}
	var headID string
	lines := bufio.NewScanner(bytes.NewReader(out))
	lines.Buffer(nil, 1<<20)
	for lines.Scan() {
		id, name, _ := strings.Cut(lines.Text(), "\t")
		switch {
		case strings.HasPrefix(id, "ref: ") && name == "HEAD":
			head = strings.TrimPrefix(id, "ref: ")
		case name == "HEAD":
			headID = id
		case strings.HasPrefix(name, "refs/heads/") || strings.HasPrefix(name, "refs/tags/"):
			if !strings.HasSuffix(name, "^{}") {
				refs[name] = id
			}
		}
	}
	if refs[head] == "" {
		head = guessHead(refs, headID)
	}
	return refs, head, lines.Err()
}

// guessHead finds the default branch of a remote that does not name one.
func guessHead(refs map[string]string, id string) string {
	usual := []string{"refs/heads/main", "refs/heads/master", "refs/heads/trunk", "refs/heads/develop"}
	for _, sure := range []bool{true, false} {
		for _, name := range usual {
			if at := refs[name]; at != "" && (at == id || !sure) {
				return name
			}
		}
	}
	var first string
	for name := range refs {
		if strings.HasPrefix(name, "refs/heads/") && (first == "" || name < first) {
			first = name
		}
	}
	return first
}

func (r *Mirror) refs(ctx context.Context) (map[string]string, error) {
	out, err := r.mirrors.git(ctx, r.dir, "for-each-ref", "--format=%(objectname)\t%(refname)", "refs/heads/", "refs/tags/")
	if err != nil {
		return nil, fmt.Errorf("reading the mirror of %s: %w", r.url, err)
	}
	refs := map[string]string{}
	for line := range strings.Lines(string(out)) {
		id, name, _ := strings.Cut(strings.TrimSuffix(line, "\n"), "\t")
		refs[name] = id
	}
	return refs, nil
}

// clone builds the mirror beside its place and moves it there when it is whole.
func (r *Mirror) clone(ctx context.Context, remote map[string]string, head string) error {
	tmp, err := os.MkdirTemp(filepath.Dir(r.dir), "new-")
	if err != nil {
		return fmt.Errorf("making a mirror of %s: %w", r.url, err)
	}
	defer os.RemoveAll(tmp)
	// clone writes all refs in one file; fetch would write, and sync, each.
	_, _, err = r.mirrors.run(ctx, command{url: r.url, args: []string{
		"clone", "--quiet", "--bare", "--no-local", "--template=", "-c", "core.sharedRepository=0644", "--", r.url, tmp}})
	if err != nil {
		return err
	}
	if len(remote) > 0 {
		if _, err := r.mirrors.git(ctx, tmp, "commit-graph", "write", "--reachable"); err != nil {
			return err
		}
	}
	if err := os.Chmod(tmp, 0o755); err != nil {
		return fmt.Errorf("making a mirror of %s: %w", r.url, err)
	}
	if err := r.setHead(ctx, tmp, head); err != nil {
		return err
	}
	if err := os.WriteFile(filepath.Join(tmp, "description"), []byte(r.url+"\n"), 0o644); err != nil {
		return fmt.Errorf("making a mirror of %s: %w", r.url, err)
	}
	if err := os.Rename(tmp, r.dir); err != nil {
		return fmt.Errorf("making a mirror of %s: %w", r.url, err)
	}
	return nil
}

// initBare makes an empty bare repository that every user may read: in a
// machine its files belong to somebody else.
func (m *Mirrors) initBare(ctx context.Context, dir, format string) error {
	args := []string{"init", "--quiet", "--bare", "--template=", "--shared=0644", "--initial-branch=main"}
	if format != "sha1" {
		args = append(args, "--object-format="+format)
	}
	_, _, err := m.run(ctx, command{args: append(args, "--", dir)})
	if err != nil {
		return fmt.Errorf("making a repository: %w", err)
	}
	return nil
}

// fetchInto brings all branches and tags of url into dir. Refs end up packed in
// one file, which machines read as it is.
func fetchInto(ctx context.Context, m *Mirrors, dir, url string) error {
	_, _, err := m.run(ctx, command{dir: dir, url: url, args: []string{
		"-c", "fetch.writeCommitGraph=true",
		"fetch", "--quiet", "--prune", "--no-tags", "--no-write-fetch-head", "--no-auto-maintenance", "--update-shallow",
		"--", url, "+refs/heads/*:refs/heads/*", "+refs/tags/*:refs/tags/*"}})
	if err != nil {
		return err
	}
	_, err = m.git(ctx, dir, "pack-refs", "--all")
	return err
}

func (r *Mirror) setHead(ctx context.Context, dir, head string) error {
	if head == "" {
		return nil
	}
	if now, err := os.ReadFile(filepath.Join(dir, "HEAD")); err == nil && string(now) == "ref: "+head+"\n" {
		return nil
	}
	_, err := r.mirrors.git(ctx, dir, "symbolic-ref", "HEAD", head)
	return err
}

// manyPacks is where a mirror's packs are joined, since each one is looked into
// for an object that is in none.
const manyPacks = 50

// tidy joins small packs. Objects are kept whether a ref leads to them or not.
func (r *Mirror) tidy(ctx context.Context) error {
	packs, err := filepath.Glob(filepath.Join(r.dir, "objects", "pack", "*.pack"))
	if err != nil || len(packs) < manyPacks {
		return err
	}
	if _, err := r.mirrors.git(ctx, r.dir, "repack", "--quiet", "--geometric=2", "-d"); err != nil {
		return fmt.Errorf("joining the packs of the mirror of %s: %w", r.url, err)
	}
	return nil
}

// sweep removes locks and half packs that a killed git left in a repository of
// ours. Nobody else may write there meanwhile.
func sweep(dir string) error {
	err := filepath.WalkDir(dir, func(path string, d fs.DirEntry, err error) error {
		switch name := filepath.Base(path); {
		case errors.Is(err, fs.ErrNotExist):
			return nil
		case err != nil:
			return err
		case d.IsDir() && len(name) == 2 && filepath.Base(filepath.Dir(path)) == "objects":
			return fs.SkipDir
		case !d.IsDir() && (strings.HasSuffix(name, ".lock") || strings.HasPrefix(name, "tmp_")):
			return os.Remove(path)
		}
		return nil
	})
	if err != nil {
		return fmt.Errorf("sweeping the repository %s: %w", dir, err)
	}
	return nil
}
