package main_test

import (
	"bufio"
	"bytes"
	"context"
	"crypto/rand"
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/http/cookiejar"
	"net/url"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/coder/websocket"

	"github.com/errand-dev/errand"
	"github.com/errand-dev/errand/api"
	"github.com/errand-dev/errand/client"
	"github.com/errand-dev/errand/guest/guesttest"
	"github.com/errand-dev/errand/llm/scripted"
)

// here is a script for agents that need do nothing.
func here() *scripted.Script {
	return &scripted.Script{Conversations: []*scripted.Conversation{{Turns: []*scripted.Turn{{Text: "Here I am."}}, Repeat: true}}}
}

// looker is a browser as far as HTTP goes: cookies, and what browsers say of where
// a request comes from.
type looker struct {
	*testing.T
	in     *installation
	http   *http.Client
	origin string // of the preview
}

// newLooker makes one whose browser finds every name under localhost here, as
// browsers do.
func newLooker(t *testing.T, in *installation) *looker {
	t.Helper()
	jar, err := cookiejar.New(nil)
	if err != nil {
		t.Fatal(err)
	}
	l := &looker{T: t, in: in}
	transport := &http.Transport{DialContext: func(ctx context.Context, network, _ string) (net.Conn, error) {
		at, err := url.Parse(l.in.client.URL())
		if err != nil {
			return nil, err
		}
		return new(net.Dialer).DialContext(ctx, network, at.Host)
	}}
	t.Cleanup(transport.CloseIdleConnections)
	l.http = &http.Client{Jar: jar, Transport: transport}
	return l
}

// open opens a preview and gives what it shows.
func (l *looker) open(id string, port int, path string) string {
	l.Helper()
	p, err := l.in.client.OpenPreview(l.Context(), errand.AgentID(id), port, path)
	if err != nil {
		l.Fatal(err)
	}
	l.origin = p.Origin
	status, _, body := l.ask("GET", p.URL, nil, "Sec-Fetch-Mode", "navigate", "Sec-Fetch-Site", "cross-site")
	if status != 200 {
		l.Fatalf("the preview answers %d: %s", status, body)
	}
	return body
}

// ask makes a request, of the preview's own page unless headers say otherwise. A
// path is one of the preview.
func (l *looker) ask(method, at string, body io.Reader, headers ...string) (int, http.Header, string) {
	l.Helper()
	at, headers = l.asPage(at, headers)
	return ask(l.T, l.http, method, at, body, headers...)
}

func (l *looker) request(ctx context.Context, method, at string, body io.Reader, headers ...string) *http.Response {
	l.Helper()
	at, headers = l.asPage(at, headers)
	return request(ctx, l.T, l.http, method, at, body, headers...)
}

// asPage gives a URL and headers as a page of the preview has them.
func (l *looker) asPage(at string, headers []string) (string, []string) {
	if strings.HasPrefix(at, "/") {
		at = l.origin + at
	}
	return at, append([]string{"Sec-Fetch-Site", "same-origin", "Sec-Fetch-Mode", "cors"}, headers...)
}

// socket opens a WebSocket of the preview, as a page of some origin.
func (l *looker) socket(origin string) (*websocket.Conn, *http.Response, error) {
	at := "ws" + strings.TrimPrefix(l.origin, "http") + "/ws"
	return websocket.Dial(l.Context(), at, &websocket.DialOptions{HTTPClient: l.http, HTTPHeader: http.Header{"Origin": {origin}}})
}

// echo sends a message and wants it back.
func (l *looker) echo(ws *websocket.Conn, text string) {
	l.Helper()
	if err := ws.Write(l.Context(), websocket.MessageText, []byte(text)); err != nil {
		l.Fatal(err)
	}
	if _, back, err := ws.Read(l.Context()); err != nil || string(back) != text {
		l.Fatalf("of %d bytes came back %d, %v", len(text), len(back), err)
	}
}

