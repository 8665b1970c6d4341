package server

import (
	"context"
	"net/http"
	"reflect"
	"time"

	"github.com/danielgtaylor/huma/v2"

	"github.com/errand-dev/errand"
	"github.com/errand-dev/errand/api"
	"github.com/errand-dev/errand/vault"
)

type listSecrets struct {
	SecretPage
	Scope         string `query:"scope" enum:"team,user,repository,environment" doc:"Only of this scope."`
	EnvironmentID string `query:"environmentId" doc:"Only of this environment."`
}

// SecretPage are the parameters of a page of secrets.
type SecretPage struct {
	Limit  int    `query:"limit" minimum:"1" maximum:"100" default:"50"`
	Cursor string `query:"cursor" doc:"Pagination cursor from the previous response."`
	Name   string `query:"name" doc:"Only of this name, without regard to case."`
	Repo   string `query:"repo" doc:"Only those that hold for this repository."`
}

// OfEnvironment are the parameters of what one environment owns.
type OfEnvironment struct {
	ID string `path:"id" doc:"Unique identifier of the environment."`
}

// OfRepository are the parameters of what one repository owns.
type OfRepository struct {
	URL string `query:"url" required:"true" doc:"The repository's URL."`
}

// OfTeam are the parameters of what the team owns: there is one.
type OfTeam struct{}

// OfUser are the parameters of what the caller owns.
type OfUser struct{}

func (o OfEnvironment) owner(ctx context.Context, s *Server, w who) (vault.Owner, error) {
	id, err := errand.ParseEnvironmentID(o.ID)
	if err != nil {
		return vault.Owner{}, err
	}
	_, err = s.runner.Builds.Environment(ctx, w.caller, id)
	return vault.Environment(id), err
}

func (o OfRepository) owner(context.Context, *Server, who) (vault.Owner, error) {
	return vault.Repository(o.URL)
}

func (OfTeam) owner(context.Context, *Server, who) (vault.Owner, error) { return vault.Team, nil }

func (OfUser) owner(_ context.Context, _ *Server, w who) (vault.Owner, error) {
	return vault.UserOf(w.caller), nil
}

// SecretName is the parameter of what is about one secret of an owner.
type SecretName struct {
	Name string `path:"name" doc:"The secret's name, without regard to case."`
}

// SecretBody is what sets a secret.
type SecretBody struct{ Body api.PutSecret }

func (p SecretPage) page() SecretPage     { return p }
func (n SecretName) secretName() string   { return n.Name }
func (b SecretBody) value() api.PutSecret { return b.Body }

// owned are parameters that say whose a secret is.
type owned interface {
	owner(ctx context.Context, s *Server, w who) (vault.Owner, error)
}

type ownedPage interface {
	owned
	page() SecretPage
}

type ownedName interface {
	owned
	secretName() string
}

type ownedBody interface {
	ownedName
	value() api.PutSecret
}

type (
	environmentPage struct {
		OfEnvironment
		SecretPage
	}
	environmentName struct {
		OfEnvironment
		SecretName
	}
	environmentBody struct {
		OfEnvironment
		SecretName
		SecretBody
	}
	repositoryPage struct {
		OfRepository
		SecretPage
	}
	repositoryName struct {
		OfRepository
		SecretName
	}
	repositoryBody struct {
		OfRepository
		SecretName
		SecretBody
	}
	teamPage struct {
		OfTeam
		SecretPage
	}
	teamName struct {
		OfTeam
		SecretName
	}
	teamBody struct {
		OfTeam
		SecretName
		SecretBody
	}
	userPage struct {
		OfUser
		SecretPage
	}
	userName struct {
		OfUser
		SecretName
	}
	userBody struct {
		OfUser
		SecretName
		SecretBody
	}
)

