package keeper

import (
	"context"
	"net/url"

	cloudkms "cloud.google.com/go/kms/apiv1"
	"gocloud.dev/secrets/gcpkms"
	"google.golang.org/api/option"

	"github.com/errand-dev/errand/secret"
	"github.com/errand-dev/errand/secret/kms"
)

// Google gives what opens
// gcpkms://projects/P/locations/L/keyRings/R/cryptoKeys/K with the application
// default credentials, unless options say otherwise. Connections stay open as
// long as the process.
func Google(options ...option.ClientOption) kms.Opener {
	return func(ctx context.Context, u *url.URL) (*secret.KEK, error) {
		// The client outlives the call that was the first to need it.
		client, err := cloudkms.NewKeyManagementClient(context.WithoutCancel(ctx), options...)
		if err != nil {
			return nil, err
		}
		keeper, err := (&gcpkms.URLOpener{Client: client}).OpenKeeperURL(ctx, u)
		if err != nil {
			return nil, err
		}
		return fromKeeper(u, keeper, nil), nil
	}
}
