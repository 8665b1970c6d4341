package preview

import (
	"net/http/httptest"
	"strings"
	"testing"

	"github.com/errand-dev/errand"
)

const id = "1a2b3c4d-0000-4000-8000-0123456789ab"

// TestNames: a host is a preview's or the server's, never both.
func TestNames(t *testing.T) {
	local, err := newNames("http://127.0.0.1:7070", "")
	if err != nil {
		t.Fatal(err)
	}
	public, err := newNames("https://errand.example.com", "Previews.Example.net.")
	if err != nil {
		t.Fatal(err)
	}
	want := Target{"bc-" + id, 3000}
	for _, tt := range []struct {
		names  names
		host   string
		is, ok bool
	}{
		{local, "3000--" + id + ".localhost:7070", true, true},
		{local, "3000--" + strings.ToUpper(id) + ".LOCALHOST", true, true}, // names know no case
		{local, "3000--" + id + ".localhost.:7070", true, true},
		{local, "3000--" + id + ".localhost:80", true, true}, // by a tunnel of ssh
		{local, "03000--" + id + ".localhost:7070", true, false},
		{local, "0--" + id + ".localhost:7070", true, false},
		{local, "65536--" + id + ".localhost:7070", true, false},
		{local, "3000--" + id[:8] + ".localhost:7070", true, false},
		{local, "x.3000--" + id + ".localhost:7070", true, false},
		{local, "localhost:7070", false, false},
		{local, "panel.localhost:7070", false, false},
		{local, "127.0.0.1:7070", false, false},
		{local, "[::1]:7070", false, false},
		{local, "3000--" + id + ".previews.example.net", false, false},
		{local, "", false, false},
		{public, "3000--" + id + ".previews.example.net", true, true},
		{public, "3000--" + id + ".previews.example.net:8443", true, true},
		{public, "www.previews.example.net", true, false},
		{public, "previews.example.net", true, false},
		{public, "3000--" + id + ".notpreviews.example.net", false, false},
		{public, "errand.example.com", false, false},
		{public, "3000--" + id + ".localhost:7070", true, true}, // by a tunnel of ssh
	} {
		got, is, ok := tt.names.find(tt.host)
		if is != tt.is || ok != tt.ok || ok && got != want {
			t.Errorf("%q is %+v, %t, %t", tt.host, got, is, ok)
		}
	}
}

// TestDomains: previews that would share cookies with the server are refused.
func TestDomains(t *testing.T) {
	for domain, ok := range map[string]bool{
		"previews.example.net": true, "previews.example.net:8443": true, "previews.example.com": true, "localhost": true,
		"example.com": false, "errand.example.com": false, "p.errand.example.com": false, "com": false,
		"192.0.2.1": false, "*.example.net": false, "https://example.net": false, ".": false,
	} {
		_, err := newNames("https://errand.example.com", domain)
		if (err == nil) != ok || err != nil && errand.KindOf(err) != errand.Invalid {
			t.Errorf("%s: %v", domain, err)
		}
	}
}

// TestOrigins: where a port is looked at follows from how the server is reached.
func TestOrigins(t *testing.T) {
	target := Target{"bc-" + id, 3000}
	for _, tt := range []struct{ server, domain, host, want string }{
		{"http://127.0.0.1:7070", "", "127.0.0.1:7070", "http://3000--" + id + ".localhost:7070"},
		{"http://127.0.0.1:7070", "", "localhost:8080", "http://3000--" + id + ".localhost:8080"},
		{"http://127.0.0.1:7070", "", "[::1]:7070", "http://3000--" + id + ".localhost:7070"},
		{"https://localhost:7070", "", "localhost:7070", "https://3000--" + id + ".localhost:7070"},
		{"https://errand.example.com", "", "127.0.0.1:7070", "http://3000--" + id + ".localhost:7070"},
		{"https://errand.example.com", "", "errand.example.com", ""},
		{"https://errand.example.com", "previews.example.net", "errand.example.com", "https://3000--" + id + ".previews.example.net"},
		{"https://errand.example.com:8443", "previews.example.net", "errand.example.com:8443", "https://3000--" + id + ".previews.example.net:8443"},
		{"https://errand.example.com", "previews.example.net:444", "127.0.0.1:7070", "https://3000--" + id + ".previews.example.net:444"},
	} {
		n, err := newNames(tt.server, tt.domain)
		if err != nil {
			t.Fatal(err)
		}
		got, err := n.origin(tt.host, target)
		if got != tt.want || (err == nil) != (tt.want != "") {
			t.Errorf("%+v: %q, %v", tt, got, err)
		}
		if _, is, ok := n.find(strings.TrimPrefix(strings.TrimPrefix(got, "https://"), "http://")); got != "" && (!is || !ok) {
			t.Errorf("%s is not found again", got)
		}
	}
}

