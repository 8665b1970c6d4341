package kms

import (
	"context"
	"errors"
	"io"
	"net/rpc"
	"sync"
	"time"

	"github.com/errand-dev/errand"
	"github.com/errand-dev/errand/secret"
)

// Call is what a server asks errand-kms.
type Call struct {
	Key     string        // the URL
	Data    []byte        // a data key, to wrap; a wrapped one, to unwrap
	Version string        // of the key that wrapped Data, where it told one
	Within  time.Duration // 0 is no bound
}

// Answer is what errand-kms says.
type Answer struct {
	Data    []byte
	Version string // as secret.KEK's Wrap gives it
	Fault   *Fault // nil where Data is there
}

// Fault is an error that came over the pipe. Kind is "" for one that is none of
// the product's own.
type Fault struct {
	Kind          errand.Kind
	Code, Message string
}

func faultOf(err error) *Fault {
	if err == nil {
		return nil
	}
	if e := new(errand.Error); errors.As(err, &e) {
		return &Fault{e.Kind, e.Code, e.Message}
	}
	return &Fault{Message: err.Error()}
}

func (f *Fault) error() error {
	switch {
	case f == nil:
		return nil
	case f.Kind == "":
		return errors.New(f.Message)
	}
	return &errand.Error{Kind: f.Kind, Code: f.Code, Message: f.Message}
}

// Keys answers calls. Its methods have the form that net/rpc wants.
type Keys struct {
	find func(context.Context, string) (*secret.KEK, error)

	mu   sync.Mutex
	keks map[string]*secret.KEK
}

// Serve answers the calls that come over conn, many at once, until it ends.
func Serve(conn io.ReadWriteCloser, openers map[string]Opener) error {
	s := rpc.NewServer()
	if err := s.Register(&Keys{find: Find(openers), keks: map[string]*secret.KEK{}}); err != nil {
		return err
	}
	s.ServeConn(conn)
	return nil
}

func (k *Keys) kek(ctx context.Context, name string) (*secret.KEK, error) {
	k.mu.Lock()
	defer k.mu.Unlock()
	if kek := k.keks[name]; kek != nil {
		return kek, nil
	}
	kek, err := k.find(ctx, name)
	if err == nil {
		k.keks[name] = kek
	}
	return kek, err
}

// do calls f with the key that in names, and puts its error into out.
func (k *Keys) do(in Call, out *Answer, f func(context.Context, *secret.KEK) error) {
	ctx := context.Background()
	if in.Within > 0 {
		bounded, cancel := context.WithTimeout(ctx, in.Within)
		defer cancel()
		ctx = bounded
	}
	kek, err := k.kek(ctx, in.Key)
	if err == nil {
		err = f(ctx, kek)
	}
	out.Fault = faultOf(err)
}

// Wrap wraps a data key.
func (k *Keys) Wrap(in Call, out *Answer) error {
	k.do(in, out, func(ctx context.Context, kek *secret.KEK) (err error) {
		out.Data, out.Version, err = kek.Wrap(ctx, in.Data)
		return err
	})
	return nil
}

// Unwrap gives a data key back.
func (k *Keys) Unwrap(in Call, out *Answer) error {
	k.do(in, out, func(ctx context.Context, kek *secret.KEK) (err error) {
		out.Data, err = kek.Unwrap(ctx, in.Data, in.Version)
		return err
	})
	return nil
}
