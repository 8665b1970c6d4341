package server

import (
	"context"
	"errors"
	"fmt"
	"net"
	"net/http"
	"net/netip"
	"net/url"
	"runtime/debug"
	"strconv"
	"strings"
	"time"

	"github.com/errand-dev/errand"
	"github.com/errand-dev/errand/environment/file"
	"github.com/errand-dev/errand/server/files"
)

// door is what every request passes before its route.
func (s *Server) door(next http.Handler) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		began := time.Now()
		rec := &recorder{ResponseWriter: w}
		defer func() {
			if fault := recover(); fault != nil {
				s.fault(rec, r, fault)
			}
			s.log.Debug("request", "method", r.Method, "path", r.URL.Path, "status", rec.status, "took", time.Since(began))
		}()
		if s.previews.Has(r) { // never the panel or the API, whatever else it shows
			ctx, end := s.untilStop(r.Context())
			defer end()
			s.previews.ServeHTTP(rec, r.WithContext(ctx))
			return
		}
		protect(rec.Header())
		if err := s.checkBrowser(r); err != nil {
			s.refuse(rec, r, err)
			return
		}
		if r.Body != nil && r.Body != http.NoBody && r.Method != http.MethodGet {
			r.Header.Set("Content-Type", "application/json") // all that is taken, whatever a client calls it
		}
		if s.open(r) {
			next.ServeHTTP(rec, r)
			return
		}
		asks, err := s.letIn(rec, r)
		if err != nil {
			s.refuse(rec, r, err)
			return
		}
		next.ServeHTTP(rec, r.WithContext(context.WithValue(r.Context(), whoKey{}, asks)))
	})
}

// schemaPath is where editors find the schema of environment files.
const schemaPath = "/schemas/" + file.SchemaName

// open says what needs no key: what says nothing of anybody's, the panel's own
// files among it, and the way in.
func (s *Server) open(r *http.Request) bool {
	switch r.URL.Path {
	case "/healthz", "/openapi.json", schemaPath, signInPath:
		return true
	}
	return s.ofPanel(r) || ofLink(r)
}

// ofLink says whether a request shows a link to an artifact, which is its own key.
func ofLink(r *http.Request) bool {
	return r.Method == http.MethodGet && strings.HasPrefix(r.URL.Path, files.LinkPath)
}

// ofPanel says whether a request is for the panel, which has all that is not the
// API's.
func (s *Server) ofPanel(r *http.Request) bool {
	return s.panel != nil && !strings.HasPrefix(r.URL.Path, "/v0/") && !strings.HasPrefix(r.URL.Path, "/v1/")
}

// protect sets what keeps browsers from doing more with an answer than show it.
func protect(h http.Header) {
	h.Set("X-Content-Type-Options", "nosniff")
	h.Set("X-Frame-Options", "DENY")
	h.Set("Referrer-Policy", "no-referrer")
	h.Set("Content-Security-Policy", "default-src 'none'; frame-ancestors 'none'")
	h.Set("Cross-Origin-Resource-Policy", "same-origin")
	h.Set("Cache-Control", "no-store")
}

// checkBrowser refuses what a foreign page makes a browser send, and names that
// were bent to point here.
func (s *Server) checkBrowser(r *http.Request) error {
	if !s.knownHost(r) {
		return errand.Errorf(errand.Forbidden, "forbidden_host", "The server is not called %.100q. Use %s, or start it with --public-url.", r.Host, s.url)
	}
	switch r.Header.Get("Sec-Fetch-Site") {
	case "cross-site", "same-site":
		if r.Method == http.MethodGet && (s.ofPanel(r) || ofLink(r)) && r.Header.Get("Sec-Fetch-Mode") == "navigate" {
			return nil // a link to the panel, which shows nobody's things by itself, or to a download
		}
		return foreignOrigin()
	}
	if origin := r.Header.Get("Origin"); origin != "" {
		u, err := url.Parse(origin)
		if err != nil || u.Host == "" || (u.Host != r.Host && u.Host != s.host) {
			return foreignOrigin()
		}
	}
	return nil
}

func foreignOrigin() error {
	return errand.Errorf(errand.Forbidden, "forbidden_origin", "Requests of pages from elsewhere are refused.")
}

