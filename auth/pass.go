package auth

import (
	"context"
	"crypto/hmac"
	"crypto/sha256"
	"encoding/base64"
	"encoding/hex"
	"fmt"
	"strconv"
	"strings"
	"time"

	"github.com/errand-dev/errand"
	"github.com/errand-dev/errand/store"
)

// PassFor is how long a pass lets a browser in.
const PassFor = 7 * 24 * time.Hour

// TicketFor is how long a ticket can be turned into a pass.
const TicketFor = time.Minute

// maxPass bounds what is looked at of a pass, in bytes.
const maxPass = 512

// Ticket gives a word that is good for one pass to thing, within a minute. It is
// lost when the process ends. signIn is the cookie by which the caller was let in,
// "" where that was the key itself: the pass ends with it.
//
// A thing is what a browser is let in to and nothing else, in words of the
// caller's. It is not the API: CheckSignIn takes no pass, and CheckPass no other
// cookie.
func (k *Keys) Ticket(key store.Key, signIn, thing string) (string, error) {
	c := code{key: key.ID, thing: thing}
	if signIn != "" {
		c.signIn = hash(signIn)
	}
	return k.issue(c, TicketFor)
}

// Pass uses a ticket up and gives what the browser is to show from then on, until
// PassFor has passed, or the key or sign-in that it was asked for with ends. One
// that is used, too old or for something else is an Unauthorized error.
//
// A pass is kept nowhere. It names its key and is sealed with what the store knows
// of that, so it outlives the process and cannot be made up.
func (k *Keys) Pass(ctx context.Context, ticket, thing string) (string, error) {
	c, ok := k.take(ticket, thing)
	if !ok {
		return "", unauthorized()
	}
	key, err := k.holder(ctx, c.key, c.signIn)
	if err != nil {
		return "", err
	}
	text := strings.Join([]string{key.ID, c.signIn, strconv.FormatInt(time.Now().Add(PassFor).Unix(), 10)}, ".")
	return text + "." + seal(key, thing, text), nil
}

// CheckPass is Check for a pass to thing.
func (k *Keys) CheckPass(ctx context.Context, pass, thing string) (errand.Caller, store.Key, error) {
	parts := strings.Split(pass[:min(len(pass), maxPass)], ".")
	if len(parts) != 4 {
		return errand.Caller{}, store.Key{}, unauthorized()
	}
	expires, err := strconv.ParseInt(parts[2], 10, 64)
	if err != nil || time.Now().Unix() >= expires {
		return errand.Caller{}, store.Key{}, unauthorized()
	}
	key, err := k.holder(ctx, parts[0], parts[1])
	if err != nil {
		return errand.Caller{}, store.Key{}, err
	}
	if !hmac.Equal([]byte(parts[3]), []byte(seal(key, thing, strings.Join(parts[:3], ".")))) {
		return errand.Caller{}, store.Key{}, unauthorized()
	}
	return k.used(ctx, key)
}

// holder gives the key with an id, through the sign-in with a hash where there is
// one. Neither may have ended.
func (k *Keys) holder(ctx context.Context, id, signIn string) (key store.Key, err error) {
	if signIn != "" {
		key, err = k.store.KeyBySignIn(ctx, signIn, time.Now())
	} else {
		key, err = k.store.Key(ctx, id)
	}
	if errand.KindOf(err) == errand.NotFound || err == nil && (key.ID != id || !key.RevokedAt.IsZero()) {
		return store.Key{}, unauthorized()
	}
	if err != nil {
		return store.Key{}, fmt.Errorf("looking up a pass's key: %w", err)
	}
	return key, nil
}

// seal gives what only those know who know the key's hash, for this thing and
// text.
func seal(key store.Key, thing, text string) string {
	secret, err := hex.DecodeString(key.Hash)
	if err != nil {
		secret = []byte(key.Hash)
	}
	mac := hmac.New(sha256.New, secret)
	for _, part := range []string{"errand pass", thing, text} {
		fmt.Fprintf(mac, "%d %s ", len(part), part) // a hash gives no error
	}
	return base64.RawURLEncoding.EncodeToString(mac.Sum(nil))
}
