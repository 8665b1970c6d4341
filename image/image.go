// Package image turns the name of an image into directories that a machine's
// disk can stand on.
//
// An image is either an OCI reference, pulled from its registry by digest,
// checked layer by layer and unpacked once; or "host": the system directories
// of this very host, which needs no registry and costs nothing. Three ideas
// carry the package. A layer is a directory in the form overlayfs reads, named
// by the digest of its content, so that images share what they have in common.
// A layer appears by one rename, so that a pull which is cut off at any moment
// leaves nothing that looks whole. And whatever was pulled once is found again
// without a network, by digest exactly and by tag as it last was, until its
// owner removes it.
//
// An image that was built on this host is taken in by Import and has a name
// that no registry is asked for.
//
// The package mounts nothing and knows nothing of machines, and it does not
// build images.
package image

import (
	"context"
	"fmt"
	"log/slog"
	"net"
	"net/http"
	"os"
	"path/filepath"
	"sync"

	"github.com/google/go-containerregistry/pkg/authn"
	"golang.org/x/sync/singleflight"
)

// Host is the name of the image made of the host's own system directories.
const Host = "host"

// Image is what a machine's disk can stand on. Its directories belong to the
// Store and are never written to.
type Image struct {
	// Reference is the image's full name with its digest, or "host".
	Reference string
	// Layers are the directories of the root file system, lowest first, in the
	// form of overlayfs: a whiteout is a 0:0 character device, an opaque
	// directory has the attribute trusted.overlay.opaque. At least one. They can
	// be swept until Sweep is told that they are needed: who stands on them
	// writes that down, and looks whether they are there then.
	Layers []string
	// Trees are directories of the host that stand at the same path in the
	// machine, each below a layer of its own. Only "host" has them.
	Trees []string
	// Env, User and WorkingDir are the image's own settings; "" is root and /.
	Env        []string
	User       string
	WorkingDir string
	// Notice is a sentence for the person who asked, when what they get is not
	// quite what they named; "" otherwise.
	Notice string
}

// Options say where a Store keeps its layers and how it reaches registries.
type Options struct {
	// Dir holds the layers. It is made if it is missing, for root alone. It
	// must be on a file system that overlayfs takes as a lower one.
	Dir string
	// Keychain finds registry credentials; nil is the host's Docker
	// configuration.
	Keychain authn.Keychain
	// Dial opens every connection that a pull makes: to the registry, and to
	// wherever that sends us for a token or a layer. nil is a net.Dialer. It is
	// given "tcp" and a host with a port.
	Dial func(ctx context.Context, network, address string) (net.Conn, error)
	// Reserve is how many bytes a pull leaves free on Dir's file system; 0 is
	// 2 GiB.
	Reserve int64
	Log     *slog.Logger // nil is silent
}

// Store keeps unpacked images in a directory. Its methods may be called at once
// from many goroutines, and from several processes on one directory.
type Store struct {
	opts      Options
	transport *http.Transport    // reaches registries
	pulls     singleflight.Group // by layer digest, so that one pull does the work

	hostMu sync.Mutex     // held while the host image's own layer is made
	after  sync.WaitGroup // layers on their way to the disk, or off it

	open  *os.File // locked, shared, while the store is open
	pinMu sync.Mutex
	pins  map[string]int // layers that pulls under way need, by name
}

// Close waits until all layers are on the disk. The Store must not be used
// afterwards.
func (s *Store) Close() error {
	s.after.Wait()
	s.transport.CloseIdleConnections()
	return s.open.Close()
}

// Open readies the store in opts.Dir and clears what interrupted pulls left.
func Open(opts Options) (*Store, error) {
	if opts.Log == nil {
		opts.Log = slog.New(slog.DiscardHandler)
	}
	if opts.Keychain == nil {
		opts.Keychain = authn.DefaultKeychain
	}
	if opts.Reserve == 0 {
		opts.Reserve = 2 << 30
	}
	dir, err := filepath.Abs(opts.Dir)
	if err != nil {
		return nil, fmt.Errorf("opening image store: %w", err)
	}
	opts.Dir = dir
	s := &Store{opts: opts, transport: newTransport(opts.Dial), pins: map[string]int{}}
	for _, sub := range []string{"layers", "manifests", "tags", "partial"} {
		if err := os.MkdirAll(s.path(sub), 0o700); err != nil {
			return nil, fmt.Errorf("opening image store: %w", err)
		}
	}
	if err := s.enter(); err != nil {
		return nil, fmt.Errorf("opening image store: %w", err)
	}
	if err := s.sweepPartial(); err != nil {
		s.open.Close()
		return nil, fmt.Errorf("opening image store: %w", err)
	}
	return s, nil
}

func (s *Store) path(elem ...string) string {
	return filepath.Join(append([]string{s.opts.Dir}, elem...)...)
}
