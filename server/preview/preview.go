package preview

import (
	"cmp"
	"context"
	"log/slog"
	"net/http"
	"net/http/httputil"
	"net/url"
	"strings"
	"sync"
	"time"

	"github.com/errand-dev/errand"
	"github.com/errand-dev/errand/api"
	"github.com/errand-dev/errand/auth"
	"github.com/errand-dev/errand/presence"
	"github.com/errand-dev/errand/runner"
	"github.com/errand-dev/errand/store"
)

// Paths of a preview's host that are ours; all others are the program's.
const (
	openPath  = "/.errand/open"  // turns a ticket into a pass
	statePath = "/.errand/state" // says whether something listens
)

// checkEvery is how soon what is open ends after the right to it has.
const checkEvery = 2 * time.Second

// Options are for New.
type Options struct {
	Runner *runner.Runner
	Keys   *auth.Keys
	Log    *slog.Logger
	URL    string // how people reach the server
	Domain string // HOST or HOST:PORT, under which all names lead to the server; "" is none
	// Cookie is the name of the server's own, which no machine is to see.
	Cookie string
}

// Previews serve the hosts of all previews. They may be used from many goroutines.
type Previews struct {
	runner    *runner.Runner
	keys      *auth.Keys
	log       *slog.Logger
	names     names
	cookie    string // of the server
	open      connections
	transport *http.Transport
	proxy     *httputil.ReverseProxy
}

// New makes previews. A domain that cannot be used is an Invalid error.
func New(o Options) (*Previews, error) {
	n, err := newNames(o.URL, o.Domain)
	if err != nil {
		return nil, err
	}
	p := &Previews{runner: o.Runner, keys: o.Keys, log: o.Log, names: n, cookie: o.Cookie}
	p.proxy = p.newProxy()
	return p, nil
}

// Has says whether a request is for a preview's host, and so for ServeHTTP alone.
func (p *Previews) Has(r *http.Request) bool {
	_, is, _ := p.names.find(r.Host)
	return is
}

// Open gives a URL that lets one browser look at a target, beginning at path. host
// is how the caller reaches the server, signIn the cookie that let them in, if one
// did.
func (p *Previews) Open(key store.Key, signIn, host string, t Target, path string) (api.Preview, error) {
	origin, err := p.names.origin(host, t)
	if err != nil {
		return api.Preview{}, err
	}
	if path, err = localPath(path); err != nil {
		return api.Preview{}, err
	}
	expires := time.Now().Add(auth.TicketFor).UTC().Truncate(time.Second)
	ticket, err := p.keys.Ticket(key, signIn, t.thing())
	if err != nil {
		return api.Preview{}, err
	}
	query := url.Values{"ticket": {ticket}}
	if path != "/" {
		query.Set("to", path)
	}
	return api.Preview{URL: origin + openPath + "?" + query.Encode(), Origin: origin, ExpiresAt: expires}, nil
}

// localPath gives a path on a preview's own host, "/" for "".
func localPath(path string) (string, error) {
	path = cmp.Or(path, "/")
	u, err := url.Parse(path)
	if err != nil || u.Scheme != "" || u.Host != "" || u.User != nil || !strings.HasPrefix(path, "/") || strings.HasPrefix(path, "//") || strings.ContainsAny(path, "\\\r\n") {
		return "", errand.Errorf(errand.Invalid, "validation_error", "%.100q is no path of the preview's. It begins with one slash, as /admin?tab=1 does.", path)
	}
	return path, nil
}

// ServeHTTP answers a request for a preview's host. Streams and WebSockets end
// with the request's context, or soon after the right to look has.
func (p *Previews) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	t, _, ok := p.names.find(r.Host)
	if !ok {
		p.say(w, r, unknownName)
		return
	}
	if err := checkOrigin(r); err != nil {
		p.fail(w, r, err)
		return
	}
	if r.URL.Path == openPath {
		p.enter(w, r, t)
		return
	}
	caller, pass, err := p.letIn(r, t)
	if err == nil {
		_, err = p.runner.Agent(r.Context(), caller, t.Agent)
	}
	switch {
	case errand.KindOf(err) == errand.Unauthorized:
		p.say(w, r, notOpened(t))
	case errand.KindOf(err) == errand.NotFound:
		p.say(w, r, gone(t))
	case err != nil:
		p.fail(w, r, err)
	case r.URL.Path == statePath:
		p.state(w, r, caller, t)
	case !p.runner.Awake(t.Agent) && !byPerson(r):
		p.say(w, r, asleep(t))
	default:
		ctx, end := During(r.Context(), func(ctx context.Context) error {
			_, _, err := p.keys.CheckPass(ctx, pass, t.thing())
			return err
		})
		defer end()
		defer p.runner.Rooms.Use(t.Agent, presence.Person{Caller: caller, Doing: presence.Preview, Port: t.Port})()
		v := visit{Target: t, caller: caller, scheme: "http", host: r.Host}
		if p.names.secure(r.Host) {
			v.scheme = "https"
		}
		p.proxy.ServeHTTP(w, r.WithContext(context.WithValue(ctx, visitKey{}, v)))
	}
}

