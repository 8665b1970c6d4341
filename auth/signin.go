package auth

import (
	"context"
	"crypto/rand"
	"fmt"
	"time"

	"github.com/errand-dev/errand"
	"github.com/errand-dev/errand/store"
)

// SignInFor is how long a browser stays signed in.
const SignInFor = 30 * 24 * time.Hour

// codeFor is how long a code lets a browser in.
const codeFor = 2 * time.Minute

// maxCodes bounds the codes that are open at once.
const maxCodes = 1000

// code is what lets one browser in, once: to the API, or to a thing alone.
type code struct {
	key     string // the key's id
	thing   string // "" is the API
	signIn  string // the hash of the sign-in that asked for it; "" is the key itself
	expires time.Time
}

// Code gives a word that lets one browser in as key, within two minutes: a key
// itself should not stand in a browser's history. It is lost when the process
// ends.
func (k *Keys) Code(key store.Key) (string, error) { return k.issue(code{key: key.ID}, codeFor) }

// issue gives a word that c can be taken with, once, for some time.
func (k *Keys) issue(c code, last time.Duration) (string, error) {
	k.mu.Lock()
	defer k.mu.Unlock()
	now := time.Now()
	for word, other := range k.codes {
		if now.After(other.expires) {
			delete(k.codes, word)
		}
	}
	if len(k.codes) >= maxCodes {
		return "", errand.Errorf(errand.Limited, "too_many_codes", "Too many browsers are being let in at once. Try again in two minutes.")
	}
	word := rand.Text()
	c.expires = now.Add(last)
	k.codes[word] = c
	return word, nil
}

// SignIn lets a browser in with a token or a code, and gives what its cookie is
// to hold, until SignInFor has passed, the key is revoked, or SignOut. What lets
// nobody in is an Unauthorized error.
func (k *Keys) SignIn(ctx context.Context, tokenOrCode string) (cookie string, err error) {
	c, ok := k.take(tokenOrCode, "")
	if !ok {
		_, key, err := k.Check(ctx, tokenOrCode)
		if err != nil {
			return "", err
		}
		c.key = key.ID
	}
	cookie = rand.Text() + rand.Text()
	err = k.store.Write(ctx, func(t *store.Tx) error {
		now := t.Now()
		return t.InsertSignIn(store.SignIn{Hash: hash(cookie), Key: c.key, CreatedAt: now, ExpiresAt: now.Add(SignInFor)})
	})
	if err != nil {
		return "", fmt.Errorf("keeping a sign-in: %w", err)
	}
	return cookie, nil
}

// take uses a word up and gives what it was issued for, if that is thing.
func (k *Keys) take(word, thing string) (code, bool) {
	k.mu.Lock()
	defer k.mu.Unlock()
	c, ok := k.codes[word]
	delete(k.codes, word)
	return c, ok && c.thing == thing && time.Now().Before(c.expires)
}

// CheckSignIn is Check for a browser's cookie.
func (k *Keys) CheckSignIn(ctx context.Context, cookie string) (errand.Caller, store.Key, error) {
	key, err := k.store.KeyBySignIn(ctx, hash(cookie), time.Now())
	if errand.KindOf(err) == errand.NotFound || err == nil && !key.RevokedAt.IsZero() {
		return errand.Caller{}, store.Key{}, unauthorized()
	}
	if err != nil {
		return errand.Caller{}, store.Key{}, fmt.Errorf("looking up a sign-in: %w", err)
	}
	return k.used(ctx, key)
}

// SignOut ends a sign-in. One that is not there is no error.
func (k *Keys) SignOut(ctx context.Context, cookie string) error {
	return k.store.Write(ctx, func(t *store.Tx) error { return t.DeleteSignIn(hash(cookie)) })
}
