package local

import (
	"context"
	"errors"
	"fmt"
	"path"
	"slices"
	"strings"

	"github.com/errand-dev/errand"
)

// snapshot makes a commit of the working tree as it stands, with what is not
// tracked and not ignored, on top of HEAD. No branch leads to it, and neither the
// index nor a file is touched. Where nothing is uncommitted it is HEAD itself.
func snapshot(ctx context.Context, t tree, message string) (id, head string, err error) {
	if head, err = commit(ctx, t, "HEAD"); err != nil {
		return "", "", err
	}
	if head == "" {
		return "", "", errand.Errorf(errand.Invalid, "no_commit", "There is no commit in %s repository yet. Make a first one.", t.whose())
	}
	index, done, err := t.index(ctx)
	if err != nil {
		return "", "", err
	}
	defer done()
	env := []string{"GIT_INDEX_FILE=" + index}
	if err := merged(ctx, t); err != nil {
		return "", "", err
	}
	if _, err := t.git(ctx, env, "", "-c", "advice.addEmbeddedRepo=false", "add", "--all", ":/"); err != nil {
		return "", "", fmt.Errorf("looking at %s uncommitted work: %w", t.whose(), err)
	}
	tree, err := written(ctx, t, env)
	if err != nil {
		return "", "", err
	}
	if had, err := line(ctx, t, "rev-parse", head+"^{tree}"); err != nil || had == tree {
		return head, head, err
	}
	out, err := t.git(ctx, append(env, "GIT_AUTHOR_NAME=Errand", "GIT_AUTHOR_EMAIL=errand@localhost", "GIT_COMMITTER_NAME=Errand", "GIT_COMMITTER_EMAIL=errand@localhost"),
		message+"\n", "-c", "commit.gpgSign=false", "commit-tree", tree, "-p", head)
	if id = strings.TrimSpace(out); err == nil && !objectID.MatchString(id) {
		err = fmt.Errorf("git commit-tree answers %.80q", id)
	}
	return id, head, err
}

// merged refuses a tree in the middle of a merge: its conflicts are no work that
// could be carried.
func merged(ctx context.Context, t tree) error {
	out, err := t.git(ctx, nil, "", "ls-files", "--unmerged", "-z")
	if err == nil && out != "" {
		err = errand.Errorf(errand.Conflict, "merge_under_way", "A merge with conflicts is under way in %s working tree. Finish or abort it first.", t.whose())
	}
	return err
}

func written(ctx context.Context, t tree, env []string) (string, error) {
	out, err := t.git(ctx, env, "", "write-tree")
	id := strings.TrimSpace(out)
	if err == nil && !objectID.MatchString(id) {
		err = fmt.Errorf("git write-tree answers %.80q", id)
	}
	return id, err
}

// names splits what git prints with -z.
func names(out string) []string {
	out = strings.TrimSuffix(out, "\x00")
	if out == "" {
		return nil
	}
	return strings.Split(out, "\x00")
}

// entries gives what a tree or commit has at paths: "MODE ID" by path.
func entries(ctx context.Context, t tree, id string, paths []string) (map[string]string, error) {
	all := map[string]string{}
	if id == "" || len(paths) == 0 {
		return all, nil
	}
	wanted := map[string]bool{}
	for _, p := range paths {
		wanted[p] = true
	}
	out, err := t.git(ctx, nil, "", "ls-tree", "-r", "-z", "--full-tree", id)
	for _, entry := range names(out) {
		meta, path, _ := strings.Cut(entry, "\t")
		if f := strings.Fields(meta); len(f) == 3 && wanted[path] {
			all[path] = f[0] + " " + f[2]
		}
	}
	return all, err
}

// lay puts into the working tree of t what a commit changes in another, from to
// to; HEAD and the index stay. known is the last that went between the two ends,
// "" where nothing has: what t has of that is no work of its own. A path that t has
// otherwise is a Conflict, and then nothing is laid. It gives the paths that it
// changed.
func lay(ctx context.Context, t tree, from, to, known string) ([]string, error) {
	out, err := t.git(ctx, nil, "", "diff-tree", "-r", "-z", "--no-renames", "--name-only", from, to)
	paths := names(out)
	if err != nil || len(paths) == 0 {
		return nil, err
	}
	if err := merged(ctx, t); err != nil {
		return nil, err
	}
	index, done, err := t.index(ctx)
	if err != nil {
		return nil, err
	}
	defer done()
	env := []string{"GIT_INDEX_FILE=" + index}
	if err := look(ctx, t, env, from, paths); err != nil {
		return nil, fmt.Errorf("comparing with %s working tree: %w", t.whose(), err)
	}
	mine, err := written(ctx, t, env)
	if err != nil {
		return nil, err
	}
	news, err := decide(ctx, t, paths, mine, from, to, known)
	if err != nil || len(news) == 0 {
		return nil, err
	}
	return replace(ctx, t, env, mine, news)
}

