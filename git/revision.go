package git

import (
	"bufio"
	"bytes"
	"context"
	"fmt"
	"io"
	"path"
	"regexp"
	"slices"
	"strconv"
	"strings"

	"github.com/errand-dev/errand"
)

// DefaultBranch is the branch that the remote's HEAD names, or the likeliest
// one where it names none. A repository without a commit is an Invalid error.
func (r *Mirror) DefaultBranch(ctx context.Context) (string, error) {
	out, err := r.mirrors.git(ctx, r.dir, "symbolic-ref", "--quiet", "HEAD")
	if err != nil {
		return "", fmt.Errorf("reading the default branch of %s: %w", r.url, err)
	}
	branch := strings.TrimPrefix(strings.TrimSpace(string(out)), "refs/heads/")
	found, err := r.look(ctx, "refs/heads/"+branch+"^{commit}")
	if err != nil {
		return "", err
	}
	if found[0].kind != "commit" {
		return "", errand.Errorf(errand.Invalid, "invalid_branch_name",
			"The repository %s has no commit yet. Push a first commit to it, or name an existing branch.", r.url)
	}
	return branch, nil
}

// Resolve finds what ref names: a branch (with or without refs/heads/ or
// origin/), a tag, or a commit by its full or shortened id; "" and "HEAD" are
// the default branch. A name that is both a branch and a tag is the branch.
// branch is "" when ref is not a branch. What is not there is an Invalid error
// with the code invalid_branch_name that lists names like it. It looks in the
// mirror only; Fetch first.
func (r *Mirror) Resolve(ctx context.Context, ref string) (commit, branch string, err error) {
	if ref == "" || ref == "HEAD" {
		if ref, err = r.DefaultBranch(ctx); err != nil {
			return "", "", err
		}
		ref = "refs/heads/" + ref
	}
	if !validRef(ref) {
		return "", "", errand.Errorf(errand.Invalid, "invalid_branch_name",
			"%q cannot be the name of a branch, a tag or a commit. Give one that the repository has, or leave it out for the default branch.", clip(ref))
	}
	places := r.places(ref)
	found, err := r.look(ctx, places...)
	if err != nil {
		return "", "", err
	}
	for i, f := range found {
		if f.kind != "commit" {
			continue
		}
		branch, _ = strings.CutPrefix(strings.TrimSuffix(places[i], "^{commit}"), "refs/heads/")
		if !strings.HasPrefix(places[i], "refs/heads/") {
			branch = ""
		}
		return f.id, branch, nil
	}
	return "", "", r.unknownRef(ctx, ref)
}

var hexID = regexp.MustCompile(`^[0-9a-fA-F]{4,64}$`)

// places lists, in order, where a ref could be.
func (r *Mirror) places(ref string) []string {
	var names []string
	if strings.HasPrefix(ref, "refs/") {
		names = append(names, ref)
	} else {
		names = append(names, "refs/heads/"+ref, "refs/tags/"+ref)
		if short, ok := strings.CutPrefix(ref, "origin/"); ok {
			names = append(names, "refs/heads/"+short)
		}
		if hexID.MatchString(ref) {
			names = append(names, strings.ToLower(ref))
		}
	}
	for i := range names {
		names[i] += "^{commit}"
	}
	return names
}

// unknownRef names what the person may have meant.
func (r *Mirror) unknownRef(ctx context.Context, ref string) error {
	refs, err := r.refs(ctx)
	if err != nil {
		return err
	}
	near := nearest(refs, ref, 3)
	hint := ""
	switch {
	case len(refs) == 0:
		hint = " The repository has no commit yet; push a first one to it."
	case len(near) > 0:
		hint = " Did you mean " + strings.Join(near, ", ") + "?"
	case hexID.MatchString(ref):
		hint = " A commit must be reachable from a branch or a tag of the repository; push it first."
	default:
		hint = " Leave the ref out for the default branch."
	}
	return errand.Errorf(errand.Invalid, "invalid_branch_name", "The repository %s has no branch, tag or commit %q.%s", r.url, clip(ref), hint)
}

