// Package kms opens key-encryption keys that others keep, each by a URL.
//
// What speaks with a keeper is a program of its own, errand-kms: the vendors'
// libraries would cost a server more memory than all else in it, needed or not,
// and their credentials are better off in a process that does nothing else. The
// server starts it when the first such key is used (Program), and the two speak
// over its standard input and output (Serve). Its end is the server's.
//
// Which schemes there are stands in a map in cmd/errand-kms. What is said to the
// keepers is in package keeper below this.
package kms

import (
	"context"
	"net/url"

	"github.com/errand-dev/errand"
	"github.com/errand-dev/errand/secret"
)

// Opener opens the key-encryption key that a URL names. It may talk to the
// network, but need not.
type Opener func(ctx context.Context, u *url.URL) (*secret.KEK, error)

// Find gives a function that finds a key by its name, which is its URL. What
// stands under the scheme "" opens all that have no opener of their own; nil
// there is an error for them.
func Find(openers map[string]Opener) func(context.Context, string) (*secret.KEK, error) {
	return func(ctx context.Context, name string) (*secret.KEK, error) {
		u, err := url.Parse(name)
		if err != nil || u.Scheme == "" {
			return nil, errand.Errorf(errand.Invalid, "validation_error", "%q names no key. A key is a URL such as awskms:///alias/errand?region=eu-central-1; docs/secrets.md has them all.", name)
		}
		if u.User != nil {
			return nil, errand.Errorf(errand.Invalid, "validation_error", "The URL of the key %s holds a credential. Leave it out: the server's environment is where it belongs.", u.Redacted())
		}
		open, ok := openers[u.Scheme]
		if !ok {
			open = openers[""]
		}
		if open == nil {
			return nil, errand.Errorf(errand.Invalid, "validation_error", "No key of the kind %q is known here. Known are file, awskms, gcpkms, azurekeyvault and hashivault.", u.Scheme)
		}
		return open(ctx, u)
	}
}