// program starts the test's program in an agent's machine, in a terminal of its
// own, and waits until it listens.
func (in *installation) program(id string, port int, host string) {
	in.t.Helper()
	text, err := os.ReadFile("testdata/preview.mjs")
	if err != nil {
		in.t.Fatal(err)
	}
	in.exec(id, string(text), "sh", "-c", "cat >/tmp/preview.mjs")
	in.exec(id, "", "tmux", "new-session", "-d", "-s", "program-"+strconv.Itoa(port), "exec node /tmp/preview.mjs "+strconv.Itoa(port)+" "+host)
	in.listening(id, port)
}

// listening waits until a port of the machine is listened on.
func (in *installation) listening(id string, port int) (found api.OpenPort) {
	in.t.Helper()
	in.portsUntil(id, func(p api.Ports) bool {
		for _, one := range p.Items {
			if one.Port == port && one.Listening {
				found = one
				return true
			}
		}
		return false
	})
	return found
}

// portsUntil follows the stream of an agent's ports until they are as wanted.
func (in *installation) portsUntil(id string, wanted func(api.Ports) bool) {
	in.t.Helper()
	ctx, cancel := context.WithTimeout(in.t.Context(), time.Minute)
	defer cancel()
	resp := request(ctx, in.t, http.DefaultClient, "GET", in.client.URL()+"/v1/agents/"+id+"/ports/changes", nil, in.bearer()...)
	defer resp.Body.Close()
	last, event := "", ""
	for lines := bufio.NewScanner(resp.Body); lines.Scan(); {
		if name, ok := strings.CutPrefix(lines.Text(), "event: "); ok {
			event = name
		}
		text, ok := strings.CutPrefix(lines.Text(), "data: ")
		if !ok || event != api.StreamPorts { // a heartbeat tells of none
			continue
		}
		last = text
		var p api.Ports
		if err := json.Unmarshal([]byte(text), &p); err != nil {
			in.t.Fatal(err)
		}
		if wanted(p) {
			return
		}
	}
	in.t.Fatalf("the ports are not as they should be: %s", last)
}

// key gives the installation's own.
func (in *installation) key() string {
	in.t.Helper()
	key, err := os.ReadFile(filepath.Join(in.data, "key"))
	if err != nil {
		in.t.Fatal(err)
	}
	return strings.TrimSpace(string(key))
}

// keyNamed makes another key.
func (in *installation) keyNamed(name string) string {
	in.t.Helper()
	out, err := in.command("key", "create", name).Output()
	if err != nil {
		in.t.Fatal(err)
	}
	return strings.TrimSpace(string(out))
}

// exec runs a command in an agent's machine, which must end well.
func (in *installation) exec(id, stdin string, args ...string) string {
	in.t.Helper()
	cmd := in.command(append([]string{"exec", id, "--"}, args...)...)
	cmd.Stdin = strings.NewReader(stdin)
	out, err := cmd.CombinedOutput()
	if err != nil {
		in.t.Fatalf("%q: %v\n%s", args, err, out)
	}
	return string(out)
}

// isHere wants the person whose the installation's own key is to be seen at an
// agent, doing something.
func (in *installation) isHere(id string, doing api.Present) {
	in.t.Helper()
	people, err := in.client.Presence(in.t.Context(), errand.AgentID(id))
	if err != nil {
		in.t.Fatal(err)
	}
	for _, p := range people.People {
		if doing.Name = p.Name; p == doing {
			return
		}
	}
	in.t.Errorf("nobody is seen with %+v: %+v", doing, people)
}

// TestPreview looks at programs in machines of each engine: through a preview as a
// browser does, with the server killed in between, and through forwarded ports.
func TestPreview(t *testing.T) {
	t.Parallel()
	if _, err := exec.LookPath("node"); err != nil {
		guesttest.Lacking(t, "this test needs node")
	}
	in := install(t, here())
	for _, engine := range []string{"gvisor", "runc"} {
		t.Run(engine, func(t *testing.T) {
			made := in.agent("Be there", remote(t, map[string]string{"README": "hello\n"}), engine)
			id := made.Agent.ID
			in.finished(id, made.Run.ID)
			in.program(id, 3000, "127.0.0.1")
			in.program(id, 3001, "::")
			l := newLooker(t, in)
			l.ports(id)
			if body := l.open(id, 3000, ""); !strings.Contains(body, "It works") {
				t.Fatalf("the preview shows %s", body)
			}
			l.seen(id)
			l.answers()
			l.streams(id)
			l.bodies()
			l.restart()
			l.strangers(id)
			l.forward(id)
			l.open(id, 3001, "")
			l.silence(id)
		})
	}
}

