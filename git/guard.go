package git

import (
	"bufio"
	"bytes"
	"cmp"
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"sync"
)

// Guard looks through what a push adds for what must not leave.
type Guard struct {
	// Find reads a stream to its end and gives what it found.
	Find func(io.Reader) ([]Found, error)
	// Hide takes what Find finds out of a text.
	Hide func(string) string
}

// Found is a secret that stands where it should not.
type Found struct {
	Name   string // of the secret
	Line   int    // from 1; 0 with Packed
	Packed bool   // in what is compressed
}

// leak is a place in a push where a secret stands.
type leak struct {
	Found
	object string // a blob's, tree's or commit's id
	kind   string // "blob", "tree", "commit"
	path   string // of a blob or tree
	commit string // that added it; "" if that is not known
}

// mostLeaks is how many places of one push are told.
const mostLeaks = 5

// maxName bounds the path of a file in a push, in bytes. No system has so long
// ones, but a tree may.
const maxName = 16 << 10

var errName = fmt.Errorf("a file's name has more than %d bytes", maxName)

// quarantine is a directory for the objects of a push that the remote has not
// taken yet: packs only, as receive.unpackLimit makes sure. What is refused goes
// away with it.
type quarantine struct {
	dir string
	env []string // makes git write there, and see what the repository has
}

// isolate makes a quarantine for a push into the repository at dir.
func isolate(dir string) (*quarantine, error) {
	q := filepath.Join(dir, "quarantine")
	if err := os.RemoveAll(q); err != nil { // left by a kill
		return nil, fmt.Errorf("making room for a push: %w", err)
	}
	if err := os.MkdirAll(filepath.Join(q, "pack"), 0o755); err != nil {
		return nil, fmt.Errorf("making room for a push: %w", err)
	}
	return &quarantine{dir: q, env: []string{
		"GIT_OBJECT_DIRECTORY=" + q, "GIT_ALTERNATE_OBJECT_DIRECTORIES=" + filepath.Join(dir, "objects"),
	}}, nil
}

// release lets the objects into the repository: packs only, an index last, so
// that git never sees half a pack.
func (q *quarantine) release(dir string) error {
	entries, err := os.ReadDir(filepath.Join(q.dir, "pack"))
	if err != nil {
		return fmt.Errorf("taking a push: %w", err)
	}
	var names []string
	for _, e := range entries {
		names = append(names, e.Name())
	}
	slices.SortFunc(names, func(a, b string) int {
		return cmp.Compare(strings.Count(a, ".idx"), strings.Count(b, ".idx"))
	})
	to := filepath.Join(dir, "objects", "pack")
	if err := os.MkdirAll(to, 0o755); err != nil {
		return fmt.Errorf("taking a push: %w", err)
	}
	for _, name := range names {
		if err := os.Rename(filepath.Join(q.dir, "pack", name), filepath.Join(to, name)); err != nil {
			return fmt.Errorf("taking a push: %w", err)
		}
	}
	return nil
}

func (q *quarantine) drop() error { return os.RemoveAll(q.dir) }

// inspect looks through all that id adds to what the remote has: files, their
// names, and what commits say. A file that had the secret at the same place
// before is not the push's doing.
func (b *broker) inspect(ctx context.Context, dir, id string, q *quarantine, g *Guard) ([]leak, error) {
	leaks, err := b.sift(ctx, dir, id, q, g, b.before(ctx, dir, id, q, g))
	for i, l := range leaks {
		leaks[i].commit = b.addedBy(ctx, dir, id, q, l)
	}
	return leaks, err
}

// added are the arguments that choose what id adds.
func added(id string) []string { return []string{id, "--not", "--branches", "--alternate-refs"} }

// sift gives the first places in new objects where a secret stands that is not
// known there. git lists the objects and hands them over one after another; none
// is kept.
func (b *broker) sift(ctx context.Context, dir, id string, q *quarantine, g *Guard, known func(leak) (bool, error)) ([]leak, error) {
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	names := make(chan string, 1024)
	wantR, wantW := io.Pipe()
	haveR, haveW := io.Pipe()
	listed, handed := make(chan error, 1), make(chan error, 1)
	go func() {
		_, _, err := b.mirrors.run(ctx, command{dir: dir, env: q.env, args: append([]string{"rev-list", "--objects"}, added(id)...), stdout: &listing{ctx: ctx, names: names, ids: wantW}})
		close(names)
		wantW.CloseWithError(err) // nil is the end
		listed <- err
	}()
	go func() {
		_, _, err := b.mirrors.run(ctx, command{dir: dir, env: q.env, args: []string{"cat-file", "--batch"}, stdin: wantR, stdout: haveW})
		haveW.CloseWithError(err)
		handed <- err
	}()
	leaks, err := siftObjects(bufio.NewReaderSize(haveR, 64<<10), names, g, known)
	cancel()
	haveR.Close()
	wantR.Close()
	for range names { // nobody waits to tell more
	}
	listErr, handErr := <-listed, <-handed
	if err == nil && len(leaks) < mostLeaks {
		err = cmp.Or(listErr, handErr)
	}
	if err != nil {
		return nil, fmt.Errorf("looking through a push: %w", err)
	}
	return leaks, nil
}

