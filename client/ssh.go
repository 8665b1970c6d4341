package client

import (
	"context"
	"net/url"

	"github.com/errand-dev/errand/api"
)

// SSH says how machines are reached by ssh, and which keys the caller has.
func (c *Client) SSH(ctx context.Context) (out api.SSH, err error) {
	err = c.call(ctx, request{method: "GET", path: "/v1/ssh"}, &out)
	return out, err
}

// AddSSHKey adds a public key, one line as in ~/.ssh/id_ed25519.pub. To add it
// again is no error.
func (c *Client) AddSSHKey(ctx context.Context, line string) (out api.SSHKey, err error) {
	err = c.call(ctx, request{method: "POST", path: "/v1/ssh/keys", body: api.AddSSHKey{PublicKey: line}}, &out)
	return out, err
}

// RemoveSSHKey removes one of the caller's public keys, by id.
func (c *Client) RemoveSSHKey(ctx context.Context, id string) error {
	return c.call(ctx, request{method: "DELETE", path: "/v1/ssh/keys/" + url.PathEscape(id)}, new(api.ID))
}
