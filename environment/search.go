package environment

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"path"
	"runtime"
	"slices"
	"strings"
	"sync"

	"golang.org/x/sync/errgroup"

	"github.com/errand-dev/errand"
	"github.com/errand-dev/errand/machine"
	"github.com/errand-dev/errand/secret"
)

// leak is a file on a disk that holds a secret.
type leak struct{ path, name string }

// mostLeaks is how many files are told of; the search ends there.
const mostLeaks = 5

// Clean says whether the disk of m, which is ended, may be kept: it is a
// secret_on_disk error where something that was written on it holds what guarded
// finds; nil finds nothing. It costs nothing where there are no secrets.
func Clean(ctx context.Context, m machine.Machine, guarded *secret.Finder) error {
	leaks, err := search(ctx, m, guarded)
	if err != nil {
		return err
	}
	return secretOnDisk(leaks)
}

// search gives the places on the disk of m, which is ended, that hold what guarded
// finds.
func search(ctx context.Context, m machine.Machine, guarded *secret.Finder) ([]leak, error) {
	if guarded == nil {
		return nil, nil
	}
	changes, ok := m.(machine.Changes)
	if !ok {
		return nil, errors.New("this kind of machine does not show its disk, which may hold secrets")
	}
	if h, ok := m.(machine.Hibernator); ok {
		if err := h.Hibernate(ctx); err != nil {
			return nil, fmt.Errorf("stopping the machine to look at its disk: %w", err)
		}
	}
	s := &searching{finder: guarded}
	err := changes.Changes(ctx, func(at string, written fs.FS) error { return s.tree(ctx, at, written) })
	if err != nil && !errors.Is(err, errEnough) {
		return nil, fmt.Errorf("looking for secrets on the disk: %w", err)
	}
	return s.sorted(), nil
}

// searching is a search under way.
type searching struct {
	finder *secret.Finder
	mu     sync.Mutex
	leaks  []leak
}

func (s *searching) sorted() []leak {
	slices.SortFunc(s.leaks, func(a, b leak) int { return strings.Compare(a.path+a.name, b.path+b.name) })
	return s.leaks
}

// errEnough ends a search that has found more than is told.
var errEnough = errors.New("enough was found")

// tree looks through one tree, as many files at once as there are processors.
func (s *searching) tree(ctx context.Context, at string, written fs.FS) error {
	reading, ctx := errgroup.WithContext(ctx)
	reading.SetLimit(runtime.GOMAXPROCS(0))
	walkErr := fs.WalkDir(written, ".", func(name string, entry fs.DirEntry, err error) error {
		if err != nil {
			return err
		}
		if ctx.Err() != nil {
			return context.Cause(ctx)
		}
		reading.Go(func() error { return s.file(written, name, path.Join(at, name), entry.Type()) })
		return nil
	})
	if err := reading.Wait(); err != nil {
		return err
	}
	return walkErr
}

// file looks through a file, or the name of what is none: of a link also where
// it goes.
func (s *searching) file(written fs.FS, name, shown string, kind fs.FileMode) error {
	content := io.Reader(strings.NewReader(""))
	switch {
	case kind.IsRegular():
		f, err := written.Open(name)
		if err != nil {
			return err
		}
		defer f.Close()
		content = f
	case kind&fs.ModeSymlink != 0:
		to, err := fs.ReadLink(written, name)
		if err != nil {
			return err
		}
		content = strings.NewReader(to)
	}
	found, err := s.look(path.Base(shown), shown, content)
	if err == nil && len(found) > 0 && s.full() {
		return errEnough
	}
	return err
}

// look looks through one file and its name. Where it stands is told as shown.
func (s *searching) look(name, shown string, content io.Reader) ([]secret.Found, error) {
	found, err := s.finder.Find(content)
	if err != nil {
		return nil, fmt.Errorf("reading %s: %w", s.finder.Hide(shown), err)
	}
	named, err := s.finder.Find(strings.NewReader(name))
	if err != nil {
		return nil, err
	}
	found = append(found, named...)
	s.mu.Lock()
	defer s.mu.Unlock()
	for _, x := range found {
		if l := (leak{s.finder.Hide(shown), x.Name}); len(s.leaks) < mostLeaks && !slices.Contains(s.leaks, l) {
			s.leaks = append(s.leaks, l)
		}
	}
	return found, nil
}

func (s *searching) full() bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	return len(s.leaks) == mostLeaks
}

// added looks through what a Dockerfile's build adds.
func (s *searching) added(a machine.Added) (bool, error) {
	shown := cmp.Or(a.Path, a.Setting)
	if step := firstLine(a.Step); step != "" {
		shown += " (" + step + ")"
	}
	name := path.Base(a.Path)
	if a.Path == "" {
		name = ""
	}
	found, err := s.look(name, shown, a.Content)
	return len(found) > 0, err
}

// unkept is the outcome of a disk that is not kept for what it holds.
func (w *work) unkept(leaks []leak) outcome {
	if len(leaks) == 0 {
		return outcome{}
	}
	text := fmt.Sprintf("The disk that install left is not kept, so each agent installs anew: %s. %s", places(leaks), remedy)
	return outcome{note: "not kept: a secret is on the disk", facts: []errand.Fact{warning(text)}}
}

const remedy = "Have install write the variable's name there instead of its value, or remove the file at its end."

func places(leaks []leak) string {
	var all []string
	for _, l := range leaks {
		all = append(all, fmt.Sprintf("%s holds the secret %s", l.path, l.name))
	}
	return strings.Join(all, "; ")
}

// secretOnDisk is the error of a build whose disk cannot be kept; nil where
// nothing was found.
func secretOnDisk(leaks []leak) error {
	if len(leaks) == 0 {
		return nil
	}
	return errand.Errorf(errand.Invalid, "secret_on_disk", "The disk that install left cannot be kept: %s. %s", places(leaks), remedy)
}

// secretInImage is the error of a Dockerfile whose image cannot be kept; nil
// where nothing was found.
func secretInImage(name string, leaks []leak) error {
	if len(leaks) == 0 {
		return nil
	}
	return errand.Errorf(errand.Invalid, "secret_in_image",
		"The image that %s makes cannot be kept: %s. Let the command that needs the value mount it, as in RUN --mount=type=secret,id=%s, and write it to no file, ENV, ARG or LABEL; a file that a later step removes is still in the layer of the earlier one.", name, places(leaks), leaks[0].name)
}
