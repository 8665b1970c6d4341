package preview

import (
	"context"
	"errors"
	"log/slog"
	"net"
	"net/http"
	"net/http/httputil"
	"net/url"
	"slices"
	"strconv"
	"strings"
	"sync"
	"time"

	"github.com/errand-dev/errand"
	"github.com/errand-dev/errand/guest"
)

// Bounds of the connections into machines.
const (
	maxAnswerHeader = 256 << 10 // bytes
	maxIdle         = 6         // connections kept for the next request, of one port
	idleFor         = 10 * time.Second
	copySize        = 64 << 10
)

// visit is what a request is for, who makes it and how they reach it.
type visit struct {
	Target
	caller errand.Caller
	scheme string // of the preview, as the browser sees it
	host   string
}

type visitKey struct{}

func visitOf(ctx context.Context) visit {
	v, _ := ctx.Value(visitKey{}).(visit)
	return v
}

func (p *Previews) newProxy() *httputil.ReverseProxy {
	p.transport = &http.Transport{
		DialContext:            p.dial,
		DisableCompression:     true, // what goes through is as the browser asked for it
		MaxIdleConnsPerHost:    maxIdle,
		IdleConnTimeout:        idleFor, // a kept connection holds its machine awake
		MaxResponseHeaderBytes: maxAnswerHeader,
		WriteBufferSize:        copySize, ReadBufferSize: copySize,
	}
	return &httputil.ReverseProxy{
		Transport: p.transport, Rewrite: p.rewrite, ModifyResponse: p.answer, ErrorHandler: p.broken,
		BufferPool: &buffers{}, ErrorLog: slog.NewLogLogger(p.log.Handler(), slog.LevelDebug),
	}
}

// buffers are reused from one answer to the next.
type buffers struct{ pool sync.Pool }

// Get gives a buffer.
func (b *buffers) Get() []byte {
	if buf, ok := b.pool.Get().(*[]byte); ok {
		return *buf
	}
	return make([]byte, copySize)
}

// Put takes one back.
func (b *buffers) Put(buf []byte) { b.pool.Put(&buf) }

// dial connects to a target, which the address names as rewrite has written it.
func (p *Previews) dial(ctx context.Context, _, address string) (net.Conn, error) {
	id, port, err := net.SplitHostPort(address)
	if err != nil {
		return nil, err
	}
	number, err := strconv.Atoi(port)
	if err != nil {
		return nil, err
	}
	conn, err := p.connect(ctx, visitOf(ctx).caller, Target{errand.AgentID(id), number})
	if err != nil {
		return nil, err
	}
	return whole{conn}, nil
}

// whole is a connection that ends in both directions at once. A browser that is
// gone has ended but one of a WebSocket's, and a program that does not mind would
// keep the other, and its machine awake.
type whole struct{ net.Conn }

// rewrite makes of a browser's request one that a program on the machine's own
// localhost expects.
func (p *Previews) rewrite(r *httputil.ProxyRequest) {
	v := visitOf(r.In.Context())
	port := strconv.Itoa(v.Port)
	local := net.JoinHostPort(loopback, port)
	out := r.Out
	out.URL.Scheme, out.URL.Host = "http", net.JoinHostPort(string(v.Agent), port)
	out.URL.RawQuery = r.In.URL.RawQuery // as it was: programs read queries that net/url does not
	out.Host = local
	for name := range out.Header {
		if strings.HasPrefix(name, "X-Forwarded-") || name == "X-Real-Ip" {
			delete(out.Header, name)
		}
	}
	if from, err := url.Parse(out.Header.Get("Referer")); err == nil && strings.EqualFold(from.Host, v.host) {
		from.Scheme, from.Host = "http", local
		out.Header.Set("Referer", from.String())
	}
	if origin := out.Header.Get("Origin"); origin == "" {
		out.Header.Set("X-Forwarded-Host", v.host)
		out.Header.Set("X-Forwarded-Proto", v.scheme)
	} else if origin != "null" {
		// Programs compare it with the host, some with the forwarded one, which is
		// why that is left out here.
		out.Header.Set("Origin", "http://"+local)
	}
	p.withhold(out)
}

// withhold takes what is the server's out of a request that goes into a machine:
// passes, the panel's cookie, and a key of ours.
func (p *Previews) withhold(out *http.Request) {
	sent := out.Header.Values("Cookie")
	out.Header.Del("Cookie")
	if theirs := p.theirs(strings.Join(sent, ";")); theirs != "" {
		out.Header.Set("Cookie", theirs)
	}
	name, _, basic := out.BasicAuth()
	_, token, _ := strings.Cut(out.Header.Get("Authorization"), " ")
	if strings.HasPrefix(strings.TrimSpace(token), keyPrefix) || basic && strings.HasPrefix(name, keyPrefix) {
		out.Header.Del("Authorization")
	}
}

// theirs gives the cookies that are not ours, as they were sent: programs keep in
// them what net/http would not write.
func (p *Previews) theirs(sent string) string {
	var kept []string
	for part := range strings.SplitSeq(sent, ";") {
		part = strings.TrimSpace(part)
		name, _, _ := strings.Cut(part, "=")
		if part != "" && !slices.Contains([]string{cookieName(true), cookieName(false), p.cookie}, strings.TrimSpace(name)) {
			kept = append(kept, part)
		}
	}
	return strings.Join(kept, "; ")
}

// keyPrefix begins every API key.
const keyPrefix = "errand_"

// answer makes of a program's answer one that holds for the preview's host, and
// takes out what would reach beyond it.
func (p *Previews) answer(resp *http.Response) error {
	h := resp.Header
	for _, name := range []string{"Clear-Site-Data", "Strict-Transport-Security", "Alt-Svc"} {
		h.Del(name)
	}
	v := visitOf(resp.Request.Context())
	if to, err := url.Parse(h.Get("Location")); err == nil && isLoopback(to.Hostname()) && to.Port() == resp.Request.URL.Port() {
		to.Scheme, to.Host = v.scheme, v.host
		h.Set("Location", to.String())
	}
	cookies := h.Values("Set-Cookie")
	h.Del("Set-Cookie")
	for _, c := range cookies {
		if c = hostOnly(c); c != "" {
			h.Add("Set-Cookie", c)
		}
	}
	return nil
}

// hostOnly gives a Set-Cookie for the host that sends it alone, "" for one of our
// names.
func hostOnly(cookie string) string {
	parts := strings.Split(cookie, ";")
	name, _, _ := strings.Cut(parts[0], "=")
	if name = strings.TrimSpace(name); name == cookieName(true) || name == cookieName(false) {
		return ""
	}
	kept := parts[:1]
	for _, part := range parts[1:] {
		attribute, _, _ := strings.Cut(part, "=")
		if !strings.EqualFold(strings.TrimSpace(attribute), "domain") {
			kept = append(kept, part)
		}
	}
	return strings.Join(kept, ";")
}

// broken answers a request that no answer came to.
func (p *Previews) broken(w http.ResponseWriter, r *http.Request, err error) {
	v := visitOf(r.Context())
	switch {
	case r.Context().Err() != nil:
		panic(http.ErrAbortHandler) // nobody reads it, or nobody may any more
	case errors.Is(err, guest.ErrRefused):
		p.say(w, r, silent(v.Target))
	case errand.KindOf(err) != errand.Internal:
		p.fail(w, r, err)
	default:
		p.log.Debug("no answer from a previewed program", "agent", v.Agent, "port", v.Port, "err", err)
		p.say(w, r, cut(v.Target))
	}
}