// ports lists what listens, with its process.
func (l *looker) ports(id string) {
	l.Helper()
	one := l.in.listening(id, 3000)
	if !one.Loopback || one.PID == 0 || one.Command != "node /tmp/preview.mjs 3000 127.0.0.1" {
		l.Errorf("port 3000 is %+v", one)
	}
	if wide := l.in.listening(id, 3001); wide.Loopback || wide.Command != "node /tmp/preview.mjs 3001 ::" {
		l.Errorf("port 3001 is %+v", wide)
	}
	out, err := l.in.command("ports", id).CombinedOutput()
	if err != nil || !strings.Contains(string(out), "on loopback") || !strings.Contains(string(out), "preview.mjs 3001") {
		l.Errorf("errand ports: %v\n%s", err, out)
	}
}

// seen looks at what the program is told of a request.
func (l *looker) seen(id string) {
	l.Helper()
	_, _, body := l.ask("POST", "/seen?a=1;b&c=%zz", nil, "Origin", l.origin, "Referer", l.origin+"/page", "Authorization", "Basic "+basic(l.in.key()),
		"X-Forwarded-For", "192.0.2.1", "X-Forwarded-Prefix", "/evil", "X-Forwarded-Host", "evil.example")
	var seen struct {
		URL     string
		Headers map[string]string
	}
	if err := json.Unmarshal([]byte(body), &seen); err != nil {
		l.Fatalf("%v: %s", err, body)
	}
	for name, want := range map[string]string{
		"host": "localhost:3000", "origin": "http://localhost:3000", "referer": "http://localhost:3000/page", "cookie": "", "authorization": "",
		"x-forwarded-host": "", "x-forwarded-for": "", "x-forwarded-prefix": "",
	} {
		if seen.Headers[name] != want {
			l.Errorf("the program sees %s: %q, want %q", name, seen.Headers[name], want)
		}
	}
	if seen.URL != "/seen?a=1;b&c=%zz" {
		l.Errorf("the program sees the URL %q", seen.URL)
	}
	if _, _, body = l.ask("GET", "/seen", nil, "Authorization", "Bearer the-programs-own", "Cookie", "theme=dark"); !strings.Contains(body, "the-programs-own") || !strings.Contains(body, "theme=dark") {
		l.Errorf("the program does not see its own: %s", body)
	}
	if !strings.Contains(body, `"x-forwarded-host":"`+strings.TrimPrefix(l.origin, "http://")+`"`) || !strings.Contains(body, `"x-forwarded-proto":"http"`) {
		l.Errorf("the program does not see where it is looked at: %s", body)
	}
	if strings.Contains(body, "errand_preview") {
		l.Errorf("the program sees the pass: %s", body)
	}
}

func basic(user string) string {
	r, _ := http.NewRequest("GET", "http://x", nil)
	r.SetBasicAuth(user, "")
	return strings.TrimPrefix(r.Header.Get("Authorization"), "Basic ")
}