func TestLocalPath(t *testing.T) {
	for path, ok := range map[string]bool{
		"": true, "/": true, "/admin?tab=1#top": true, "/a//b": true,
		"admin": false, "//evil.example": false, "/\\evil.example": false, "https://evil.example/": false, "/a\r\nSet-Cookie: x": false, "/%zz": false,
	} {
		if got, err := localPath(path); (err == nil) != ok || ok && got == "" {
			t.Errorf("%q: %q, %v", path, got, err)
		}
	}
}

// TestCookies: a program sets none for more than its own host, and none of ours.
func TestCookies(t *testing.T) {
	for cookie, want := range map[string]string{
		"a=1": "a=1",
		"a=1; Path=/; domain = .example.net ; Secure": "a=1; Path=/; Secure",
		"a=domain=x; DOMAIN=example.net":              "a=domain=x",
		"errand_preview=1; Path=/":                    "",
		" __Host-errand_preview =1":                   "",
	} {
		if got := hostOnly(cookie); got != want {
			t.Errorf("%q becomes %q, want %q", cookie, got, want)
		}
	}
}

// TestCookiesSent: what goes into a machine is without ours, and as it was.
func TestCookiesSent(t *testing.T) {
	p := &Previews{cookie: "errand_7070"}
	for sent, want := range map[string]string{
		"": "", "a=1": "a=1", " a=1;b ={\"c\": 1, 2} ; ": "a=1; b ={\"c\": 1, 2}",
		"errand_preview=x; a=1;errand_7070=y; __Host-errand_preview =z": "a=1", "errand_preview=x": "", "my_errand_preview=1": "my_errand_preview=1",
	} {
		if got := p.theirs(sent); got != want {
			t.Errorf("%q becomes %q, want %q", sent, got, want)
		}
	}
}

// TestOriginsOfRequests: what other pages make a browser send is refused.
func TestOriginsOfRequests(t *testing.T) {
	const own = "3000--" + id + ".localhost:7070"
	for name, tt := range map[string]struct {
		method  string
		headers []string
		ok      bool
	}{
		"typed":                {"GET", []string{"Sec-Fetch-Site", "none", "Sec-Fetch-Mode", "navigate"}, true},
		"a link from a page":   {"GET", []string{"Sec-Fetch-Site", "cross-site", "Sec-Fetch-Mode", "navigate"}, true},
		"own fetch":            {"POST", []string{"Sec-Fetch-Site", "same-origin", "Origin", "http://" + own}, true},
		"no referrer":          {"POST", []string{"Sec-Fetch-Site", "same-origin", "Origin", "null"}, true},
		"curl":                 {"GET", nil, true},
		"own socket":           {"GET", []string{"Upgrade", "websocket", "Origin", "http://" + own}, true},
		"foreign socket":       {"GET", []string{"Upgrade", "websocket", "Origin", "http://evil.example"}, false},
		"socket without":       {"GET", []string{"Upgrade", "websocket"}, false},
		"nobody's socket":      {"GET", []string{"Upgrade", "websocket", "Origin", "null"}, false},
		"foreign picture":      {"GET", []string{"Sec-Fetch-Site", "cross-site", "Sec-Fetch-Mode", "no-cors"}, false},
		"a sibling's fetch":    {"GET", []string{"Sec-Fetch-Site", "same-site", "Sec-Fetch-Mode", "cors"}, false},
		"a link's page":        {"GET", []string{"Sec-Fetch-Site", "same-site", "Sec-Fetch-Mode", "navigate", "Sec-Fetch-Dest", "document"}, true},
		"a sibling's frame":    {"GET", []string{"Sec-Fetch-Site", "same-site", "Sec-Fetch-Mode", "navigate", "Sec-Fetch-Dest", "iframe"}, false},
		"foreign form":         {"POST", []string{"Sec-Fetch-Site", "cross-site", "Sec-Fetch-Mode", "navigate"}, false},
		"a form of old":        {"POST", nil, false},
		"a foreign form's":     {"POST", []string{"Origin", "http://evil.example"}, false},
		"a sandbox's":          {"POST", []string{"Sec-Fetch-Site", "cross-site", "Origin", "null"}, false},
		"the panel's own page": {"POST", []string{"Origin", "http://127.0.0.1:7070"}, false},
	} {
		r := httptest.NewRequest(tt.method, "http://"+own+"/", nil)
		for i := 0; i < len(tt.headers); i += 2 {
			r.Header.Set(tt.headers[i], tt.headers[i+1])
		}
		if err := checkOrigin(r); (err == nil) != tt.ok || err != nil && errand.KindOf(err) != errand.Forbidden {
			t.Errorf("%s: %v", name, err)
		}
	}
}
