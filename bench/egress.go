package bench

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/netip"
	"strconv"
	"strings"

	"github.com/errand-dev/errand/machine"
)

// Machines reach the measurement's own server under an address of a private
// range, which their policy allows. It listens on loopback, so that nothing but
// the way out is measured; a machine's loopback is its own.
var (
	originAddr  = netip.MustParseAddr("10.99.0.1")
	originRange = netip.PrefixFrom(originAddr, originAddr.BitLen())
)

// dialOrigin connects to the origin's ports on loopback, and to anything else
// as it is.
func dialOrigin(ctx context.Context, network, address string) (net.Conn, error) {
	if at, err := netip.ParseAddrPort(address); err == nil && at.Addr() == originAddr {
		address = netip.AddrPortFrom(netip.AddrFrom4([4]byte{127, 0, 0, 1}), at.Port()).String()
	}
	return (&net.Dialer{}).DialContext(ctx, network, address)
}

// origin gives and takes bytes over HTTP: GET /N is N zeros, PUT takes whatever
// comes.
func origin() (url string, end func() error, err error) {
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		return "", nil, fmt.Errorf("starting the origin: %w", err)
	}
	zeros := make([]byte, 1<<20)
	mux := http.NewServeMux()
	mux.HandleFunc("GET /{n}", func(w http.ResponseWriter, r *http.Request) {
		n, _ := strconv.ParseInt(r.PathValue("n"), 10, 64)
		w.Header().Set("Content-Length", strconv.FormatInt(n, 10))
		for ; n > 0; n -= int64(len(zeros)) {
			if _, err := w.Write(zeros[:min(n, int64(len(zeros)))]); err != nil {
				return
			}
		}
	})
	mux.HandleFunc("PUT /", func(_ http.ResponseWriter, r *http.Request) {
		// Hidden behind plain interfaces, so that the buffer's size holds.
		_, _ = io.CopyBuffer(struct{ io.Writer }{io.Discard}, struct{ io.Reader }{r.Body}, make([]byte, 1<<20))
	})
	s := &http.Server{Handler: mux}
	done := make(chan error, 1)
	go func() { done <- s.Serve(l) }()
	_, port, _ := net.SplitHostPort(l.Addr().String())
	return "http://" + net.JoinHostPort(originAddr.String(), port), func() error {
		err := s.Close()
		if served := <-done; !errors.Is(served, http.ErrServerClosed) {
			err = errors.Join(err, served)
		}
		return err
	}, nil
}

// measureEgress moves bytes through the way out of a machine, with curl.
func measureEgress(ctx context.Context, b *bench) (err error) {
	url, end, err := origin()
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, end()) }()
	down, up := int64(b.size(1000))*1e6, int64(b.size(250))*1e6
	return b.each(ctx, "egress", func(r *rig) error {
		s, err := r.spawn(ctx, "egress", machine.Spec{})
		if err != nil {
			return err
		}
		// A sparse file: its zeros come from memory, not from a disk.
		if err := s.run(ctx, "file", "truncate", "-s", strconv.FormatInt(up, 10), "/tmp/zeros"); err != nil {
			return err
		}
		for _, way := range []struct {
			name  string
			bytes int64
			args  []string
		}{
			{"download", down, []string{url + "/" + strconv.FormatInt(down, 10)}},
			{"upload", up, []string{"-T", "/tmp/zeros", url + "/"}},
		} {
			var rates []float64
			for i := range 5 {
				args := append([]string{"curl", "-sSf", "-o", "/dev/null", "-w", "%{time_total}"}, way.args...)
				text, err := s.output(ctx, fmt.Sprintf("%s-%d", way.name, i), args...)
				if err != nil {
					return err
				}
				seconds, err := strconv.ParseFloat(strings.TrimSpace(text), 64)
				if err != nil || seconds <= 0 {
					return fmt.Errorf("curl took %q seconds", text)
				}
				rates = append(rates, float64(way.bytes)/1e6/seconds)
			}
			b.keep("egress", "egress, "+way.name, r.engine, "MB/s", rates, fmt.Sprintf("%d MB by curl; the other end on the same processors", way.bytes/1e6))
		}
		return nil
	})
}
