package image

import (
	"context"
	"errors"
	"net"
	"net/http"

	"github.com/google/go-containerregistry/pkg/name"
	"github.com/google/go-containerregistry/pkg/v1/remote/transport"

	"github.com/errand-dev/errand"
)

// newTransport gives what reaches registries through dial.
func newTransport(dial func(ctx context.Context, network, address string) (net.Conn, error)) *http.Transport {
	t := http.DefaultTransport.(*http.Transport).Clone()
	t.MaxIdleConnsPerHost = 8 // an image comes from one or two hosts
	if dial != nil {
		t.DialContext = dial
		t.Proxy = nil // it would connect where dial is not asked
	}
	return t
}

// registryError turns what a registry answered into a sentence that names it,
// the image and the status, and says what to do.
func registryError(ctx context.Context, ref name.Reference, err error) error {
	if ctx.Err() != nil {
		return ctx.Err()
	}
	registry := ref.Context().RegistryStr()
	var known *errand.Error
	if errors.As(err, &known) { // of Options.Dial, which has its reasons
		return errand.Errorf(known.Kind, known.Code, "Could not pull %s from %s: %w", ref, registry, known)
	}
	var answer *transport.Error
	if !errors.As(err, &answer) {
		return errand.Errorf(errand.Unavailable, "registry_unreachable",
			"Could not pull %s from %s: %w. Check the network and try again, or use the image \"host\".", ref, registry, err)
	}
	const form = "Could not pull %s: the registry %s answered %d %s. %s (%w)"
	kind, code, advice := errand.Unavailable, "registry_failed", "Try again later."
	switch answer.StatusCode {
	case http.StatusNotFound:
		kind, code, advice = errand.NotFound, "image_not_found", "Check the image's name and tag."
	case http.StatusUnauthorized, http.StatusForbidden:
		kind, code, advice = errand.Forbidden, "registry_denied",
			"The image does not exist or needs a login: run \"docker login "+registry+"\" as the user that runs the server, or check the name."
	case http.StatusTooManyRequests:
		code, advice = "registry_limited", "It limits how much may be pulled: wait, or log in to it."
	case http.StatusBadRequest:
		kind, code, advice = errand.Invalid, "bad_image", "Check the image's name."
	}
	return errand.Errorf(kind, code, form, ref, registry, answer.StatusCode, http.StatusText(answer.StatusCode), advice, err)
}
