package main_test

import (
	"context"
	"io"
	"net/http"
	"testing"
)

// request makes a request, with headers given as names and values in turn.
func request(ctx context.Context, t *testing.T, by *http.Client, method, at string, body io.Reader, headers ...string) *http.Response {
	t.Helper()
	req, err := http.NewRequestWithContext(ctx, method, at, body)
	if err != nil {
		t.Fatal(err)
	}
	for i := 0; i+1 < len(headers); i += 2 {
		req.Header.Set(headers[i], headers[i+1])
	}
	resp, err := by.Do(req)
	if err != nil {
		t.Fatalf("%s %s: %v", method, at, err)
	}
	return resp
}

// ask makes a request and reads its answer to the end.
func ask(t *testing.T, by *http.Client, method, at string, body io.Reader, headers ...string) (int, http.Header, string) {
	t.Helper()
	resp := request(t.Context(), t, by, method, at, body, headers...)
	defer resp.Body.Close()
	text, err := io.ReadAll(resp.Body)
	if err != nil {
		t.Fatalf("%s %s: %v", method, at, err)
	}
	return resp.StatusCode, resp.Header, string(text)
}

// bearer gives the header of a request that shows the installation's own key.
func (in *installation) bearer() []string { return []string{"Authorization", "Bearer " + in.key()} }