// look brings the index of env to what the working tree has at paths.
func look(ctx context.Context, t tree, env []string, from string, paths []string) error {
	at := func(paths []string) error {
		_, err := t.git(ctx, env, strings.Join(paths, "\x00")+"\x00", "update-index", "--add", "--remove", "--replace", "-z", "--stdin")
		return err
	}
	err := at(paths)
	if f := (*failure)(nil); !errors.As(err, &f) {
		return err
	}
	if paths, err = withoutFolders(ctx, t, from, paths); err != nil {
		return err
	}
	return at(paths)
}

// withoutFolders leaves out what becomes a file and was a folder: as a file it
// cannot be compared.
func withoutFolders(ctx context.Context, t tree, from string, paths []string) ([]string, error) {
	folders := map[string]bool{}
	for _, p := range paths {
		for dir := path.Dir(p); dir != "."; dir = path.Dir(dir) {
			folders[dir] = true
		}
	}
	var both []string
	for _, p := range paths {
		if folders[p] {
			both = append(both, p)
		}
	}
	was, err := entries(ctx, t, from, both)
	return slices.DeleteFunc(slices.Clone(paths), func(p string) bool { return folders[p] && was[p] == "" }), err
}

// decide gives what is to be laid: "MODE ID" by path, "" for what goes.
func decide(ctx context.Context, t tree, paths []string, mine, from, to, known string) (map[string]string, error) {
	if known != "" { // it may have been pruned
		var err error
		if known, err = commit(ctx, t, known); err != nil {
			return nil, err
		}
	}
	var at [4]map[string]string
	for i, id := range []string{mine, from, to, known} {
		var err error
		if at[i], err = entries(ctx, t, id, paths); err != nil {
			return nil, err
		}
	}
	news, conflicts := map[string]string{}, []string(nil)
	for _, p := range paths {
		has, was, new, last := at[0][p], at[1][p], at[2][p], at[3][p]
		switch {
		case has == new:
		case has == was, known != "" && has == last:
			news[p] = new
		case known != "" && new == last: // what came before; only this end has changed it
		default:
			conflicts = append(conflicts, p)
		}
	}
	if len(conflicts) > 0 {
		return nil, overlap(t, conflicts)
	}
	return news, nil
}

// overlap is the error of work that would be lost.
func overlap(t tree, paths []string) error {
	slices.Sort(paths)
	const most = 10
	list := paths
	if len(list) > most {
		list = list[:most]
	}
	more := ""
	if n := len(paths) - len(list); n > 0 {
		more = fmt.Sprintf(" and %d more", n)
	}
	return errand.Errorf(errand.Conflict, "would_overwrite", "%s%s working tree has other changes in %s%s, which would be lost. Commit or undo them there first; nothing was changed.",
		strings.ToUpper(t.whose()[:1]), t.whose()[1:], strings.Join(list, ", "), more)
}

// replace brings the working tree from mine, as the index of env has it, to the
// same with news.
func replace(ctx context.Context, t tree, env []string, mine string, news map[string]string) ([]string, error) {
	var paths []string
	for p := range news {
		paths = append(paths, p)
	}
	slices.Sort(paths)
	var gone, come strings.Builder
	for _, p := range paths {
		if news[p] == "" {
			fmt.Fprintf(&gone, "0 %s\t%s\x00", strings.Repeat("0", len(mine)), p)
		} else {
			fmt.Fprintf(&come, "%s\t%s\x00", news[p], p)
		}
	}
	other, done, err := t.index(ctx)
	if err != nil {
		return nil, err
	}
	defer done()
	to := []string{"GIT_INDEX_FILE=" + other}
	if _, err := t.git(ctx, to, "", "read-tree", mine); err != nil {
		return nil, err
	}
	// What goes comes first: a folder may stand where a file did.
	if _, err := t.git(ctx, to, gone.String()+come.String(), "update-index", "--add", "-z", "--index-info"); err != nil {
		return nil, err
	}
	target, err := written(ctx, t, to)
	if err != nil {
		return nil, err
	}
	if _, err := t.git(ctx, env, "", "read-tree", "-m", "-u", mine, target); err != nil {
		return nil, fmt.Errorf("changing %s working tree: %w", t.whose(), err)
	}
	return paths, nil
}

// advance moves the branch that is checked out in t forward to a commit, with the
// working tree. Changes there stay, or are a Conflict; see lay for known.
func advance(ctx context.Context, t tree, to, known string) error {
	head, err := commit(ctx, t, "HEAD")
	if err != nil || head == to {
		return err
	}
	if _, err := t.git(ctx, nil, "", "merge", "--ff-only", "--quiet", to); err == nil {
		return nil
	}
	if out, err := t.git(ctx, nil, "", "diff-index", "--cached", "--name-only", "-z", head); err != nil || out != "" {
		if err == nil {
			err = errand.Errorf(errand.Conflict, "would_overwrite", "%s is staged in %s working tree, where a newer commit is to go. Commit or unstage it first (git restore --staged .); nothing was changed.", strings.Join(names(out), ", "), t.whose())
		}
		return err
	}
	if _, err := lay(ctx, t, head, to, known); err != nil {
		return err
	}
	// Killed before this, the tree has the commit's files as its changes.
	_, err = t.git(ctx, nil, "", "reset", "--quiet", to)
	return err
}
