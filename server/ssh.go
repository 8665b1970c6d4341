package server

import (
	"context"

	"github.com/errand-dev/errand/api"
	"github.com/errand-dev/errand/store"
)

type (
	bySSHKey struct {
		ID string `path:"id" doc:"Unique identifier of the ssh key."`
	}
	addSSHKey struct{ Body api.AddSSHKey }
)

func (s *Server) sshRoutes(r *router) {
	add(r, route{name: "getSSH", method: "GET", path: "/v1/ssh",
		summary: "Say how machines are reached by ssh, and which keys the caller has"}, s.ssh)
	add(r, route{name: "addSSHKey", method: "POST", path: "/v1/ssh/keys", status: 201, maxBody: 64 << 10, failures: []int{400, 409},
		summary: "Add a public key by which the caller walks into machines"}, s.addSSHKey)
	add(r, route{name: "deleteSSHKey", method: "DELETE", path: "/v1/ssh/keys/{id}", failures: []int{404},
		summary: "Remove one of the caller's public keys; connections that stand go on"}, s.deleteSSHKey)
}

func (s *Server) ssh(ctx context.Context, w who, _ *struct{}) (api.SSH, error) {
	out := api.SSH{Address: s.sshAt.Address, HostKey: s.sshAt.HostKey, Keys: []api.SSHKey{}}
	all, err := s.keys.SSHKeys(ctx, w.caller)
	for _, k := range all {
		out.Keys = append(out.Keys, fromSSHKey(k))
	}
	return out, err
}

func (s *Server) addSSHKey(ctx context.Context, w who, in *addSSHKey) (api.SSHKey, error) {
	k, err := s.keys.AddSSHKey(ctx, w.caller, in.Body.PublicKey)
	return fromSSHKey(k), err
}

func (s *Server) deleteSSHKey(ctx context.Context, w who, in *bySSHKey) (api.ID, error) {
	return api.ID{ID: in.ID}, s.keys.RemoveSSHKey(ctx, w.caller, in.ID)
}

func fromSSHKey(k store.SSHKey) api.SSHKey {
	return api.SSHKey{ID: k.ID, Fingerprint: k.Fingerprint, PublicKey: k.Public, Comment: k.Comment, Principals: k.Principals, CreatedAt: k.CreatedAt, UsedAt: k.UsedAt}
}