func (s *Server) secretRoutes(r *router) {
	add(r, route{name: "listSecrets", method: "GET", path: "/v1/secrets", failures: []int{400},
		summary: "List secrets, without their values"}, s.listSecrets)
	add(r, route{name: "listSecretUses", method: "GET", path: "/v1/secrets/{id}/uses", failures: []int{400, 404},
		summary: "List what a secret was given to, newest first"}, s.listSecretUses)
	add(r, route{name: "getSecretKey", method: "GET", path: "/v1/secrets/key",
		summary: "Say which key-encryption key seals the secrets"}, s.secretKey)
	add(r, route{name: "rotateSecretKey", method: "POST", path: "/v1/secrets/key/rotate", failures: []int{409, 503},
		summary: "Make a new version of the local key-encryption key"}, s.rotateSecretKey)
	add(r, route{name: "rewrapSecrets", method: "POST", path: "/v1/secrets/key/rewrap", failures: []int{400, 503},
		summary: "Wrap a batch of data keys under the current key; call again until none is left"}, s.rewrapSecrets)
	addSecrets[environmentPage, environmentName, environmentBody](s, r, "Environment", "/v1/environments/{id}/secrets")
	addSecrets[repositoryPage, repositoryName, repositoryBody](s, r, "Repository", "/v1/repository/secrets")
	addSecrets[teamPage, teamName, teamBody](s, r, "Team", "/v1/team/secrets")
	addSecrets[userPage, userName, userBody](s, r, "User", "/v1/user/secrets")
}

// addSecrets puts the routes of one kind of owner on the router.
func addSecrets[P ownedPage, N ownedName, B ownedBody](s *Server, r *router, whose, path string) {
	add(r, route{name: "list" + whose + "Secrets", method: "GET", path: path, failures: []int{400, 404},
		summary: "List an owner's secrets, without their values"},
		func(ctx context.Context, w who, in *P) (api.Secrets, error) {
			owner, err := (*in).owner(ctx, s, w)
			if err != nil {
				return api.Secrets{}, err
			}
			p := (*in).page()
			return s.secretPage(ctx, vault.Query{Caller: w.caller, Scope: owner.Scope, Owner: owner.ID, Name: p.Name, Repository: p.Repo, Limit: p.Limit, Cursor: p.Cursor})
		})
	add(r, route{name: "get" + whose + "Secret", method: "GET", path: path + "/{name}", failures: []int{400, 404},
		summary: "Get a secret, without its value"},
		func(ctx context.Context, w who, in *N) (api.Secret, error) {
			owner, err := (*in).owner(ctx, s, w)
			if err != nil {
				return api.Secret{}, err
			}
			found, err := s.vault.Secret(ctx, owner, (*in).secretName())
			return api.FromSecret(found), err
		})
	add(r, route{name: "delete" + whose + "Secret", method: "DELETE", path: path + "/{name}", failures: []int{400, 404},
		summary: "Delete a secret; machines that have it keep it, and it stays hidden there"},
		func(ctx context.Context, w who, in *N) (api.ID, error) {
			owner, err := (*in).owner(ctx, s, w)
			if err != nil {
				return api.ID{}, err
			}
			gone, err := s.vault.Delete(ctx, owner, (*in).secretName())
			return api.ID{ID: string(gone.ID)}, err
		})
	op := r.operation(route{name: "put" + whose + "Secret", method: "PUT", path: path + "/{name}", failures: []int{400, 404, 409, 503},
		summary: "Set a secret: 201 for a new one, 200 for one that was there"})
	schema := r.api.OpenAPI().Components.Schemas.Schema(reflect.TypeFor[api.Secret](), true, "Secret")
	op.Responses["201"] = &huma.Response{Description: http.StatusText(http.StatusCreated), Content: map[string]*huma.MediaType{"application/json": {Schema: schema}}}
	huma.Register(r.api, op, func(ctx context.Context, in *B) (*putAnswer, error) {
		out, err := s.putSecret(ctx, whoIs(ctx), *in)
		if err != nil {
			return nil, s.refusalOf(ctx, err)
		}
		return out, nil
	})
}

// putAnswer is an answer whose status says whether the secret is new.
type putAnswer struct {
	Status int
	Body   api.Secret
}

