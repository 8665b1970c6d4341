package server_test

import (
	"net/http"
	"strings"
	"testing"

	"github.com/errand-dev/errand/server"
)

// browser asks as a page does: with cookies, and what browsers say of
// themselves.
func (in *installation) browser(method, path, body string, header map[string]string) *http.Response {
	in.t.Helper()
	req, err := http.NewRequestWithContext(in.t.Context(), method, in.url+path, strings.NewReader(body))
	if err != nil {
		in.t.Fatal(err)
	}
	for name, value := range header {
		req.Header.Set(name, value)
	}
	resp, err := http.DefaultClient.Do(req)
	if err != nil {
		in.t.Fatal(err)
	}
	in.t.Cleanup(func() { resp.Body.Close() })
	return resp
}

const ownPage = "same-origin"

func (in *installation) signIn(with string) string {
	in.t.Helper()
	resp := in.browser("POST", "/v1/sign-in", `{"key": "`+with+`"}`, map[string]string{"Sec-Fetch-Site": ownPage})
	if resp.StatusCode != 204 || len(resp.Cookies()) != 1 {
		in.t.Fatalf("signing in gave %d and %v", resp.StatusCode, resp.Cookies())
	}
	c := resp.Cookies()[0]
	if !c.HttpOnly || c.SameSite != http.SameSiteStrictMode || c.Path != "/" || c.MaxAge < 3600 {
		in.t.Errorf("the cookie is %v", c)
	}
	return c.Name + "=" + c.Value
}

func TestSignIn(t *testing.T) {
	in := install(t, nil)
	cookie := in.signIn(in.token)
	if strings.Contains(cookie, in.token) {
		t.Error("the cookie holds the key")
	}
	for _, tt := range []struct {
		name, method, path string
		header             map[string]string
		want               int
	}{
		{"reading", "GET", "/v1/me", map[string]string{"Cookie": cookie}, 200},
		{"no cookie", "GET", "/v1/me", nil, 401},
		{"another cookie", "GET", "/v1/me", map[string]string{"Cookie": cookie + "x"}, 401},
		{"the key as cookie", "GET", "/v1/me", map[string]string{"Cookie": strings.Split(cookie, "=")[0] + "=" + in.token}, 401},
		{"a wrong key beside it", "GET", "/v1/me", map[string]string{"Cookie": cookie, "Authorization": "Bearer errand_nope"}, 401},
		{"changing, from our page", "POST", "/v1/sign-in-codes", map[string]string{"Cookie": cookie, "Sec-Fetch-Site": ownPage}, 201},
		{"changing, by origin", "POST", "/v1/sign-in-codes", map[string]string{"Cookie": cookie, "Origin": in.url}, 201},
		{"changing, from nowhere", "POST", "/v1/sign-in-codes", map[string]string{"Cookie": cookie}, 403},
		{"changing, from elsewhere", "POST", "/v1/sign-in-codes", map[string]string{"Cookie": cookie, "Origin": "https://evil.example"}, 403},
		{"changing, from another port", "POST", "/v1/sign-in-codes", map[string]string{"Cookie": cookie, "Sec-Fetch-Site": "same-site"}, 403},
		{"a socket from nowhere", "GET", "/v1/me", map[string]string{"Cookie": cookie, "Upgrade": "websocket", "Connection": "Upgrade"}, 403},
		{"a link to an API path", "GET", "/v1/me", map[string]string{"Cookie": cookie, "Sec-Fetch-Site": "cross-site", "Sec-Fetch-Mode": "navigate"}, 403},
	} {
		if got := in.browser(tt.method, tt.path, "", tt.header).StatusCode; got != tt.want {
			t.Errorf("%s: %d, want %d", tt.name, got, tt.want)
		}
	}
	if got := in.browser("POST", "/v1/sign-in", `{"key": "errand_wrong"}`, nil).StatusCode; got != 401 {
		t.Errorf("a wrong key signs in with %d", got)
	}
	out := in.browser("POST", "/v1/sign-out", "", map[string]string{"Cookie": cookie, "Sec-Fetch-Site": ownPage})
	if out.StatusCode != 204 || out.Cookies()[0].MaxAge >= 0 {
		t.Errorf("signing out gave %d, %v", out.StatusCode, out.Cookies())
	}
	if got := in.browser("GET", "/v1/me", "", map[string]string{"Cookie": cookie}).StatusCode; got != 401 {
		t.Errorf("after signing out: %d", got)
	}
}

func TestSignInCode(t *testing.T) {
	in := install(t, nil)
	code, err := in.client.SignInCode(t.Context())
	if err != nil || !strings.HasSuffix(code.URL, "/#code="+code.Code) {
		t.Fatalf("%+v, %v", code, err)
	}
	cookie := in.signIn(code.Code)
	if got := in.browser("GET", "/v1/me", "", map[string]string{"Cookie": cookie}).StatusCode; got != 200 {
		t.Errorf("with a code: %d", got)
	}
	if got := in.browser("POST", "/v1/sign-in", `{"key": "`+code.Code+`"}`, nil).StatusCode; got != 401 {
		t.Errorf("a code that was used lets in with %d", got)
	}
}

// TestPanelsPlace: what is not the API's is the panel's, and needs no key.
func TestPanelsPlace(t *testing.T) {
	in := install(t, func(o *server.Options) {
		o.Panel = http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) { w.WriteHeader(http.StatusTeapot) })
	})
	for path, want := range map[string]int{"/": 418, "/agents/x": 418, "/assets/a.js": 418, "/v1/nothing": 401, "/openapi.json": 200} {
		if got := in.browser("GET", path, "", nil).StatusCode; got != want {
			t.Errorf("%s: %d, want %d", path, got, want)
		}
	}
	link := map[string]string{"Sec-Fetch-Site": "cross-site", "Sec-Fetch-Mode": "navigate"}
	if got := in.browser("GET", "/agents/x", "", link).StatusCode; got != 418 {
		t.Errorf("a link from elsewhere: %d", got)
	}
	if got := in.browser("GET", "/assets/a.js", "", map[string]string{"Sec-Fetch-Site": "cross-site", "Sec-Fetch-Mode": "no-cors"}).StatusCode; got != 403 {
		t.Errorf("a script from elsewhere: %d", got)
	}
}
