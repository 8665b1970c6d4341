package inside

import (
	"cmp"
	"context"

	"github.com/google/go-containerregistry/pkg/authn"
	"github.com/google/go-containerregistry/pkg/name"
	"github.com/moby/buildkit/session/auth"
	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"
)

// credentials answers the daemon when a registry wants to know who asks. It
// hands out what the keychain has and fetches no tokens itself: the daemon
// does, over the network of the build.
type credentials struct {
	auth.UnimplementedAuthServer
	keychain authn.Keychain
}

// Register puts it into the session.
func (c credentials) Register(s *grpc.Server) { auth.RegisterAuthServer(s, c) }

// Credentials gives what the keychain has for a host.
func (c credentials) Credentials(_ context.Context, r *auth.CredentialsRequest) (*auth.CredentialsResponse, error) {
	host := r.Host
	if host == "registry-1.docker.io" {
		host = name.DefaultRegistry
	}
	registry, err := name.NewRegistry(host)
	if err != nil {
		return nil, status.Error(codes.InvalidArgument, err.Error())
	}
	found, err := c.keychain.Resolve(registry)
	if err != nil {
		return nil, status.Error(codes.Unavailable, err.Error())
	}
	a, err := found.Authorization()
	if err != nil {
		return nil, status.Error(codes.Unavailable, err.Error())
	}
	if a.IdentityToken != "" {
		return &auth.CredentialsResponse{Secret: a.IdentityToken}, nil
	}
	return &auth.CredentialsResponse{Username: a.Username, Secret: cmp.Or(a.Password, a.RegistryToken)}, nil
}