// enter turns a ticket into a pass, as a cookie of this host alone.
func (p *Previews) enter(w http.ResponseWriter, r *http.Request, t Target) {
	if r.Method != http.MethodGet {
		p.say(w, r, page{status: http.StatusMethodNotAllowed, title: "This address is only read"})
		return
	}
	query := r.URL.Query()
	to, err := localPath(query.Get("to"))
	if err != nil {
		p.fail(w, r, err)
		return
	}
	pass, err := p.keys.Pass(r.Context(), query.Get("ticket"), t.thing())
	switch {
	case errand.KindOf(err) == errand.Unauthorized:
		p.say(w, r, usedUp(t))
		return
	case err != nil:
		p.fail(w, r, err)
		return
	}
	secure := p.names.secure(r.Host)
	http.SetCookie(w, &http.Cookie{
		Name: cookieName(secure), Value: pass, Path: "/", MaxAge: int(auth.PassFor.Seconds()),
		// Lax: a link from elsewhere, and the way back from signing in at a third
		// party, may lead here.
		HttpOnly: true, SameSite: http.SameSiteLaxMode, Secure: secure,
	})
	protect(w.Header(), "")
	w.Header().Set("Location", to)
	w.WriteHeader(http.StatusSeeOther)
}

// cookieName is that of passes. Where there is TLS, browsers let no other host set
// a cookie of such a name.
func cookieName(secure bool) string {
	if secure {
		return "__Host-errand_preview"
	}
	return "errand_preview"
}

// letIn finds whose pass the request shows.
func (p *Previews) letIn(r *http.Request, t Target) (errand.Caller, string, error) {
	cookie, err := r.Cookie(cookieName(p.names.secure(r.Host)))
	if err != nil {
		return errand.Caller{}, "", errand.Errorf(errand.Unauthorized, "unauthorized", "There is no pass.")
	}
	caller, _, err := p.keys.CheckPass(r.Context(), cookie.Value, t.thing())
	return caller, cookie.Value, err
}

// state tells a page that waits whether something listens by now: 204. It wakes
// nothing.
func (p *Previews) state(w http.ResponseWriter, r *http.Request, caller errand.Caller, t Target) {
	all, err := p.runner.Listeners(r.Context(), caller, t.Agent)
	if err != nil {
		p.fail(w, r, err)
		return
	}
	protect(w.Header(), "")
	for _, l := range all {
		if l.Port == t.Port {
			w.WriteHeader(http.StatusNoContent)
			return
		}
	}
	w.WriteHeader(http.StatusServiceUnavailable)
}

// checkOrigin refuses what a page of another origin makes a browser send, but for
// following a link.
func checkOrigin(r *http.Request) error {
	site := r.Header.Get("Sec-Fetch-Site")
	origin := r.Header.Get("Origin")
	if origin != "" && !ownOrigin(origin, r.Host) {
		// A page that is told to name no referrer sends "null" also to itself.
		if origin != "null" || site != "same-origin" {
			return foreign()
		}
	}
	switch site {
	case "cross-site", "same-site":
		reads := r.Method == http.MethodGet || r.Method == http.MethodHead
		frame := r.Header.Get("Sec-Fetch-Dest")
		if !reads || r.Header.Get("Sec-Fetch-Mode") != "navigate" || frame != "" && frame != "document" {
			return foreign()
		}
	}
	// A browser sends a cookie by itself, so what changes something, or opens a
	// WebSocket, must be known to come from here.
	if (writes(r) || r.Header.Get("Upgrade") != "") && origin == "" && site != "same-origin" && site != "none" {
		return foreign()
	}
	return nil
}

func writes(r *http.Request) bool {
	switch r.Method {
	case http.MethodGet, http.MethodHead, http.MethodOptions:
		return false
	}
	return true
}

func ownOrigin(origin, host string) bool {
	u, err := url.Parse(origin)
	return err == nil && u.Host != "" && strings.EqualFold(u.Host, host)
}

func foreign() error {
	return errand.Errorf(errand.Forbidden, "forbidden_origin", "Requests of pages from elsewhere are refused here. A page that needs another port of the machine reaches it through its own server, or with `errand port`.")
}

// byPerson says whether somebody came to look, rather than a page that asks by
// itself.
func byPerson(r *http.Request) bool {
	switch r.Header.Get("Sec-Fetch-Mode") {
	case "navigate":
		return true
	case "":
		return r.Header.Get("Upgrade") == ""
	}
	return false
}

// During gives a context that ends with ctx, or soon after still has said that its
// caller is not let in any more. end is to be called when it is done with.
func During(ctx context.Context, still func(context.Context) error) (_ context.Context, end func()) {
	ctx, cancel := context.WithCancel(ctx)
	var watch sync.WaitGroup
	watch.Go(func() {
		tick := time.NewTicker(checkEvery)
		defer tick.Stop()
		for {
			select {
			case <-tick.C:
			case <-ctx.Done():
				return
			}
			if errand.KindOf(still(ctx)) == errand.Unauthorized {
				cancel()
				return
			}
		}
	})
	return ctx, func() {
		cancel()
		watch.Wait()
	}
}
