package secret

import (
	"context"
	"crypto/rand"
	"encoding/base64"
	"errors"
	"fmt"
	"sync"
	"time"

	"github.com/tink-crypto/tink-go/v2/aead/subtle"

	"github.com/errand-dev/errand"
)

// KEK is a key-encryption key: it wraps the data keys under which values are
// sealed, and is itself kept elsewhere. Package secret/kms opens them.
type KEK struct {
	// Name is how records and people know it: its URL, without a credential.
	Name string
	// Wrap gives a data key wrapped, and which version of the key did it ("" if
	// it does not say).
	Wrap func(ctx context.Context, key []byte) (wrapped []byte, version string, err error)
	// Unwrap gives back what Wrap was given.
	Unwrap func(ctx context.Context, wrapped []byte, version string) ([]byte, error)
	// Version gives the version that Wrap uses now; nil: it cannot be asked.
	Version func(context.Context) (string, error)
	// Rotate makes a new version, which it gives; nil: whoever keeps the key
	// does that.
	Rotate func(context.Context) (string, error)
}

// Sealed is a value under a data key of its own, with that key wrapped.
type Sealed struct {
	KEK     string // which key wrapped DataKey
	Version string // of that key; "" where it tells none
	DataKey string // wrapped, base64
	Value   string // sealed, base64
}

// Envelope seals values, each under a fresh data key (AES-256-GCM), which the
// current key-encryption key wraps. It opens what any key sealed that can be
// opened by its name. It may be used from many goroutines.
type Envelope struct {
	current string
	find    func(ctx context.Context, name string) (*KEK, error)

	mu   sync.Mutex
	keks map[string]*KEK // that were found
}

// patience bounds one exchange with a key-encryption key.
const patience = 10 * time.Second

// NewEnvelope gives the envelope whose current key-encryption key is called
// current. find opens a key by its name; it is asked again after an error.
func NewEnvelope(current string, find func(ctx context.Context, name string) (*KEK, error)) *Envelope {
	return &Envelope{current: current, find: find, keks: map[string]*KEK{}}
}

// Current gives the name of the key that Seal uses.
func (e *Envelope) Current() string { return e.current }

func (e *Envelope) kek(ctx context.Context, name string) (*KEK, error) {
	e.mu.Lock()
	k := e.keks[name]
	e.mu.Unlock()
	if k != nil {
		return k, nil
	}
	k, err := e.find(ctx, name)
	if err != nil {
		return nil, unavailable(name, err)
	}
	e.mu.Lock()
	defer e.mu.Unlock()
	e.keks[name] = k
	return k, nil
}

// Seal seals value for the place that about names: Open with another about
// fails, so that a sealed value cannot be moved. A key-encryption key that
// cannot be used is an Unavailable error.
func (e *Envelope) Seal(ctx context.Context, value []byte, about string) (Sealed, error) {
	key := make([]byte, 32)
	if _, err := rand.Read(key); err != nil {
		return Sealed{}, fmt.Errorf("making a data key: %w", err)
	}
	defer clear(key)
	a, err := subtle.NewAESGCM(key)
	if err != nil {
		return Sealed{}, fmt.Errorf("sealing the %s: %w", about, err)
	}
	sealed, err := a.Encrypt(value, []byte(about))
	if err != nil {
		return Sealed{}, fmt.Errorf("sealing the %s: %w", about, err)
	}
	s, err := e.wrap(ctx, key)
	s.Value = base64.StdEncoding.EncodeToString(sealed)
	return s, err
}

func (e *Envelope) wrap(ctx context.Context, key []byte) (Sealed, error) {
	ctx, cancel := context.WithTimeout(ctx, patience)
	defer cancel()
	k, err := e.kek(ctx, e.current)
	if err != nil {
		return Sealed{}, err
	}
	wrapped, version, err := k.Wrap(ctx, key)
	if err != nil {
		return Sealed{}, unavailable(e.current, err)
	}
	return Sealed{KEK: k.Name, Version: version, DataKey: base64.StdEncoding.EncodeToString(wrapped)}, nil
}

