// Package auth says who makes a request.
//
// A caller shows a token; the store keeps its SHA-256 only. A token is 40
// random letters and digits after "errand_", so the hash needs no salt and no
// stretching, and a token that leaked into a file can be found by its form. A
// browser that was let in with one shows a cookie from then on, which is as
// random and kept in the same way.
//
// What a caller may do is not decided here: whoever has a key may do everything.
package auth

import (
	"context"
	"crypto/rand"
	"crypto/sha256"
	"crypto/subtle"
	"encoding/hex"
	"fmt"
	"log/slog"
	"math/big"
	"regexp"
	"strings"
	"sync"
	"time"

	"github.com/google/uuid"

	"github.com/errand-dev/errand"
	"github.com/errand-dev/errand/store"
)

// touchEvery is how exactly a key's last use is known.
const touchEvery = time.Minute

// Keys are the keys of one store. They may be used from many goroutines.
type Keys struct {
	// Log is told of uses that could not be noted; nil: nobody is. It is set
	// before the first Check.
	Log   *slog.Logger
	store *store.Store

	mu      sync.Mutex
	touched map[string]time.Time // by key id: when its use was last noted
	codes   map[string]code      // that let browsers in, by word
}

// Open gives the keys that s keeps. The store stays the caller's.
func Open(s *store.Store) *Keys {
	return &Keys{store: s, touched: map[string]time.Time{}, codes: map[string]code{}}
}

var tokenPattern = regexp.MustCompile(`^errand_[0-9A-Za-z]{40}$`)

// New is what Create is told of a key. Person and Email, both or none, sign the
// commits of agents that are made with it.
type New struct {
	// Name has 1 to 100 characters and is not that of another key that holds, nor,
	// without Email, that of one which was a person by itself.
	Name   string
	Person string
	Email  string
}

// Create makes a key and gives its token, which is kept nowhere and cannot be
// shown again.
func (k *Keys) Create(ctx context.Context, n New) (token string, key store.Key, err error) {
	if err := n.check(); err != nil {
		return "", store.Key{}, err
	}
	if token, err = newToken(); err != nil {
		return "", store.Key{}, fmt.Errorf("making a token: %w", err)
	}
	err = k.store.Write(ctx, func(t *store.Tx) error {
		all, err := t.Keys(ctx)
		if err != nil {
			return err
		}
		for _, other := range all {
			switch {
			case other.Name != n.Name:
			case !other.RevokedAt.IsZero() && other.Email == "" && n.Email == "":
				// Without an email address the name is the person.
				return errand.Errorf(errand.Conflict, "key_name_conflict", "There was a key %q, and its personal secrets and environments would be the new one's. Choose another name, or say whose the key is: --person NAME --email ADDRESS", n.Name)
			case other.RevokedAt.IsZero():
				return errand.Errorf(errand.Conflict, "key_name_conflict", "There is a key %q already. Choose another name, or revoke that one first: errand key revoke %s", n.Name, other.ID)
			}
		}
		key = store.Key{ID: "key-" + uuid.NewString(), Name: n.Name, Hash: hash(token), Person: n.Person, Email: n.Email, CreatedAt: t.Now()}
		return t.InsertKey(key)
	})
	if err != nil {
		return "", store.Key{}, err
	}
	return token, key, nil
}

func (n New) check() error {
	switch {
	case strings.TrimSpace(n.Name) == "" || len(n.Name) > 100 || strings.ContainsAny(n.Name, "\n\r\t\x00"):
		return errand.Errorf(errand.Invalid, "validation_error", "A key's name has 1 to 100 characters in one line.")
	case (n.Person == "") != (n.Email == ""):
		return errand.Errorf(errand.Invalid, "validation_error", "A person's name and email go together: both sign the commits of the agents made with the key.")
	case strings.ContainsAny(n.Person+n.Email, "<>\n\r\x00") || (n.Email != "" && !strings.Contains(n.Email, "@")):
		return errand.Errorf(errand.Invalid, "validation_error", "%q <%s> cannot sign commits. Give a plain name and an email address.", n.Person, n.Email)
	}
	return nil
}

// Check finds whose token this is. One that is missing, unknown or revoked is an
// Unauthorized error that does not say which of the three.
func (k *Keys) Check(ctx context.Context, token string) (errand.Caller, store.Key, error) {
	if !tokenPattern.MatchString(token) {
		return errand.Caller{}, store.Key{}, unauthorized()
	}
	sum := hash(token)
	key, err := k.store.KeyByHash(ctx, sum)
	if errand.KindOf(err) == errand.NotFound {
		return errand.Caller{}, store.Key{}, unauthorized()
	}
	if err != nil {
		return errand.Caller{}, store.Key{}, fmt.Errorf("looking up a key: %w", err)
	}
	if subtle.ConstantTimeCompare([]byte(key.Hash), []byte(sum)) != 1 || !key.RevokedAt.IsZero() {
		return errand.Caller{}, store.Key{}, unauthorized()
	}
	return k.used(ctx, key)
}

// used notes a use of the key and gives whose it is. With a full disk people can
// still look, and stop what fills it.
func (k *Keys) used(ctx context.Context, key store.Key) (errand.Caller, store.Key, error) {
	if err := k.touch(ctx, key.ID); err != nil && ctx.Err() == nil && k.Log != nil {
		k.Log.Warn("cannot note a key's use", "key", key.Name, "error", err)
	}
	return errand.Caller{Key: key.Name, Name: key.Person, Email: key.Email}, key, nil
}

// touch notes a use of the key, at most once a minute.
func (k *Keys) touch(ctx context.Context, id string) error {
	k.mu.Lock()
	if time.Since(k.touched[id]) < touchEvery {
		k.mu.Unlock()
		return nil
	}
	k.touched[id] = time.Now()
	k.mu.Unlock()
	return k.store.Write(ctx, func(t *store.Tx) error { return t.TouchKey(id) })
}

// List gives all keys, oldest first, revoked ones too.
func (k *Keys) List(ctx context.Context) ([]store.Key, error) { return k.store.Keys(ctx) }

// Page gives a page of keys, newest first, and the cursor of the next one.
func (k *Keys) Page(ctx context.Context, limit int, cursor string) ([]store.Key, string, error) {
	return k.store.KeyPage(ctx, limit, cursor)
}

// Revoke ends the key with this id or name, from the next request on. To revoke
// again is no error; a key that is not there is NotFound.
func (k *Keys) Revoke(ctx context.Context, name string) error {
	return k.store.Write(ctx, func(t *store.Tx) error { return t.RevokeKey(name) })
}

func unauthorized() error {
	return errand.Errorf(errand.Unauthorized, "unauthorized", "The API key is missing or not known here. Send one as Authorization: Bearer KEY, or to the errand command as ERRAND_API_KEY; errand key create NAME makes one.")
}

func hash(token string) string {
	sum := sha256.Sum256([]byte(token))
	return hex.EncodeToString(sum[:])
}

func newToken() (string, error) {
	const letters = "0123456789ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz"
	b := []byte("errand_")
	for range 40 {
		n, err := rand.Int(rand.Reader, big.NewInt(int64(len(letters))))
		if err != nil {
			return "", err
		}
		b = append(b, letters[n.Int64()])
	}
	return string(b), nil
}
