package keeper

import (
	"cmp"
	"context"
	"errors"
	"net/url"
	"strings"

	"github.com/Azure/azure-sdk-for-go/sdk/azcore"
	"github.com/Azure/azure-sdk-for-go/sdk/azidentity"
	"github.com/Azure/azure-sdk-for-go/sdk/security/keyvault/azkeys"

	"github.com/errand-dev/errand"
	"github.com/errand-dev/errand/secret"
)

// Azure says how Key Vault is reached. Its zero value uses the default Azure
// credential.
type Azure struct {
	Credential azcore.TokenCredential
	Client     *azkeys.ClientOptions
}

// Open opens azurekeyvault://VAULT.vault.azure.net/keys/NAME[/VERSION], with
// "algorithm" for another than RSA-OAEP-256.
//
// It speaks to the vault itself rather than through gocloud.dev, which does not
// tell the version that encrypted: only that version decrypts, so that after a
// rotation there nothing could be opened any more.
func (a Azure) Open(_ context.Context, u *url.URL) (*secret.KEK, error) {
	parts := strings.Split(strings.Trim(u.Path, "/"), "/")
	if len(parts) < 2 || len(parts) > 3 || parts[0] != "keys" || u.Host == "" {
		return nil, errand.Errorf(errand.Invalid, "validation_error", "%s names no key. It looks like azurekeyvault://VAULT.vault.azure.net/keys/NAME.", u)
	}
	credential := a.Credential
	if credential == nil {
		found, err := azidentity.NewDefaultAzureCredential(nil)
		if err != nil {
			return nil, err
		}
		credential = found
	}
	client, err := azkeys.NewClient("https://"+u.Host+"/", credential, a.Client)
	if err != nil {
		return nil, err
	}
	k := azureKey{client: client, url: u.String(), name: parts[1], algorithm: azkeys.EncryptionAlgorithm(cmp.Or(u.Query().Get("algorithm"), string(azkeys.EncryptionAlgorithmRSAOAEP256)))}
	if len(parts) == 3 {
		k.pinned = parts[2]
	}
	return &secret.KEK{Name: k.url, Wrap: k.wrap, Unwrap: k.unwrap}, nil
}

type azureKey struct {
	client    *azkeys.Client
	url, name string
	pinned    string // the version to wrap with; "" is the newest
	algorithm azkeys.EncryptionAlgorithm
}

func (k azureKey) wrap(ctx context.Context, key []byte) ([]byte, string, error) {
	out, err := k.client.Encrypt(ctx, k.name, k.pinned, azkeys.KeyOperationParameters{Algorithm: &k.algorithm, Value: key}, nil)
	if err != nil {
		return nil, "", explain(k.url, err)
	}
	version := k.pinned
	if out.KID != nil {
		version = out.KID.Version()
	}
	return out.Result, version, nil
}

func (k azureKey) unwrap(ctx context.Context, wrapped []byte, version string) ([]byte, error) {
	out, err := k.client.Decrypt(ctx, k.name, version, azkeys.KeyOperationParameters{Algorithm: &k.algorithm, Value: wrapped}, nil)
	if err != nil {
		return nil, explain(k.url, err)
	}
	return out.Result, nil
}

func statusOfAzure(err error) int {
	var refused *azcore.ResponseError
	if errors.As(err, &refused) {
		return refused.StatusCode
	}
	return 0
}
