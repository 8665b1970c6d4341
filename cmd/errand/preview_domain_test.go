package main_test

import (
	"context"
	"net"
	"net/http"
	"net/http/httptest"
	"net/http/httputil"
	"net/url"
	"strings"
	"testing"

	"github.com/errand-dev/errand"
)

// TestPreviewDomain reaches previews under a domain of their own, through a proxy
// with TLS that passes the Host on, as people elsewhere do.
func TestPreviewDomain(t *testing.T) {
	in := install(t, here(), "--public-url", "https://errand.example.com", "--preview-domain", "previews.example.net")
	made := in.agent("Be there", "", "runc")
	id := made.Agent.ID
	in.finished(id, made.Run.ID)
	in.program(id, 3000, "127.0.0.1")
	in.program(id, 3001, "127.0.0.1")
	server, err := url.Parse(in.client.URL())
	if err != nil {
		t.Fatal(err)
	}
	proxy := httptest.NewTLSServer(&httputil.ReverseProxy{Rewrite: func(r *httputil.ProxyRequest) { r.SetURL(server); r.Out.Host = r.In.Host }})
	t.Cleanup(proxy.Close)
	// through gives a browser that finds every name at the proxy.
	through := func() *looker {
		l := newLooker(t, in)
		transport := proxy.Client().Transport.(*http.Transport).Clone()
		transport.TLSClientConfig.ServerName = "example.com" // what the proxy's certificate is for
		transport.DialContext = func(ctx context.Context, network, _ string) (net.Conn, error) {
			return new(net.Dialer).DialContext(ctx, network, proxy.Listener.Addr().String())
		}
		t.Cleanup(transport.CloseIdleConnections)
		l.http.Transport = transport
		return l
	}
	l := through()
	if body := l.open(id, 3000, ""); !strings.Contains(body, "It works") {
		t.Fatalf("the preview shows %s", body)
	}
	short := strings.TrimPrefix(id, "bc-")
	if want := "https://3000--" + short + ".previews.example.net"; l.origin != want {
		t.Fatalf("the preview is at %s, want %s", l.origin, want)
	}
	if _, _, body := l.ask("GET", "/seen", nil); !strings.Contains(body, `"host":"localhost:3000"`) || !strings.Contains(body, `"x-forwarded-proto":"https"`) || strings.Contains(body, "errand_preview") {
		t.Errorf("the program sees %s", body)
	}
	ws, _, err := l.socket(l.origin)
	if err != nil {
		t.Fatal(err)
	}
	l.echo(ws, "hello")
	ws.CloseNow()
	l.domainPass(id)
	l.domainNames(id, through())
}

// domainPass looks at the cookie of a preview under a domain: for this one host,
// by TLS alone, and under no other name.
func (l *looker) domainPass(id string) {
	l.Helper()
	p, err := l.in.client.OpenPreview(l.Context(), errand.AgentID(id), 3000, "/seen")
	if err != nil {
		l.Fatal(err)
	}
	l.http.CheckRedirect = func(*http.Request, []*http.Request) error { return http.ErrUseLastResponse }
	defer func() { l.http.CheckRedirect = nil }()
	status, h, _ := l.ask("GET", p.URL, nil, "Sec-Fetch-Mode", "navigate", "Sec-Fetch-Site", "cross-site")
	set, err := http.ParseSetCookie(h.Get("Set-Cookie"))
	if err != nil {
		l.Fatal(err)
	}
	if status != 303 || h.Get("Location") != "/seen" || set.Name != "__Host-errand_preview" || !set.Secure || !set.HttpOnly || set.Domain != "" || set.Path != "/" || set.SameSite != http.SameSiteLaxMode {
		l.Errorf("the ticket gives %d and %+v", status, set)
	}
	pass := set.Name + "=" + set.Value
	other := strings.Replace(l.origin, "3000--", "3001--", 1)
	local := "http://3000--" + strings.TrimPrefix(id, "bc-") + ".localhost"
	bare := newLooker(l.T, l.in) // without the proxy, and with no cookies of its own
	elsewhere := &looker{T: l.T, in: l.in, http: &http.Client{Transport: l.http.Transport}}
	for name, try := range map[string]struct {
		who        *looker
		at, cookie string
		status     int
	}{
		"its own host":             {elsewhere, l.origin, pass, 200},
		"no pass":                  {elsewhere, l.origin, "", 401},
		"the next port's host":     {elsewhere, other, pass, 401},
		"a name without its guard": {elsewhere, l.origin, "errand_preview=" + set.Value, 401},
		"the server's own":         {elsewhere, "https://errand.example.com/v1/me", "__Host-errand=" + set.Value, 401},
		"under localhost":          {bare, local, pass, 401},
	} {
		if status, _, body := try.who.ask("GET", try.at, nil, "Cookie", try.cookie); status != try.status {
			l.Errorf("the pass at %s: %d %s, want %d", name, status, body, try.status)
		}
	}
}

// domainNames asks by every kind of name: a preview's serves the preview alone, the
// server's never one, and a foreign one nothing.
func (l *looker) domainNames(id string, stranger *looker) {
	l.Helper()
	label := "3000--" + strings.TrimPrefix(id, "bc-")
	key := l.in.bearer()
	for _, try := range []struct {
		at      string
		headers []string
		status  int
		says    string
	}{
		{"https://errand.example.com/v1/me", key, 200, ""},
		{"https://" + label + ".previews.example.net/v1/me", key, 401, "has not been let in"}, // a key lets nobody in there
		{"https://www.previews.example.net/", key, 404, "no preview"},
		{"https://www.previews.example.net/v1/me", key, 404, "no preview"},
		{"https://previews.example.net/", key, 404, "no preview"},
		{"https://99999--" + strings.TrimPrefix(id, "bc-") + ".previews.example.net/", key, 404, "no preview"},
		{"https://" + label + ".notpreviews.example.net/", key, 403, "is not called"},
		{"https://" + label + ".errand.example.com/", key, 403, "is not called"},
		{"https://evil.example/", nil, 403, "is not called"},
		{"https://evil.example/v1/me", key, 403, "is not called"},
		{"https://evil.example/.errand/open?ticket=AAAA", nil, 403, "is not called"},
	} {
		status, h, body := stranger.ask("GET", try.at, nil, append(try.headers, "Sec-Fetch-Mode", "navigate", "Sec-Fetch-Site", "none")...)
		if status != try.status || !strings.Contains(body, try.says) || strings.Contains(body, "It works") || h.Get("Set-Cookie") != "" {
			l.Errorf("%s: %d %s, want %d", try.at, status, body, try.status)
		}
	}
	for _, origin := range []string{"https://errand.example.com", "https://evil.example", strings.Replace(l.origin, "3000--", "3001--", 1), strings.Replace(l.origin, "https", "http", 1) + ":80"} {
		if ws, resp, err := l.socket(origin); err == nil {
			ws.CloseNow()
			l.Errorf("a page of %s may open a WebSocket", origin)
		} else if resp == nil || resp.StatusCode != 403 {
			l.Errorf("a WebSocket of %s: %v", origin, err)
		}
	}
}