// answers looks at what becomes of the program's answers.
func (l *looker) answers() {
	l.Helper()
	l.http.CheckRedirect = func(*http.Request, []*http.Request) error { return http.ErrUseLastResponse }
	_, h, _ := l.ask("GET", "/away", nil)
	l.http.CheckRedirect = nil
	if got := h.Get("Location"); got != l.origin+"/seen?from=away" {
		l.Errorf("a redirect to the program leads to %q", got)
	}
	_, h, _ = l.ask("GET", "/cookies", nil)
	if got := strings.Join(h.Values("Set-Cookie"), " | "); got != "mine=1; Path=/ | other=2; HttpOnly" {
		l.Errorf("the program sets %q", got)
	}
	if h.Get("Clear-Site-Data") != "" || h.Get("Strict-Transport-Security") != "" {
		l.Errorf("an answer reaches beyond the preview: %v", h)
	}
	if status, _, _ := l.ask("GET", "/nowhere", nil); status != 404 {
		l.Errorf("a page that is not there is %d", status)
	}
	if status, _, body := l.ask("GET", "/headers", nil); status != 502 || !strings.Contains(body, "connection") {
		l.Errorf("an endless header is answered with %d %s", status, body)
	}
}

// streams uses a WebSocket and server-sent events.
func (l *looker) streams(id string) {
	l.Helper()
	ws, _, err := l.socket(l.origin)
	if err != nil {
		l.Fatal(err)
	}
	l.echo(ws, "hello")
	l.echo(ws, strings.Repeat("x", 30_000))
	l.in.isHere(id, api.Present{Doing: "preview", Port: 3000})
	ws.CloseNow()
	l.events("1", "2", "3")
}

// events wants the first of the program's events, each when it is sent.
func (l *looker) events(want ...string) {
	l.Helper()
	ctx, cancel := context.WithTimeout(l.Context(), 30*time.Second)
	defer cancel()
	resp := l.request(ctx, "GET", "/events", nil)
	defer resp.Body.Close()
	for lines := bufio.NewScanner(resp.Body); len(want) > 0; {
		if !lines.Scan() {
			l.Fatalf("the events end before %v: %v", want, lines.Err())
		}
		if lines.Text() == "data: "+want[0] {
			want = want[1:]
		}
	}
}

// bodies sends and takes bodies that fit nowhere whole.
func (l *looker) bodies() {
	l.Helper()
	big := make([]byte, 24<<20)
	rand.Read(big)
	sum := sha256.Sum256(big)
	status, _, body := l.ask("POST", "/up", bytes.NewReader(big), "Origin", l.origin, "X-Sum", "1")
	if want := fmt.Sprintf(`{"size":%d,"sum":%q}`, len(big), hex.EncodeToString(sum[:])); status != 200 || body != want {
		l.Errorf("of what was sent the program has %d %s, want %s", status, body, want)
	}
	resp := l.request(l.Context(), "GET", "/down?mb=64", nil)
	defer resp.Body.Close()
	if n, err := io.Copy(io.Discard, resp.Body); n != 64<<20 || err != nil {
		l.Errorf("of 64 MiB came %d bytes, %v", n, err)
	}
}

// restart kills the server: what is open breaks, the pass holds.
func (l *looker) restart() {
	l.Helper()
	ws, _, err := l.socket(l.origin)
	if err != nil {
		l.Fatal(err)
	}
	defer ws.CloseNow()
	l.echo(ws, "before")
	at, err := url.Parse(l.in.client.URL())
	if err != nil {
		l.Fatal(err)
	}
	l.in.kill()
	if _, _, err := ws.Read(l.Context()); err == nil {
		l.Error("a WebSocket outlived the server")
	}
	l.in.start("--listen", at.Host)
	if status, _, body := l.ask("GET", "/", nil, "Sec-Fetch-Mode", "navigate"); status != 200 || !strings.Contains(body, "It works") {
		l.Errorf("after the server was killed the preview shows %d %s", status, body)
	}
	l.events("1", "2")
}

