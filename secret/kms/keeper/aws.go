package keeper

import (
	"context"
	"net/url"

	"gocloud.dev/secrets/awskms"

	"github.com/errand-dev/errand/secret"
)

// AWS opens awskms:///KEY?region=REGION, where KEY is an id, an ARN or
// alias/NAME. "endpoint" names another server that speaks the protocol.
func AWS(ctx context.Context, u *url.URL) (*secret.KEK, error) {
	keeper, err := new(awskms.URLOpener).OpenKeeperURL(ctx, u)
	if err != nil {
		return nil, err
	}
	return fromKeeper(u, keeper, nil), nil
}
