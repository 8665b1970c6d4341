package client

import (
	"context"
	"iter"
	"net/url"
	"time"

	"github.com/errand-dev/errand"
	"github.com/errand-dev/errand/api"
)

// SecretOwner says whose secrets are meant.
type SecretOwner struct {
	Scope       errand.Scope // team, user, repository or environment
	Environment string       // its id, with the scope environment
	Repository  string       // its URL, with the scope repository
}

// path gives where the owner's secrets are, and the query that goes with it.
func (o SecretOwner) path(name string) (string, url.Values) {
	if name != "" {
		name = "/" + url.PathEscape(name)
	}
	switch o.Scope {
	case errand.ScopeEnvironment:
		return "/v1/environments/" + url.PathEscape(o.Environment) + "/secrets" + name, nil
	case errand.ScopeRepository:
		return "/v1/repository/secrets" + name, url.Values{"url": {o.Repository}}
	}
	return "/v1/" + url.PathEscape(string(o.Scope)) + "/secrets" + name, nil
}

// PutSecret sets a secret.
func (c *Client) PutSecret(ctx context.Context, o SecretOwner, name string, req api.PutSecret) (out api.Secret, err error) {
	path, query := o.path(name)
	err = c.call(ctx, request{method: "PUT", path: path, query: query, body: req}, &out)
	return out, err
}

// Secret gives one secret, without its value.
func (c *Client) Secret(ctx context.Context, o SecretOwner, name string) (out api.Secret, err error) {
	path, query := o.path(name)
	err = c.call(ctx, request{method: "GET", path: path, query: query}, &out)
	return out, err
}

// DeleteSecret removes a secret.
func (c *Client) DeleteSecret(ctx context.Context, o SecretOwner, name string) error {
	path, query := o.path(name)
	return c.call(ctx, request{method: "DELETE", path: path, query: query}, new(api.ID))
}

// SecretQuery chooses secrets for a list. Its zero value is all that the caller
// sees.
type SecretQuery struct {
	Scope       errand.Scope // "" is all
	Environment string       // only of this environment
	Name        string       // only of this name
	Repository  string       // only those that hold for it
}

// Secrets gives secrets page by page as they are asked for.
func (c *Client) Secrets(ctx context.Context, q SecretQuery) iter.Seq2[api.Secret, error] {
	return func(yield func(api.Secret, error) bool) {
		query := paging(100, "")
		for name, value := range map[string]string{"scope": string(q.Scope), "environmentId": q.Environment, "name": q.Name, "repo": q.Repository} {
			if value != "" {
				query.Set(name, value)
			}
		}
		for {
			var page api.Secrets
			if err := c.call(ctx, request{method: "GET", path: "/v1/secrets", query: query}, &page); err != nil {
				yield(api.Secret{}, err)
				return
			}
			for _, s := range page.Items {
				if !yield(s, nil) {
					return
				}
			}
			if page.NextCursor == nil {
				return
			}
			query.Set("cursor", *page.NextCursor)
		}
	}
}

// SecretUses gives at most limit of a secret's uses, newest first, and the
// cursor of the next page ("" on the last).
func (c *Client) SecretUses(ctx context.Context, id string, limit int, cursor string) (out api.SecretUses, err error) {
	err = c.call(ctx, request{method: "GET", path: "/v1/secrets/" + url.PathEscape(id) + "/uses", query: paging(limit, cursor)}, &out)
	return out, err
}

// SecretKey says which key-encryption key seals.
func (c *Client) SecretKey(ctx context.Context) (out api.SecretKey, err error) {
	err = c.call(ctx, request{method: "GET", path: "/v1/secrets/key"}, &out)
	return out, err
}

// RotateSecretKey makes a new version of the local key.
func (c *Client) RotateSecretKey(ctx context.Context) (out api.SecretKey, err error) {
	err = c.call(ctx, request{method: "POST", path: "/v1/secrets/key/rotate"}, &out)
	return out, err
}

// RewrapSecrets wraps a batch of data keys under the current key: those that
// were wrapped before a time (zero is now). Call it with the answer's Before
// until Done is 0.
func (c *Client) RewrapSecrets(ctx context.Context, before time.Time) (out api.Rewrapped, err error) {
	err = c.call(ctx, request{method: "POST", path: "/v1/secrets/key/rewrap", body: api.Rewrap{Before: before}}, &out)
	return out, err
}