// knownHost says whether the request's Host is one of ours. On loopback only
// addresses and names that cannot be made to point elsewhere are.
func (s *Server) knownHost(r *http.Request) bool {
	if r.Host == s.host {
		return true
	}
	local, ok := r.Context().Value(http.LocalAddrContextKey).(net.Addr)
	if !ok {
		return true
	}
	addr, err := netip.ParseAddrPort(local.String())
	if err != nil || !addr.Addr().Unmap().IsLoopback() {
		return true
	}
	name := r.Host
	if host, _, err := net.SplitHostPort(name); err == nil {
		name = host
	}
	name = strings.ToLower(strings.Trim(name, "[]"))
	_, notAddress := netip.ParseAddr(name)
	return notAddress == nil || name == "localhost" || strings.HasSuffix(name, ".localhost")
}

// letIn finds who asks and counts the request.
func (s *Server) letIn(w http.ResponseWriter, r *http.Request) (who, error) {
	asks, err := s.caller(r)
	if err != nil {
		return who{}, err
	}
	asks.host = r.Host
	h := w.Header()
	left, reset, ok := s.rate.take(asks.key.ID, time.Now())
	h.Set("X-RateLimit-Limit", strconv.Itoa(s.rate.most))
	h.Set("X-RateLimit-Remaining", strconv.Itoa(left))
	h.Set("X-RateLimit-Reset", strconv.FormatInt(reset.Unix(), 10))
	if !ok {
		wait := int(time.Until(reset).Seconds()) + 1
		h.Set("Retry-After", strconv.Itoa(wait))
		return who{}, errand.Errorf(errand.Limited, "rate_limit_exceeded", "This key has made %d requests within a minute. Try again in %d s.", s.rate.most, wait)
	}
	return asks, nil
}

// caller finds whose key, or whose cookie, the request shows.
func (s *Server) caller(r *http.Request) (asks who, err error) {
	shown := token(r)
	cookie, err := r.Cookie(s.cookie)
	if shown != "" || err != nil {
		asks.caller, asks.key, err = s.keys.Check(r.Context(), shown)
		return asks, err
	}
	// A browser sends a cookie by itself, so what changes something, or opens a
	// WebSocket, must be known to come from a page of ours. checkBrowser has
	// refused what says that it does not; this refuses what says nothing.
	reads := r.Method == http.MethodGet && r.Header.Get("Upgrade") == ""
	if !reads && r.Header.Get("Origin") == "" && r.Header.Get("Sec-Fetch-Site") != "same-origin" {
		return who{}, foreignOrigin()
	}
	asks.signIn = cookie.Value
	asks.caller, asks.key, err = s.keys.CheckSignIn(r.Context(), cookie.Value)
	return asks, err
}

// token gives the key that the request shows: as a bearer, or as the user name
// of Basic. It is never taken from the URL, which ends up in logs.
func token(r *http.Request) string {
	if name, _, ok := r.BasicAuth(); ok {
		return name
	}
	scheme, rest, _ := strings.Cut(r.Header.Get("Authorization"), " ")
	if strings.EqualFold(scheme, "Bearer") {
		return strings.TrimSpace(rest)
	}
	return ""
}

// fault answers a request that hit a bug of ours.
func (s *Server) fault(rec *recorder, r *http.Request, fault any) {
	if err, ok := fault.(error); ok && errors.Is(err, http.ErrAbortHandler) {
		panic(fault) // net/http's own way to cut a connection
	}
	s.log.Error("request panicked", "method", r.Method, "path", r.URL.Path, "fault", fmt.Sprint(fault), "stack", string(debug.Stack()))
	if rec.status == 0 {
		s.refuse(rec, r, errand.Errorf(errand.Internal, "internal_error", "%v", fault))
	}
}

// recorder remembers an answer's status.
type recorder struct {
	http.ResponseWriter
	status int // 0 until something was written
}

// WriteHeader sends the status.
func (r *recorder) WriteHeader(status int) {
	if r.status == 0 {
		r.status = status
	}
	r.ResponseWriter.WriteHeader(status)
}

// Write sends a piece of the body.
func (r *recorder) Write(p []byte) (int, error) {
	if r.status == 0 {
		r.status = http.StatusOK
	}
	return r.ResponseWriter.Write(p)
}

// Unwrap lets http.ResponseController reach what is inside.
func (r *recorder) Unwrap() http.ResponseWriter { return r.ResponseWriter }