// nearest gives up to n short names of refs that look like name.
func nearest(refs map[string]string, name string, n int) []string {
	name = strings.ToLower(shortRef(name))
	type near struct {
		name string
		far  int
	}
	var all []near
	for ref := range refs {
		short := shortRef(ref)
		low := strings.ToLower(short)
		far := distance(low, name)
		if strings.Contains(low, name) || strings.Contains(name, low) {
			far = min(far, 2)
		}
		if far <= max(2, len(name)/3) {
			all = append(all, near{short, far})
		}
	}
	slices.SortFunc(all, func(a, b near) int {
		if a.far != b.far {
			return a.far - b.far
		}
		return strings.Compare(a.name, b.name)
	})
	var names []string
	for _, a := range all {
		if !slices.Contains(names, a.name) && len(names) < n {
			names = append(names, a.name)
		}
	}
	return names
}

func shortRef(ref string) string {
	for _, prefix := range []string{"refs/heads/", "refs/tags/", "origin/"} {
		if short, ok := strings.CutPrefix(ref, prefix); ok {
			return short
		}
	}
	return ref
}

// distance is how many bytes must be put in, taken out or changed to make b of
// a. Long names are not worth the time.
func distance(a, b string) int {
	if len(a) > 100 || len(b) > 100 {
		return 100
	}
	row := make([]int, len(b)+1)
	for j := range row {
		row[j] = j
	}
	for i := 1; i <= len(a); i++ {
		diagonal := row[0]
		row[0] = i
		for j := 1; j <= len(b); j++ {
			cost := diagonal
			if a[i-1] != b[j-1] {
				cost++
			}
			diagonal = row[j]
			row[j] = min(cost, row[j]+1, row[j-1]+1)
		}
	}
	return row[len(b)]
}

