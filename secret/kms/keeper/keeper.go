// Package keeper speaks with those who keep key-encryption keys for others: AWS
// KMS, Google Cloud KMS, Azure Key Vault and Vault's Transit engine.
//
// A key never leaves its keeper: data keys of 32 bytes go there to be wrapped
// and unwrapped. Credentials are those of the process, found as each vendor's
// own programs find them. What a keeper says is sorted into three: it cannot be
// reached, it refuses, the key is lost. The protocols are gocloud.dev's, except
// for Azure's (azure.go says why).
//
// The vendors' libraries weigh as much as the rest of the server, so only
// errand-kms imports this. Nothing is cached here and nothing tried again beyond
// what the vendors' clients do.
package keeper

import (
	"context"
	"errors"
	"net/http"
	"net/url"

	"gocloud.dev/gcerrors"
	"gocloud.dev/secrets"

	"github.com/errand-dev/errand"
	"github.com/errand-dev/errand/secret"
)

// fromKeeper makes a KEK of gocloud's form of it. version reads from a wrapped
// key which version did it; nil: the wrapped key says it to its keeper alone.
func fromKeeper(u *url.URL, k *secrets.Keeper, version func(wrapped []byte) string) *secret.KEK {
	name := u.String()
	return &secret.KEK{
		Name: name,
		Wrap: func(ctx context.Context, key []byte) ([]byte, string, error) {
			wrapped, err := k.Encrypt(ctx, key)
			if err != nil {
				return nil, "", explain(name, err)
			}
			if version == nil {
				return wrapped, "", nil
			}
			return wrapped, version(wrapped), nil
		},
		Unwrap: func(ctx context.Context, wrapped []byte, _ string) ([]byte, error) {
			key, err := k.Decrypt(ctx, wrapped)
			return key, explain(name, err)
		},
	}
}

// explain sorts what a keeper said.
func explain(name string, err error) error {
	if err == nil {
		return nil
	}
	switch status(err) {
	case http.StatusForbidden, http.StatusUnauthorized:
		return errand.Errorf(errand.Unavailable, "kms_refused", "The keeper of the key %s refuses: %w. Give this server's identity leave to encrypt and decrypt with that key.", name, err)
	case http.StatusNotFound:
		return errand.Errorf(errand.Unavailable, "key_lost", "The key %s is not there: %w. Restore it where it is kept, or correct the URL; nothing was overwritten.", name, err)
	case http.StatusBadRequest:
		return errand.Errorf(errand.Unavailable, "key_lost", "The key %s does not open this: %w. Was it replaced? Restore the key that sealed it, or set the secret again.", name, err)
	case http.StatusGone:
		return errand.Errorf(errand.Unavailable, "key_lost", "The key %s is disabled or about to be deleted: %w. Enable it where it is kept.", name, err)
	}
	return err // the envelope says that it cannot be reached
}

// status is what an error would be as a status of HTTP, 0 for what says nothing
// of the kind.
func status(err error) int {
	var coded interface {
		error
		ErrorCode() string // AWS
	}
	if errors.As(err, &coded) {
		switch coded.ErrorCode() {
		case "AccessDeniedException", "UnrecognizedClientException", "InvalidSignatureException", "ExpiredTokenException", "MissingAuthenticationTokenException", "InvalidClientTokenId":
			return http.StatusForbidden
		case "IncorrectKeyException", "InvalidCiphertextException":
			return http.StatusBadRequest
		case "DisabledException", "KMSInvalidStateException":
			return http.StatusGone
		}
	}
	if code := statusOfVault(err); code != 0 {
		return code
	}
	if code := statusOfAzure(err); code != 0 {
		return code
	}
	switch gcerrors.Code(err) {
	case gcerrors.NotFound:
		return http.StatusNotFound
	case gcerrors.PermissionDenied:
		return http.StatusForbidden
	case gcerrors.InvalidArgument:
		return http.StatusBadRequest
	case gcerrors.FailedPrecondition:
		return http.StatusGone
	}
	return 0
}
