package keeper

import (
	"bytes"
	"cmp"
	"context"
	"errors"
	"net/http"
	"net/url"
	"strings"
	"time"

	"github.com/hashicorp/vault/api"
	"gocloud.dev/secrets/hashivault"

	"github.com/errand-dev/errand"
	"github.com/errand-dev/errand/secret"
	"github.com/errand-dev/errand/secret/kms"
)

// Transit gives what opens hashivault://KEY, with "engine" for another path than
// transit, in the Vault that VAULT_ADDR and VAULT_TOKEN of getenv name.
func Transit(getenv func(string) string) kms.Opener {
	return func(ctx context.Context, u *url.URL) (*secret.KEK, error) {
		address := getenv("VAULT_ADDR")
		if address == "" {
			return nil, errand.Errorf(errand.Unavailable, "kms_unavailable", "The key %s is in a Vault, and the server was not told where that is. Set VAULT_ADDR and VAULT_TOKEN and start it again.", u)
		}
		// Its calls take no context: they end by themselves.
		client, err := hashivault.Dial(ctx, &hashivault.Config{Token: getenv("VAULT_TOKEN"), APIConfig: api.Config{
			Address: address, Timeout: 8 * time.Second, MaxRetries: 1, MinRetryWait: 200 * time.Millisecond, MaxRetryWait: time.Second,
		}})
		if err != nil {
			return nil, err
		}
		keeper, err := (&hashivault.URLOpener{Client: client}).OpenKeeperURL(ctx, u)
		if err != nil {
			return nil, err
		}
		return fromKeeper(u, keeper, transitVersion), nil
	}
}

// transitVersion reads "vault:v3:…".
func transitVersion(wrapped []byte) string {
	parts := bytes.SplitN(wrapped, []byte(":"), 3)
	if len(parts) != 3 {
		return ""
	}
	return strings.TrimPrefix(string(parts[1]), "v")
}

// statusOfVault reads what Vault says: a key that is not there is a bad request
// to it.
func statusOfVault(err error) int {
	var refused *api.ResponseError
	if !errors.As(err, &refused) {
		return 0
	}
	if strings.Contains(strings.Join(refused.Errors, " "), "encryption key not found") {
		return http.StatusNotFound
	}
	return cmp.Or(refused.StatusCode, http.StatusServiceUnavailable)
}