// Open gives back what Seal was given. A key-encryption key that cannot be used
// is an Unavailable error of code kms_unavailable, one that refuses of code
// kms_refused, one that is lost of code key_lost.
func (e *Envelope) Open(ctx context.Context, s Sealed, about string) ([]byte, error) {
	key, err := e.unwrap(ctx, s)
	if err != nil {
		return nil, err
	}
	defer clear(key)
	a, err := subtle.NewAESGCM(key)
	if err != nil {
		return nil, fmt.Errorf("opening the %s: %w", about, err)
	}
	raw, err := base64.StdEncoding.DecodeString(s.Value)
	if err != nil {
		return nil, fmt.Errorf("opening the %s: %w", about, err)
	}
	value, err := a.Decrypt(raw, []byte(about))
	if err != nil {
		return nil, lost("The %s cannot be opened: its record was damaged or moved. Set it again.", about)
	}
	return value, nil
}

func (e *Envelope) unwrap(ctx context.Context, s Sealed) ([]byte, error) {
	ctx, cancel := context.WithTimeout(ctx, patience)
	defer cancel()
	k, err := e.kek(ctx, s.KEK)
	if err != nil {
		return nil, err
	}
	wrapped, err := base64.StdEncoding.DecodeString(s.DataKey)
	if err != nil {
		return nil, fmt.Errorf("reading a data key: %w", err)
	}
	key, err := k.Unwrap(ctx, wrapped, s.Version)
	if err != nil {
		return nil, unavailable(s.KEK, err)
	}
	return key, nil
}

// Rewrap gives s with its data key wrapped by the current key. The value stays
// sealed as it is.
func (e *Envelope) Rewrap(ctx context.Context, s Sealed) (Sealed, error) {
	key, err := e.unwrap(ctx, s)
	if err != nil {
		return Sealed{}, err
	}
	defer clear(key)
	again, err := e.wrap(ctx, key)
	again.Value = s.Value
	return again, err
}

// Check tries the current key out: it wraps a data key, unwraps it again and
// gives the key's version.
func (e *Envelope) Check(ctx context.Context) (version string, err error) {
	const about = "trial"
	s, err := e.Seal(ctx, []byte(about), about)
	if err == nil {
		_, err = e.Open(ctx, s, about)
	}
	return s.Version, err
}

// Version gives the version of the current key, "" where it tells none before
// it is used.
func (e *Envelope) Version(ctx context.Context) (string, error) {
	ctx, cancel := context.WithTimeout(ctx, patience)
	defer cancel()
	k, err := e.kek(ctx, e.current)
	if err != nil || k.Version == nil {
		return "", err
	}
	version, err := k.Version(ctx)
	if err != nil {
		return "", unavailable(e.current, err)
	}
	return version, nil
}

// Rotate makes a new version of the current key and gives it. Where that is not
// ours to do, it is a Conflict that says whose.
func (e *Envelope) Rotate(ctx context.Context) (version string, err error) {
	k, err := e.kek(ctx, e.current)
	if err != nil {
		return "", err
	}
	if k.Rotate == nil {
		return "", errand.Errorf(errand.Conflict, "rotation_not_here", "The key %s is rotated where it is kept. Do that there, then wrap everything anew: errand secret rewrap", e.current)
	}
	return k.Rotate(ctx)
}

// unavailable says of which key an error is.
func unavailable(name string, err error) error {
	if e := new(errand.Error); errors.As(err, &e) {
		return err
	}
	return errand.Errorf(errand.Unavailable, "kms_unavailable", "The key %s, which seals the secrets, cannot be used now: %w. Agents that run go on, nothing was overwritten. See that what keeps the key is up and can be reached from this server (errand secret key tries it out), then send a follow-up or start again.", name, err)
}
