package cli

import (
	"context"
	"io"
	"log/slog"
	"net"
	"net/http"
	"testing"
)

// A request that is under way when the server is told to end is answered; what
// would never end by itself is told to.
func TestServeHTTPLetsRequestsEnd(t *testing.T) {
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	ctx, end := context.WithCancel(t.Context())
	defer end()
	stopped := make(chan struct{})
	handler := http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		end()
		<-stopped // the server is ending
		if r.Context().Err() != nil {
			w.WriteHeader(http.StatusInternalServerError)
		}
	})
	served := make(chan error, 1)
	go func() {
		served <- serveHTTP(ctx, l, handler, func() { close(stopped) }, slog.New(slog.DiscardHandler))
	}()
	resp, err := http.Post("http://"+l.Addr().String(), "", nil)
	if err != nil {
		t.Fatal(err)
	}
	defer resp.Body.Close()
	if _, err := io.Copy(io.Discard, resp.Body); err != nil || resp.StatusCode != http.StatusOK {
		t.Errorf("the request under way: %d, %v", resp.StatusCode, err)
	}
	if err := <-served; err != nil {
		t.Error(err)
	}
}