// strangers are refused: no pass, another's, a foreign page, and the pass itself
// where it does not belong.
func (l *looker) strangers(id string) {
	l.Helper()
	stranger := newLooker(l.T, l.in)
	stranger.origin = l.origin
	for name, try := range map[string]struct {
		who     *looker
		method  string
		at      string
		headers []string
		status  int
		says    string
	}{
		"no pass":              {stranger, "GET", "/", []string{"Sec-Fetch-Mode", "navigate"}, 401, "errand ports " + id + " --open 3000"},
		"a made-up pass":       {stranger, "GET", "/", []string{"Cookie", "errand_preview=key-1..9999999999.AAAA"}, 401, "has not been let in"},
		"the key":              {stranger, "GET", "/", []string{"Authorization", "Bearer " + l.in.key()}, 401, "has not been let in"},
		"a made-up ticket":     {stranger, "GET", "/.errand/open?ticket=AAAA", nil, 401, "used already"},
		"a way elsewhere":      {stranger, "GET", "/.errand/open?ticket=AAAA&to=//evil.example", nil, 400, "no path"},
		"a page elsewhere":     {l, "GET", "/", []string{"Sec-Fetch-Site", "cross-site"}, 403, "elsewhere"},
		"a sibling's page":     {l, "GET", "/", []string{"Sec-Fetch-Site", "same-site"}, 403, "elsewhere"},
		"a form elsewhere":     {l, "POST", "/up", []string{"Sec-Fetch-Site", "cross-site", "Sec-Fetch-Mode", "navigate", "Origin", "http://evil.example"}, 403, "elsewhere"},
		"an old browser":       {l, "POST", "/up", []string{"Sec-Fetch-Site", ""}, 403, "elsewhere"},
		"a link elsewhere":     {l, "GET", "/", []string{"Sec-Fetch-Site", "cross-site", "Sec-Fetch-Mode", "navigate"}, 200, "It works"},
		"another port":         {l, "GET", strings.Replace(l.origin, "3000--", "3001--", 1) + "/", []string{"Cookie", l.pass()}, 401, "has not been let in"},
		"no such agent's name": {l, "GET", strings.Replace(l.origin, "3000--", "99999--", 1) + "/", nil, 404, "no preview"},
		"the API by its host":  {l, "GET", l.origin + "/v1/me", []string{"Authorization", "Bearer " + l.in.key()}, 404, "no such page"},
		"the API by the pass":  {l, "GET", l.in.client.URL() + "/v1/me", []string{"Cookie", strings.Replace(l.pass(), "errand_preview", l.panelCookie(), 1)}, 401, "not known here"},
	} {
		status, _, body := try.who.ask(try.method, try.at, nil, try.headers...)
		if status != try.status || !strings.Contains(body, try.says) {
			l.Errorf("%s: %d %s", name, status, body)
		}
	}
	for _, origin := range []string{"http://evil.example", "null", l.in.client.URL(), strings.Replace(l.origin, "3000--", "3001--", 1)} {
		if ws, resp, err := l.socket(origin); err == nil {
			ws.CloseNow()
			l.Errorf("a page of %s may open a WebSocket", origin)
		} else if resp == nil || resp.StatusCode != 403 {
			l.Errorf("a WebSocket of %s: %v", origin, err)
		}
	}
	for port, want := range map[int]errand.Kind{0: errand.Invalid, 70000: errand.Invalid} {
		if _, err := l.in.client.OpenPreview(l.Context(), errand.AgentID(id), port, ""); errand.KindOf(err) != want {
			l.Errorf("port %d: %v", port, err)
		}
	}
	if _, err := l.in.client.OpenPreview(l.Context(), errand.NewAgentID(), 3000, ""); errand.KindOf(err) != errand.NotFound {
		l.Errorf("an agent that is not there: %v", err)
	}
}

// pass gives the preview's cookie as it is sent.
func (l *looker) pass() string {
	l.Helper()
	u, err := url.Parse(l.origin)
	if err != nil {
		l.Fatal(err)
	}
	for _, c := range l.http.Jar.Cookies(u) {
		if c.Name == "errand_preview" {
			return c.String()
		}
	}
	l.Fatal("there is no pass")
	return ""
}

func (l *looker) panelCookie() string {
	l.Helper()
	u, err := url.Parse(l.in.client.URL())
	if err != nil {
		l.Fatal(err)
	}
	return "errand_" + u.Port()
}

