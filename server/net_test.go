package server_test

import (
	"context"
	"io"
	"net"
	"strings"
	"sync"
	"testing"
)

type netListen struct{ net.ListenConfig }

func (l *netListen) on(ctx context.Context, address string) (net.Listener, error) {
	return l.Listen(ctx, "tcp", address)
}

// cutter is a way to a server that breaks every connection after a few thousand
// bytes, in the middle of whatever is said.
func cutter(t *testing.T, url string) string {
	t.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	var work sync.WaitGroup
	t.Cleanup(func() { l.Close(); work.Wait() })
	budgets := []int64{1, 700, 900, 2345, 3333, 5000}
	work.Go(func() {
		for i := 0; ; i++ {
			in, err := l.Accept()
			if err != nil {
				return
			}
			out, err := net.Dial("tcp", strings.TrimPrefix(url, "http://"))
			if err != nil {
				in.Close()
				return
			}
			work.Go(func() { io.Copy(out, in); out.Close() })
			work.Go(func() {
				io.CopyN(in, out, budgets[i%len(budgets)])
				in.Close()
				out.Close()
			})
		}
	})
	return "http://" + l.Addr().String()
}
