package egress_test

import (
	"context"
	"io"
	"net"
	"os"
	"strconv"
	"testing"

	"github.com/errand-dev/errand/egress"
	"github.com/errand-dev/errand/egress/egresstest"
)

// pump moves bytes to or from address; it runs inside a network namespace.
func pump(address, way, size string) {
	n, err := strconv.ParseInt(size, 10, 64)
	if err != nil {
		panic(err)
	}
	conn, err := net.Dial("tcp", address)
	if err != nil {
		panic(err)
	}
	if way == "up" {
		b := make([]byte, 1<<20)
		for sent := int64(0); sent < n; sent += int64(len(b)) {
			if _, err := conn.Write(b); err != nil {
				panic(err)
			}
		}
		conn.(*net.TCPConn).CloseWrite()
		io.Copy(io.Discard, conn)
		return
	}
	if got, err := io.Copy(io.Discard, conn); err != nil || got != n {
		panic(strconv.FormatInt(got, 10) + " bytes")
	}
}

// BenchmarkThroughput moves bytes through the egress from a process in a
// network namespace, as from a machine under runc.
func BenchmarkThroughput(b *testing.B) {
	for _, mtu := range []int{1500, 65520} {
		for _, way := range []string{"up", "down"} {
			b.Run(way+"/mtu="+strconv.Itoa(mtu), func(b *testing.B) { benchmarkThroughput(b, mtu, way) })
		}
	}
}

func benchmarkThroughput(b *testing.B, mtu int, way string) {
	const size = 512 << 20
	space := egresstest.New(b, mtu)
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		b.Fatal(err)
	}
	defer l.Close()
	gate := egress.New(egress.Options{Dial: func(ctx context.Context, network, _ string) (net.Conn, error) {
		return (&net.Dialer{}).DialContext(ctx, network, l.Addr().String())
	}})
	network, err := gate.Attach(b.Context(), space.Open(b), egress.Policy{}, nil)
	if err != nil {
		b.Fatal(err)
	}
	defer network.Close()
	go func() {
		for {
			conn, err := l.Accept()
			if err != nil {
				return
			}
			if way == "up" {
				buf := make([]byte, 1<<20)
				io.CopyBuffer(struct{ io.Writer }{io.Discard}, struct{ io.Reader }{conn}, buf)
			} else {
				buf := make([]byte, 1<<20)
				for sent := 0; sent < size; sent += len(buf) {
					if _, err := conn.Write(buf); err != nil {
						break
					}
				}
			}
			conn.Close()
		}
	}()
	b.SetBytes(size)
	for b.Loop() {
		cmd := space.Command(context.Background(), os.Args[0])
		cmd.Env = append(os.Environ(), "EGRESS_TEST_PUMP=198.51.100.7:80", "EGRESS_TEST_WAY="+way, "EGRESS_TEST_BYTES="+strconv.Itoa(size))
		if out, err := cmd.CombinedOutput(); err != nil {
			b.Fatalf("%v\n%s", err, out)
		}
	}
}