// validRef says whether git would take name as a ref or an id; it is what
// `git check-ref-format --allow-onelevel` checks.
func validRef(name string) bool {
	if name == "" || len(name) > 250 || name == "@" || strings.HasPrefix(name, "-") ||
		strings.HasSuffix(name, ".") || strings.Contains(name, "..") || strings.Contains(name, "@{") {
		return false
	}
	for _, r := range name {
		if r <= ' ' || r == 0x7f || strings.ContainsRune(`~^:?*[\`, r) {
			return false
		}
	}
	for part := range strings.SplitSeq(name, "/") {
		if part == "" || strings.HasPrefix(part, ".") || strings.HasSuffix(part, ".lock") {
			return false
		}
	}
	return true
}

// clip bounds a value that goes back to its sender.
func clip(s string) string {
	if len(s) > 100 {
		return s[:100] + "…"
	}
	return s
}

// object is what git says of a name: its id, kind and size. kind is "" when
// there is none.
type object struct {
	id   string
	kind string
	size int64
}

// look asks for many names at once; names hold no line breaks.
func (r *Mirror) look(ctx context.Context, names ...string) ([]object, error) {
	out, _, err := r.mirrors.run(ctx, command{dir: r.dir, args: []string{"cat-file", "--batch-check"},
		stdin: strings.NewReader(strings.Join(names, "\n") + "\n")})
	if err != nil {
		return nil, fmt.Errorf("looking into the mirror of %s: %w", r.url, err)
	}
	var found []object
	for line := range strings.Lines(string(out)) {
		found = append(found, parseObject(line))
	}
	if len(found) != len(names) {
		return nil, fmt.Errorf("looking into the mirror of %s: %d answers to %d questions", r.url, len(found), len(names))
	}
	return found, nil
}

// parseObject reads "<id> <kind> <size>"; whatever else git answers (missing,
// ambiguous, dangling) is no object.
func parseObject(line string) object {
	f := strings.Fields(line)
	if len(f) != 3 || !hexID.MatchString(f[0]) {
		return object{}
	}
	size, err := strconv.ParseInt(f[2], 10, 64)
	if err != nil {
		return object{}
	}
	return object{f[0], f[1], size}
}

// maxFile bounds what ReadFile gives.
const maxFile = 4 << 20

// ReadFile gives the file called name in a commit. A symbolic link is followed
// inside the commit. NotFound when there is no such file (also for a directory,
// and for a link that leads nowhere), TooLarge above 4 MiB.
func (r *Mirror) ReadFile(ctx context.Context, commit, name string) ([]byte, error) {
	none := errand.Errorf(errand.NotFound, "file_not_found", "The commit %s of %s has no file %q.", clip(commit), r.url, clip(name))
	at, ok := inTree(name)
	if !hexID.MatchString(commit) || !ok || at == "" {
		return nil, none
	}
	var out limited
	out.max = maxFile + 200
	_, _, err := r.mirrors.run(ctx, command{dir: r.dir, args: []string{"cat-file", "--batch", "--follow-symlinks"},
		stdin: strings.NewReader(commit + ":" + at + "\n"), stdout: &out})
	if err != nil && !out.full {
		return nil, fmt.Errorf("reading %s of %s: %w", name, r.url, err)
	}
	content := bufio.NewReader(&out.buf)
	header, err := content.ReadString('\n')
	if err != nil {
		return nil, fmt.Errorf("reading %s of %s: %w", name, r.url, err)
	}
	o := parseObject(header)
	if o.kind != "blob" {
		return nil, none
	}
	if o.size > maxFile {
		return nil, errand.Errorf(errand.TooLarge, "file_too_large", "The file %q in %s has %d bytes; at most %d can be read.", clip(name), r.url, o.size, maxFile)
	}
	file := make([]byte, o.size)
	if _, err := io.ReadFull(content, file); err != nil {
		return nil, fmt.Errorf("reading %s of %s: %w", name, r.url, err)
	}
	return file, nil
}

// inTree gives a path as git names it below a commit, "" for the whole tree.
func inTree(name string) (string, bool) {
	name = path.Clean("./" + strings.TrimLeft(name, "/"))
	if name == "." {
		name = ""
	}
	return name, name != ".." && !strings.HasPrefix(name, "../") && !strings.ContainsAny(name, "\n\x00")
}

// limited ends the git that writes to it once it is full.
type limited struct {
	buf  bytes.Buffer
	max  int
	full bool
}

func (l *limited) Write(p []byte) (int, error) {
	if l.buf.Len()+len(p) > l.max {
		l.full = true
		return 0, io.ErrShortWrite
	}
	return l.buf.Write(p)
}

// Tree lists all files of a commit: slash-separated path to object id. A
// submodule is there with the commit it stands at.
func (r *Mirror) Tree(ctx context.Context, commit string) (map[string]string, error) {
	if !hexID.MatchString(commit) {
		return nil, errand.Errorf(errand.Invalid, "validation_error", "%q is not the id of a commit.", clip(commit))
	}
	out, err := r.mirrors.git(ctx, r.dir, "ls-tree", "-r", "-z", "--full-tree", commit)
	if err != nil {
		return nil, fmt.Errorf("listing %s of %s: %w", commit, r.url, err)
	}
	tree := map[string]string{}
	for entry := range bytes.SplitSeq(out, []byte{0}) {
		meta, path, ok := strings.Cut(string(entry), "\t")
		if f := strings.Fields(meta); ok && len(f) == 3 {
			tree[path] = f[2]
		}
	}
	return tree, nil
}

// TreeID is the object id of what a commit has at name, a file or a directory;
// "" or "." is the whole tree. It changes exactly when something below it
// does. NotFound when there is nothing.
func (r *Mirror) TreeID(ctx context.Context, commit, name string) (string, error) {
	none := errand.Errorf(errand.NotFound, "file_not_found", "The commit %s of %s has nothing at %q.", clip(commit), r.url, clip(name))
	at, ok := inTree(name)
	if !hexID.MatchString(commit) || !ok {
		return "", none
	}
	found, err := r.look(ctx, commit+":"+at)
	if err != nil {
		return "", err
	}
	if found[0].kind == "" {
		return "", none
	}
	return found[0].id, nil
}
