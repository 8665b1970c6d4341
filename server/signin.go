package server

import (
	"context"
	"net/http"
	"net/url"
	"time"

	"github.com/danielgtaylor/huma/v2"

	"github.com/errand-dev/errand/api"
	"github.com/errand-dev/errand/auth"
)

const signInPath = "/v1/sign-in"

type signIn struct {
	Body api.SignIn
}

// cookied is an answer without a body that sets a cookie.
type cookied struct {
	SetCookie http.Cookie `header:"Set-Cookie"`
}

func (s *Server) signInRoutes(r *router) {
	huma.Register(r.api, r.operation(route{name: "signIn", method: "POST", path: signInPath, status: http.StatusNoContent, failures: []int{400, 403},
		summary: "Let this browser in with a key or a code: sets a cookie"}), s.signIn)
	huma.Register(r.api, r.operation(route{name: "signOut", method: "POST", path: "/v1/sign-out", status: http.StatusNoContent, failures: []int{403},
		summary: "Forget this browser"}), s.signOut)
	add(r, route{name: "createSignInCode", method: "POST", path: "/v1/sign-in-codes", status: http.StatusCreated,
		summary: "Make a word that lets one browser in, once, within two minutes"}, s.createSignInCode)
}

// cookieName gives each server its own, since browsers do not tell ports apart.
// Where there is TLS it is a name that no other host can set.
func cookieName(u *url.URL) string {
	name := "errand"
	if port := u.Port(); port != "" {
		name += "_" + port
	}
	if u.Scheme == "https" {
		name = "__Host-" + name
	}
	return name
}

func (s *Server) newCookie(value string, age time.Duration) http.Cookie {
	return http.Cookie{
		Name: s.cookie, Value: value, Path: "/", MaxAge: int(age.Seconds()),
		HttpOnly: true, SameSite: http.SameSiteStrictMode, Secure: s.secure,
	}
}

func (s *Server) signIn(ctx context.Context, in *signIn) (*cookied, error) {
	value, err := s.keys.SignIn(ctx, in.Body.Key)
	if err != nil {
		return nil, s.refusalOf(ctx, err)
	}
	return &cookied{s.newCookie(value, auth.SignInFor)}, nil
}

func (s *Server) signOut(ctx context.Context, in *struct {
	Cookie string `header:"Cookie" hidden:"true"`
}) (*cookied, error) {
	cookies, err := http.ParseCookie(in.Cookie)
	if err != nil {
		cookies = nil // then there is nothing of ours to end
	}
	for _, c := range cookies {
		if c.Name == s.cookie {
			if err := s.keys.SignOut(ctx, c.Value); err != nil {
				return nil, s.refusalOf(ctx, err)
			}
		}
	}
	return &cookied{s.newCookie("", -time.Second)}, nil
}

func (s *Server) createSignInCode(_ context.Context, w who, _ *struct{}) (api.SignInCode, error) {
	code, err := s.keys.Code(w.key)
	return api.SignInCode{Code: code, URL: s.url + "/#code=" + code}, err
}