// listing takes git's list of objects apart: ids for the one side, names for
// the other, in the same order.
type listing struct {
	ctx   context.Context
	names chan<- string
	ids   io.Writer
	rest  []byte
}

func (l *listing) Write(p []byte) (int, error) {
	for rest := p; ; {
		part, after, whole := bytes.Cut(rest, []byte("\n"))
		if len(l.rest)+len(part) > maxName {
			return 0, errName
		}
		l.rest = append(l.rest, part...)
		if !whole {
			return len(p), nil
		}
		id, name, _ := strings.Cut(string(l.rest), " ")
		l.rest, rest = l.rest[:0], after
		select {
		case l.names <- name:
		case <-l.ctx.Done():
			return 0, l.ctx.Err()
		}
		if _, err := io.WriteString(l.ids, id+"\n"); err != nil {
			return 0, err
		}
	}
}

// siftObjects reads objects until the end or until mostLeaks are found. What is
// known does not count: it must not hide what stands behind it.
func siftObjects(r *bufio.Reader, names <-chan string, g *Guard, known func(leak) (bool, error)) ([]leak, error) {
	var leaks []leak
	for len(leaks) < mostLeaks {
		header, err := r.ReadString('\n')
		if errors.Is(err, io.EOF) && header == "" {
			return leaks, nil
		}
		if err != nil {
			return nil, err
		}
		name := <-names
		f := strings.Fields(header)
		if len(f) != 3 {
			return nil, fmt.Errorf("git answered %q", clip(header))
		}
		size, err := strconv.ParseInt(f[2], 10, 64)
		if err != nil {
			return nil, err
		}
		content := io.LimitReader(r, size)
		if f[1] == "tree" {
			content = &treeNames{r: bufio.NewReader(content), id: len(f[0]) / 2}
		}
		found, err := g.Find(content)
		if err != nil {
			return nil, err
		}
		if _, err := io.CopyN(io.Discard, r, 1); err != nil { // the line break after the content
			return nil, err
		}
		for _, x := range found {
			l := leak{Found: x, object: f[0], kind: f[1], path: name}
			had, err := known(l)
			if err != nil {
				return nil, err
			}
			if !had {
				leaks = append(leaks, l)
			}
		}
	}
	return leaks[:mostLeaks], nil
}

// treeNames reads the names in a tree, with a zero byte after each.
type treeNames struct {
	r     *bufio.Reader
	id    int // bytes of an object's id
	entry []byte
	left  []byte // of entry
}

func (t *treeNames) Read(p []byte) (int, error) {
	for len(t.left) == 0 {
		if err := t.next(); err != nil {
			return 0, err
		}
		if _, err := t.r.Discard(t.id); err != nil {
			return 0, err
		}
		_, t.left, _ = bytes.Cut(t.entry, []byte(" "))
	}
	n := copy(p, t.left)
	t.left = t.left[n:]
	return n, nil
}

// next reads the mode and the name of one entry.
func (t *treeNames) next() error {
	for t.entry = t.entry[:0]; ; {
		part, err := t.r.ReadSlice(0)
		if len(t.entry)+len(part) > maxName {
			return errName
		}
		t.entry = append(t.entry, part...)
		if !errors.Is(err, bufio.ErrBufferFull) {
			return err
		}
	}
}

// edges gives the commits that the remote has and the push builds on.
func (b *broker) edges(ctx context.Context, dir, id string, q *quarantine) ([]string, error) {
	out, _, err := b.mirrors.run(ctx, command{dir: dir, env: q.env, args: append([]string{"rev-list", "--boundary"}, added(id)...)})
	if err != nil {
		return nil, fmt.Errorf("looking through a push: %w", err)
	}
	var edges []string
	for line := range strings.Lines(string(out)) {
		if edge, ok := strings.CutPrefix(strings.TrimSpace(line), "-"); ok && len(edges) < 8 {
			edges = append(edges, edge)
		}
	}
	return edges, nil
}

