package cli

import (
	"log/slog"
	"net/http"
	"net/http/httptest"
	"net/netip"
	"path/filepath"
	"strings"
	"sync/atomic"
	"testing"

	"github.com/errand-dev/errand"
	"github.com/errand-dev/errand/egress"
	"github.com/errand-dev/errand/machine"
)

// An environment file names the registry, so pulls go where machines may go.
func TestPullsGoThroughEgress(t *testing.T) {
	var asked atomic.Int64
	server := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		asked.Add(1)
		if r.URL.Path != "/v2/" {
			http.NotFound(w, r)
		}
	}))
	defer server.Close()
	image := strings.TrimPrefix(server.URL, "http://") + "/team/app:v1"
	for _, test := range []struct {
		private []netip.Prefix
		kind    errand.Kind
		asks    bool
		says    string
	}{
		{kind: errand.Forbidden, says: "ERRAND_EGRESS_PRIVATE"},
		{private: []netip.Prefix{netip.MustParsePrefix("127.0.0.1/32")}, kind: errand.NotFound, asks: true, says: "404"},
	} {
		asked.Store(0)
		a := &assembly{log: slog.New(slog.DiscardHandler)}
		w := Wiring{Drivers: map[string]func(DriverOptions) (machine.Driver, error){"oci": func(DriverOptions) (machine.Driver, error) { return nil, nil }}}
		dir := t.TempDir()
		d, err := a.driver(w, ServeOptions{}, egress.New(egress.Options{Private: test.private}), func(name string) string { return filepath.Join(dir, name) })
		if err != nil {
			t.Fatal(err)
		}
		_, err = d.images.Get(t.Context(), image, nil)
		if errand.KindOf(err) != test.kind || !strings.Contains(err.Error(), test.says) {
			t.Errorf("pulling with %v let through: %v, want %s and %q", test.private, err, test.kind, test.says)
		}
		if asks := asked.Load() > 0; asks != test.asks {
			t.Errorf("with %v let through the server was asked: %t", test.private, asks)
		}
		if err := a.Close(); err != nil {
			t.Error(err)
		}
	}
}
