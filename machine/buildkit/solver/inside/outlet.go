package inside

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"sync"

	"github.com/containerd/containerd/v2/core/content"
	"github.com/containerd/containerd/v2/plugins/content/local"
	"github.com/containerd/errdefs"
	"github.com/opencontainers/go-digest"

	"github.com/errand-dev/errand/image"
	"github.com/errand-dev/errand/machine/buildkit/solver"
)

// outlet is what the daemon hands an image over to.
type outlet struct {
	content.Store
	known string // as solver.Solve has it
	space *space
}

// space keeps the host's reserve free while an image is handed over, which is as
// large as its build made it.
type space struct {
	dir     string
	reserve int64

	mu    sync.Mutex
	since int64 // bytes that were written since the disk was last looked at
	err   error // why no more is taken; the daemon would tell it in its own words
}

// stride is how many bytes are written between two looks at the disk.
const stride = 64 << 20

var errFull = errors.New("the disk is nearly full")

func (s *space) take(n int) error {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.since += int64(n); s.since >= stride && s.err == nil {
		s.since = 0
		free, err := image.Free(s.dir)
		if err == nil && free < s.reserve {
			err = errFull
		}
		s.err = err
	}
	return s.err
}

// refused says why no more was taken; nil where all was.
func (s *space) refused() error {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.err
}

// blob is one that is being handed over.
type blob struct {
	content.Writer
	space *space
}

func (b blob) Write(p []byte) (int, error) {
	if err := b.space.take(len(p)); err != nil {
		return 0, err
	}
	return b.Writer.Write(p)
}

func newOutlet(in *solver.Solve) (outlet, error) {
	store, err := local.NewStore(in.Out)
	if err != nil {
		return outlet{}, fmt.Errorf("making room for an image: %w", err)
	}
	return outlet{store, in.Known, &space{dir: in.Out, reserve: in.Reserve}}, nil
}

// has says whether a layer is not to be handed over again.
func (o outlet) has(d digest.Digest) bool {
	if o.known == "" || d.Validate() != nil {
		return false
	}
	_, err := os.Stat(filepath.Join(o.known, d.Encoded()))
	return err == nil
}

// Writer takes one blob, unless it is known.
func (o outlet) Writer(ctx context.Context, opts ...content.WriterOpt) (content.Writer, error) {
	var w content.WriterOpts
	for _, opt := range opts {
		if err := opt(&w); err != nil {
			return nil, err
		}
	}
	if o.has(w.Desc.Digest) {
		return nil, fmt.Errorf("layer %s: %w", w.Desc.Digest, errdefs.ErrAlreadyExists)
	}
	to, err := o.Store.Writer(ctx, opts...)
	if err != nil {
		return nil, err
	}
	return blob{to, o.space}, nil
}