// before gives a function that says whether a leak is none of the push's doing.
// It remembers those, which are no more than the remote has.
func (b *broker) before(ctx context.Context, dir, id string, q *quarantine, g *Guard) func(leak) (bool, error) {
	type place struct{ path, secret string }
	known := map[place]bool{}
	edges := sync.OnceValues(func() ([]string, error) { return b.edges(ctx, dir, id, q) })
	return func(l leak) (bool, error) {
		at := place{l.path, l.Name}
		if l.kind != "blob" || known[at] {
			return l.kind == "blob", nil
		}
		from, err := edges()
		if err != nil {
			return false, err
		}
		had, err := b.hadBefore(ctx, dir, from, q, l, g)
		if had {
			known[at] = true
		}
		return had, err
	}
}

// hadBefore says whether a file had the same secret before the push.
func (b *broker) hadBefore(ctx context.Context, dir string, edges []string, q *quarantine, l leak, g *Guard) (bool, error) {
	for _, edge := range edges {
		r, w := io.Pipe()
		ended := make(chan struct{})
		go func() {
			defer close(ended)
			_, _, err := b.mirrors.run(ctx, command{dir: dir, env: q.env, args: []string{"cat-file", "blob", edge + ":" + l.path}, stdout: w})
			if exit := (*exitError)(nil); errors.As(err, &exit) && ctx.Err() == nil {
				err = nil // it was not there
			}
			w.CloseWithError(err)
		}()
		found, err := g.Find(r)
		r.Close()
		<-ended
		if err != nil {
			return false, fmt.Errorf("looking through a push: %w", err)
		}
		if slices.ContainsFunc(found, func(f Found) bool { return f.Name == l.Name }) {
			return true, nil
		}
	}
	return false, nil
}

// addedBy gives the commit that brought an object in, "" if git does not say.
func (b *broker) addedBy(ctx context.Context, dir, id string, q *quarantine, l leak) string {
	if l.kind == "commit" {
		return l.object
	}
	out, _, err := b.mirrors.run(ctx, command{dir: dir, env: q.env, args: append([]string{"log", "-m", "-t", "--format=%H", "--find-object=" + l.object}, added(id)...)})
	if err != nil {
		return ""
	}
	lines := strings.Fields(string(out))
	if len(lines) == 0 {
		return ""
	}
	return lines[len(lines)-1]
}

// describe gives the leaks in a sentence for the report and in words for whoever
// mends the commits.
func (b *broker) describe(leaks []leak, edge string, g *Guard) (reason, words string) {
	var text strings.Builder
	text.WriteString("This push contains the value of a secret; nothing of it was passed on.\n")
	names := map[string]bool{}
	for _, l := range leaks {
		names[l.Name] = true
		fmt.Fprintf(&text, "  %s: the secret %s\n", l.where(g), l.Name)
	}
	first := leaks[0]
	reason = fmt.Sprintf("%s contains the secret %s; take it out of the commits themselves, then push again", first.where(g), first.Name)
	if more := len(leaks) - 1; more > 0 {
		reason = fmt.Sprintf("%s contains the secret %s, and there are %d more; take them out of the commits themselves, then push again", first.where(g), first.Name, more)
	}
	text.WriteString("A commit on top that removes it is not enough: the earlier one would still be pushed. Make the commits anew:\n")
	fmt.Fprintf(&text, "  git reset --soft %s\n", cmp.Or(edge, "COMMIT-BEFORE"))
	text.WriteString("  (take the value out; what runs here finds it in the variable of that name)\n")
	fmt.Fprintf(&text, "  git commit -a && git push origin HEAD:%s", b.grant.Branch)
	return reason, text.String()
}

// where says where a leak is, for people. The name of a file comes from the
// machine and may itself hold the secret.
func (l leak) where(g *Guard) string {
	commit := ""
	if l.commit != "" {
		commit = fmt.Sprintf(" in commit %.12s", l.commit)
	}
	path := clip(strings.Map(func(r rune) rune {
		if r < ' ' || r == 0x7f {
			return '?'
		}
		return r
	}, g.Hide(l.path)))
	switch l.kind {
	case "blob":
		if l.Packed {
			return fmt.Sprintf("%s, in what it has compressed%s", path, commit)
		}
		return fmt.Sprintf("%s, line %d%s", path, l.Line, commit)
	case "tree":
		return fmt.Sprintf("the name of a file in the folder %q%s", cmp.Or(path, "."), commit)
	}
	return fmt.Sprintf("the message of commit %.12s", l.object)
}
