package server

import (
	"context"
	"net/http"
	"time"

	"github.com/errand-dev/errand/api"
	"github.com/errand-dev/errand/auth"
	"github.com/errand-dev/errand/store"
)

type createKey struct {
	Body api.CreateKey
}

type byKey struct {
	ID string `path:"id" maxLength:"200" doc:"The key's id."`
}

func (s *Server) keyRoutes(r *router) {
	add(r, route{name: "listKeys", method: "GET", path: "/v1/keys", failures: []int{400, 403},
		summary: "List API keys, newest first, revoked ones too"}, s.listKeys)
	add(r, route{name: "createKey", method: "POST", path: "/v1/keys", status: http.StatusCreated, failures: []int{400, 403, 409},
		summary: "Make an API key; its token is in this answer alone"}, s.createKey)
	add(r, route{name: "revokeKey", method: "DELETE", path: "/v1/keys/{id}", failures: []int{400, 403, 404},
		summary: "End an API key, and the browsers that it let in; again is no error"}, s.revokeKey)
}

func (s *Server) listKeys(ctx context.Context, w who, in *Page) (api.Keys, error) {
	out := api.Keys{Items: []api.Key{}}
	keys, next, err := s.keys.Page(ctx, in.Limit, in.Cursor)
	if err != nil {
		return out, err
	}
	for _, k := range keys {
		out.Items = append(out.Items, wireKey(k, w))
	}
	out.NextCursor = next
	return out, nil
}

func (s *Server) createKey(ctx context.Context, w who, in *createKey) (api.CreatedKey, error) {
	token, key, err := s.keys.Create(ctx, auth.New{Name: in.Body.Name, Person: in.Body.Person, Email: in.Body.Email})
	if err != nil {
		return api.CreatedKey{}, err
	}
	s.log.Info("a key was made", "key", key.ID, "name", key.Name, "by", w.key.ID)
	return api.CreatedKey{Key: wireKey(key, w), Token: token}, nil
}

func (s *Server) revokeKey(ctx context.Context, w who, in *byKey) (api.ID, error) {
	if err := s.keys.Revoke(ctx, in.ID); err != nil {
		return api.ID{}, err
	}
	s.log.Info("a key was revoked", "key", in.ID, "by", w.key.ID)
	return api.ID{ID: in.ID}, nil
}

// wireKey gives a key's wire form for who asks.
func wireKey(k store.Key, w who) api.Key {
	optional := func(t time.Time) *time.Time {
		if t.IsZero() {
			return nil
		}
		return &t
	}
	return api.Key{
		ID: k.ID, Name: k.Name, Person: k.Person, Email: k.Email, CreatedAt: k.CreatedAt,
		UsedAt: optional(k.UsedAt), RevokedAt: optional(k.RevokedAt), Own: k.ID == w.key.ID,
	}
}