// silence looks at a port that nothing listens on until something does.
func (l *looker) silence(id string) {
	l.Helper()
	p, err := l.in.client.OpenPreview(l.Context(), errand.AgentID(id), 3002, "/seen?begin")
	if err != nil {
		l.Fatal(err)
	}
	l.origin = p.Origin
	if status, _, body := l.ask("GET", p.URL, nil, "Sec-Fetch-Mode", "navigate", "Sec-Fetch-Site", "cross-site"); status != 503 || !strings.Contains(body, "Nothing listens on port 3002 yet") {
		l.Errorf("a silent port shows %d %s", status, body)
	}
	if status, _, _ := l.ask("GET", "/.errand/state", nil); status != 503 {
		l.Errorf("a silent port is %d", status)
	}
	if status, _, body := l.ask("GET", p.URL, nil, "Sec-Fetch-Mode", "navigate"); status != 401 || !strings.Contains(body, "used already") {
		l.Errorf("a ticket that was used shows %d %s", status, body)
	}
	l.in.program(id, 3002, "127.0.0.1")
	if status, _, _ := l.ask("GET", "/.errand/state", nil); status != 204 {
		l.Errorf("a port that is listened on is %d", status)
	}
	if status, _, body := l.ask("GET", "/", nil); status != 200 || !strings.Contains(body, "It works") {
		l.Errorf("it then shows %d %s", status, body)
	}
}

// forwarded is an `errand port` that runs.
type forwarded struct {
	*exec.Cmd
	local []string // where each port is
	said  *strings.Builder
}

// port runs `errand port` and waits until it listens.
func (l *looker) port(id string, args ...string) *forwarded {
	l.Helper()
	f := &forwarded{Cmd: l.in.command(append([]string{"port", "--json", id}, args...)...), said: &strings.Builder{}}
	f.Stderr = f.said
	out, err := f.StdoutPipe()
	if err != nil {
		l.Fatal(err)
	}
	if err := f.Start(); err != nil {
		l.Fatal(err)
	}
	lines := bufio.NewScanner(out)
	for range args {
		var told struct{ Local string }
		if !lines.Scan() || json.Unmarshal(lines.Bytes(), &told) != nil {
			_ = f.Process.Kill()
			l.Fatalf("errand port says %q, %v", lines.Text(), f.Wait())
		}
		f.local = append(f.local, told.Local)
	}
	return f
}

// end interrupts it, as a person does.
func (l *looker) end(f *forwarded) {
	l.Helper()
	if err := f.Process.Signal(os.Interrupt); err != nil {
		l.Error(err)
	}
	if err := f.Wait(); err != nil && f.ProcessState.ExitCode() != 130 {
		l.Errorf("errand port ended with %v: %s", err, f.said)
	}
}

// forward reaches ports through `errand port`, also after the server was killed.
func (l *looker) forward(id string) {
	l.Helper()
	f := l.port(id, "3000:0", "3001:0", "3999:0")
	defer l.end(f)
	for i, body := range []string{fetch(l.T, "http://"+f.local[0]), fetch(l.T, "http://"+f.local[1])} {
		if !strings.Contains(body, "It works") {
			l.Errorf("forwarded port %d shows %s", i, body)
		}
	}
	// Half of a connection ends, the other goes on.
	conn, err := net.Dial("tcp", f.local[0])
	if err != nil {
		l.Fatal(err)
	}
	fmt.Fprintf(conn, "GET / HTTP/1.1\r\nHost: localhost:3000\r\nConnection: close\r\n\r\n")
	if err := conn.(*net.TCPConn).CloseWrite(); err != nil {
		l.Error(err)
	}
	if text, err := io.ReadAll(conn); err != nil || !strings.Contains(string(text), "It works") {
		l.Errorf("after half of it ended the connection gave %q, %v", text, err)
	}
	conn.Close()
	l.in.isHere(id, api.Present{Doing: "port", Port: 3001})
	if _, err := http.Get("http://" + f.local[2]); err == nil {
		l.Error("a port that nothing listens on answers")
	}
	at, err := url.Parse(l.in.client.URL())
	if err != nil {
		l.Fatal(err)
	}
	l.in.kill()
	answered := make(chan string, 1)
	go func() { answered <- get("http://" + f.local[0]) }() // waits for the server
	l.in.start("--listen", at.Host)
	if body := <-answered; !strings.Contains(body, "It works") {
		l.Errorf("after the server was killed the forwarded port gives %s", body)
	}
}