func (s *Server) putSecret(ctx context.Context, w who, in ownedBody) (*putAnswer, error) {
	owner, err := in.owner(ctx, s, w)
	if err != nil {
		return nil, err
	}
	v := in.value()
	kept, created, err := s.vault.Put(ctx, owner, in.secretName(), vault.Value{Value: v.Value, Kind: errand.SecretKind(v.Type), Repositories: v.Repos})
	if err != nil {
		return nil, err
	}
	out := &putAnswer{Status: http.StatusOK, Body: api.FromSecret(kept)}
	if created {
		out.Status = http.StatusCreated
	}
	return out, nil
}

func (s *Server) listSecrets(ctx context.Context, w who, in *listSecrets) (api.Secrets, error) {
	q := vault.Query{Caller: w.caller, Sees: s.sees(w.caller), Scope: errand.Scope(in.Scope), Name: in.Name, Repository: in.Repo, Limit: in.Limit, Cursor: in.Cursor}
	if in.EnvironmentID != "" {
		if q.Scope != "" && q.Scope != errand.ScopeEnvironment {
			return api.Secrets{}, errand.Errorf(errand.Invalid, "validation_error", "environmentId goes with scope=environment only.")
		}
		owner, err := OfEnvironment{in.EnvironmentID}.owner(ctx, s, w)
		if err != nil {
			return api.Secrets{}, err
		}
		q.Scope, q.Owner = owner.Scope, owner.ID
	}
	return s.secretPage(ctx, q)
}

// sees says which environments caller may know of.
func (s *Server) sees(caller errand.Caller) vault.Sees {
	return func(ctx context.Context, id errand.EnvironmentID) (bool, error) {
		_, err := s.runner.Builds.Environment(ctx, caller, id)
		if errand.KindOf(err) == errand.NotFound {
			return false, nil
		}
		return err == nil, err
	}
}

func (s *Server) secretPage(ctx context.Context, q vault.Query) (api.Secrets, error) {
	out := api.Secrets{Items: []api.Secret{}}
	found, next, err := s.vault.List(ctx, q)
	if err != nil {
		return out, err
	}
	for _, f := range found {
		out.Items = append(out.Items, api.FromSecret(f))
	}
	out.NextCursor = api.OrNull(next)
	return out, nil
}

type listSecretUses struct {
	ID     string `path:"id" doc:"Unique identifier of the secret."`
	Limit  int    `query:"limit" minimum:"1" maximum:"100" default:"50"`
	Cursor string `query:"cursor" doc:"Pagination cursor from the previous response."`
}

func (s *Server) listSecretUses(ctx context.Context, w who, in *listSecretUses) (api.SecretUses, error) {
	out := api.SecretUses{Items: []api.SecretUse{}}
	uses, next, err := s.vault.Uses(ctx, w.caller, s.sees(w.caller), errand.SecretID(in.ID), in.Limit, in.Cursor)
	if err != nil {
		return out, err
	}
	for _, u := range uses {
		out.Items = append(out.Items, api.FromSecretUse(u))
	}
	out.NextCursor = api.OrNull(next)
	return out, nil
}

func (s *Server) secretKey(ctx context.Context, _ who, _ *struct{}) (api.SecretKey, error) {
	state, err := s.vault.Key(ctx)
	if err != nil {
		return api.SecretKey{}, err
	}
	out := api.SecretKey{Key: state.Key, Version: state.Version, Old: state.Old, Error: state.Error, Under: []api.SecretsUnder{}}
	for _, u := range state.Under {
		out.Under = append(out.Under, api.SecretsUnder{Key: u.KEK, Version: u.Version, Secrets: u.Secrets})
	}
	return out, nil
}

func (s *Server) rotateSecretKey(ctx context.Context, w who, in *struct{}) (api.SecretKey, error) {
	if _, err := s.vault.Rotate(ctx); err != nil {
		return api.SecretKey{}, err
	}
	return s.secretKey(ctx, w, in)
}

type rewrapSecrets struct{ Body api.Rewrap }

func (s *Server) rewrapSecrets(ctx context.Context, _ who, in *rewrapSecrets) (api.Rewrapped, error) {
	out := api.Rewrapped{Before: in.Body.Before}
	if out.Before.IsZero() {
		out.Before = time.Now().UTC().Truncate(time.Millisecond)
	}
	done, err := s.vault.Rewrap(ctx, out.Before)
	out.Done = done
	return out, err
}
