package inside

import (
	"cmp"
	"errors"
	"io"
	"io/fs"
	"os"
	"path"
	"slices"
	"strings"
	"time"

	"github.com/errand-dev/errand/guest/wire"
)

// Bounds of a walk.
const (
	maxEntries = 500000 // looked at in one walk
	maxInDir   = 100000 // read of one directory
	walkLimit  = 10 * time.Second
)

// errEnough ends a walk early.
var errEnough = errors.New("enough")

// walk goes through the entries below a directory in the order of their paths.
type walk struct {
	root    *os.Root
	depth   int  // levels; negative is all
	ignored bool // also what git ignores
	visit   func(name string, entry fs.DirEntry) error

	seen     int
	deadline time.Time
	cut      bool // a bound ended the walk, or a directory, early
}

// run walks from a directory and says whether it saw everything. A start that
// is a file is the visitor's to handle.
func (w *walk) run(start string) (whole bool, err error) {
	w.deadline = time.Now().Add(walkLimit)
	var ig *ignores
	if !w.ignored {
		for _, dir := range ancestors(start) {
			ig = ig.with(w.root, dir)
		}
	}
	err = w.dir(start, w.depth, ig)
	if errors.Is(err, errEnough) {
		return false, nil
	}
	return !w.cut, err
}

// ancestors gives the directories above dir, outermost first, without dir.
func ancestors(dir string) []string {
	var all []string
	for dir != "." {
		dir = path.Dir(dir)
		all = append(all, dir)
	}
	slices.Reverse(all)
	return all
}

func (w *walk) dir(dir string, depth int, ig *ignores) error {
	if depth == 0 {
		return nil
	}
	entries, err := w.read(dir)
	if err != nil {
		return err
	}
	if !w.ignored {
		ig = ig.with(w.root, dir)
	}
	for _, e := range entries {
		name := path.Join(dir, e.Name())
		if e.Name() == ".git" || !w.ignored && ig.match(name, e.IsDir()) {
			continue
		}
		if w.seen++; w.seen > maxEntries || time.Now().After(w.deadline) {
			return errEnough
		}
		if err := w.visit(name, e); err != nil {
			return err
		}
		if !e.IsDir() {
			continue
		}
		if err := w.dir(name, depth-1, ig); errors.Is(err, errEnough) {
			return err
		}
		// A directory below that cannot be read is passed over.
	}
	return nil
}

// read gives a directory's entries in the order in which their paths sort.
func (w *walk) read(dir string) ([]fs.DirEntry, error) {
	f, err := w.root.Open(dir)
	if err != nil {
		return nil, err
	}
	defer f.Close()
	entries, err := f.ReadDir(maxInDir)
	if err != nil && !errors.Is(err, io.EOF) {
		return nil, err
	}
	w.cut = w.cut || len(entries) == maxInDir
	slices.SortFunc(entries, func(a, b fs.DirEntry) int { return cmp.Compare(a.Name(), b.Name()) })
	return entries, nil
}

const (
	defaultList = 1000
	mostList    = 20000
)

// list gives the entries below a directory.
func list(r *os.Root, dir string, opts wire.ListOptions) (wire.Listing, error) {
	limit := min(cmp.Or(max(opts.Limit, 0), defaultList), mostList)
	depth := opts.Depth
	var glob *globber
	if opts.Glob != "" {
		var err error
		if glob, err = newGlobber(opts.Glob); err != nil {
			return wire.Listing{}, err
		}
		depth = cmp.Or(depth, -1)
	}
	listing := wire.Listing{Entries: []wire.Stat{}}
	w := &walk{root: r, depth: cmp.Or(depth, 1), ignored: opts.Ignored}
	w.visit = func(name string, e fs.DirEntry) error {
		if glob != nil && (e.IsDir() || !glob.match(below(dir, name))) {
			return nil
		}
		if len(listing.Entries) == limit {
			return errEnough
		}
		stat, err := statOf(r, name)
		if err != nil {
			// It went away between being seen and being looked at.
			return nil
		}
		listing.Entries = append(listing.Entries, stat)
		return nil
	}
	whole, err := w.run(dir)
	listing.Truncated = !whole
	slices.SortFunc(listing.Entries, func(a, b wire.Stat) int { return cmp.Compare(a.Path, b.Path) })
	return listing, err
}

// below gives name relative to dir, which it is in.
func below(dir, name string) string {
	if dir == "." {
		return name
	}
	return strings.TrimPrefix(name, dir+"/")
}