// get gives what stands at an address, or why nothing does.
func get(at string) string {
	resp, err := http.Get(at)
	if err != nil {
		return err.Error()
	}
	defer resp.Body.Close()
	body, err := io.ReadAll(resp.Body)
	if err != nil {
		return err.Error()
	}
	return string(body)
}

// TestPreviewEnds takes the right to look away: by revoking the key, by signing
// out, by deleting the agent; and lets the machine sleep.
func TestPreviewEnds(t *testing.T) {
	in := install(t, here(), "--idle", "4s")
	made := in.agent("Be there", "", "runc")
	id := made.Agent.ID
	in.finished(id, made.Run.ID)
	in.program(id, 3000, "127.0.0.1")

	t.Run("revoked", func(t *testing.T) {
		theirs, err := client.New(client.Options{URL: in.client.URL(), Key: in.keyNamed("passing")})
		if err != nil {
			t.Fatal(err)
		}
		l := newLooker(t, in)
		l.in = &installation{t: t, client: theirs, data: in.data}
		l.open(id, 3000, "")
		ws, _, err := l.socket(l.origin)
		if err != nil {
			t.Fatal(err)
		}
		defer ws.CloseNow()
		l.echo(ws, "still here")
		events := l.request(t.Context(), "GET", "/events", nil)
		defer events.Body.Close()
		local, err := net.Listen("tcp", "127.0.0.1:0")
		if err != nil {
			t.Fatal(err)
		}
		defer local.Close()
		outer, err := net.Dial("tcp", local.Addr().String())
		if err != nil {
			t.Fatal(err)
		}
		defer outer.Close()
		inner, err := local.Accept()
		if err != nil {
			t.Fatal(err)
		}
		tunnelled := make(chan error, 1)
		go func() { tunnelled <- theirs.Forward(context.Background(), errand.AgentID(id), 3000, inner) }()
		fmt.Fprintf(outer, "GET /events HTTP/1.1\r\nHost: x\r\n\r\n")
		if _, err := bufio.NewReader(outer).ReadString('\n'); err != nil {
			t.Fatal(err)
		}
		if out, err := in.command("key", "revoke", "passing").CombinedOutput(); err != nil {
			t.Fatalf("%v %s", err, out)
		}
		revoked := time.Now()
		if status, _, _ := l.ask("GET", "/", nil); status != 401 {
			t.Errorf("with a revoked key the next request gives %d", status)
		}
		if _, _, err := ws.Read(t.Context()); err == nil {
			t.Error("a WebSocket goes on with a revoked key")
		}
		if _, err := io.Copy(io.Discard, events.Body); err == nil {
			t.Error("events that were cut end as if that was all")
		}
		<-tunnelled
		if took := time.Since(revoked); took > 8*time.Second {
			t.Errorf("what was open ended %s after the key was revoked", took)
		}
		if _, err := theirs.OpenPreview(t.Context(), errand.AgentID(id), 3000, ""); errand.KindOf(err) != errand.Unauthorized {
			t.Errorf("a revoked key opens a preview: %v", err)
		}
	})
	t.Run("crowd", func(t *testing.T) {
		l := newLooker(t, in)
		l.open(id, 3000, "")
		var all []*websocket.Conn
		defer func() {
			for _, ws := range all {
				ws.CloseNow()
			}
		}()
		refused := 0
		for len(all) < 220 && refused == 0 {
			ws, resp, err := l.socket(l.origin)
			switch {
			case err == nil:
				all = append(all, ws)
			case resp != nil:
				refused = resp.StatusCode
			default:
				t.Fatal(err)
			}
		}
		if refused != 429 || len(all) < 150 {
			t.Errorf("after %d WebSockets the next gives %d", len(all), refused)
		}
		l.echo(all[0], "still here")
		in.exec(id, "", "true") // the line holds
		all[0].CloseNow()
		for deadline := time.Now().Add(20 * time.Second); ; {
			if status, _, body := l.ask("GET", "/", nil); status == 200 {
				break
			} else if time.Now().After(deadline) {
				t.Fatalf("when one has ended the next gives %d %s", status, body)
			}
		}
	})
	t.Run("asleep", func(t *testing.T) {
		l := newLooker(t, in)
		l.open(id, 3000, "")
		in.portsUntil(id, func(p api.Ports) bool { return !p.Awake && len(p.Items) == 0 })
		if status, _, body := l.ask("GET", "/seen", nil); status != 503 || !strings.Contains(body, "sleeps") {
			t.Errorf("a page that asks by itself wakes the machine: %d %s", status, body)
		}
		if _, resp, err := l.socket(l.origin); err == nil || resp == nil || resp.StatusCode != 503 {
			t.Errorf("a WebSocket wakes the machine: %v", err)
		}
		if p, err := in.client.Ports(t.Context(), errand.AgentID(id)); err != nil || p.Awake {
			t.Errorf("the ports of a machine that sleeps are %+v, %v", p, err)
		}
		if status, _, body := l.ask("GET", "/", nil, "Sec-Fetch-Mode", "navigate"); status != 503 || !strings.Contains(body, "Nothing listens") {
			t.Errorf("a person who looks finds %d %s", status, body)
		}
		if p, err := in.client.Ports(t.Context(), errand.AgentID(id)); err != nil || !p.Awake {
			t.Errorf("a person who looks does not wake the machine: %+v, %v", p, err)
		}
	})
	t.Run("signed out", func(t *testing.T) {
		l := newLooker(t, in)
		code, err := in.client.SignInCode(t.Context())
		if err != nil {
			t.Fatal(err)
		}
		own := []string{"Origin", in.client.URL()}
		if status, _, body := l.ask("POST", in.client.URL()+"/v1/sign-in", strings.NewReader(`{"key": "`+code.Code+`"}`), own...); status != 204 {
			t.Fatalf("signing in: %d %s", status, body)
		}
		in.program(id, 3003, "127.0.0.1")
		_, _, body := l.ask("POST", in.client.URL()+"/v1/agents/"+id+"/ports/3003/preview", nil, own...)
		var p api.Preview
		if err := json.Unmarshal([]byte(body), &p); err != nil || p.URL == "" {
			t.Fatalf("%v: %s", err, body)
		}
		l.origin = p.Origin
		if status, _, body := l.ask("GET", p.URL, nil, "Sec-Fetch-Mode", "navigate", "Sec-Fetch-Site", "cross-site"); status != 200 {
			t.Fatalf("%d %s", status, body)
		}
		if status, _, body := l.ask("POST", in.client.URL()+"/v1/sign-out", nil, own...); status != 204 {
			t.Fatalf("signing out: %d %s", status, body)
		}
		if status, _, _ := l.ask("GET", "/", nil); status != 401 {
			t.Errorf("after signing out the preview gives %d", status)
		}
	})
	t.Run("deleted", func(t *testing.T) {
		l := newLooker(t, in)
		in.program(id, 3004, "127.0.0.1")
		l.open(id, 3004, "")
		if err := in.client.Delete(t.Context(), errand.AgentID(id)); err != nil {
			t.Fatal(err)
		}
		if status, _, body := l.ask("GET", "/", nil, "Sec-Fetch-Mode", "navigate"); status != 404 || !strings.Contains(body, "was deleted") {
			t.Errorf("a deleted agent's preview shows %d %s", status, body)
		}
		if _, err := in.client.Ports(t.Context(), errand.AgentID(id)); errand.KindOf(err) != errand.NotFound {
			t.Errorf("a deleted agent's ports: %v", err)
		}
	})
}
