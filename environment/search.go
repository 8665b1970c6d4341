package environment

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"path"
	"runtime"
	"slices"
	"strings"
	"sync"

	"golang.org/x/sync/errgroup"

	"github.com/errand-dev/errand"
	"github.com/errand-dev/errand/machine"
)

// leak is a file on a disk that holds a secret.
type leak struct{ path, name string }

// mostLeaks is how many files are told of; the search ends there.
const mostLeaks = 5

// search looks for the agent's secrets in all that was written on the disk,
// with the machine at rest. It costs nothing where there are none.
func (w *work) search(ctx context.Context) ([]leak, error) {
	if w.Guarded == nil {
		return nil, nil
	}
	changes, ok := w.machine.(machine.Changes)
	if !ok {
		return nil, errors.New("this kind of machine does not show its disk, which may hold secrets")
	}
	if h, ok := w.machine.(machine.Hibernator); ok {
		if err := h.Hibernate(ctx); err != nil {
			return nil, fmt.Errorf("stopping the machine to look at its disk: %w", err)
		}
	}
	s := &searching{work: w}
	err := changes.Changes(ctx, func(at string, written fs.FS) error { return s.tree(ctx, at, written) })
	if err != nil && !errors.Is(err, errEnough) {
		return nil, fmt.Errorf("looking for secrets on the disk: %w", err)
	}
	slices.SortFunc(s.leaks, func(a, b leak) int { return strings.Compare(a.path+a.name, b.path+b.name) })
	return s.leaks, nil
}

// searching is a search under way.
type searching struct {
	*work
	mu    sync.Mutex
	leaks []leak
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
		if entry.Type().IsRegular() {
			reading.Go(func() error { return s.file(written, name, path.Join(at, name)) })
		}
		return nil
	})
	if err := reading.Wait(); err != nil {
		return err
	}
	return walkErr
}

func (s *searching) file(written fs.FS, name, shown string) error {
	f, err := written.Open(name)
	if err != nil {
		return err
	}
	defer f.Close()
	found, err := s.Guarded.Find(f)
	if err != nil {
		return fmt.Errorf("reading %s: %w", shown, err)
	}
	named, err := s.Guarded.Find(strings.NewReader(path.Base(shown)))
	if err != nil {
		return err
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	for _, x := range append(found, named...) {
		if len(s.leaks) == mostLeaks {
			return errEnough
		}
		s.leaks = append(s.leaks, leak{s.Guarded.Hide(shown), x.Name})
	}
	return nil
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
