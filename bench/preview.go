package bench

import (
	"bytes"
	"context"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/http/cookiejar"
	"net/url"
	"strings"
	"time"

	"github.com/errand-dev/errand"
	"github.com/errand-dev/errand/api"
	"github.com/errand-dev/errand/client"
)

// previewed is a program in a machine that gives and takes bytes over HTTP: GET /N
// is N MB, PUT takes whatever comes. It says when it listens.
const previewed = `
import os, socket, sys
l = socket.create_server(("127.0.0.1", 8080))
piece = bytes(1000000)
os.write(1, b"listening\n")
while True:
    c, _ = l.accept()
    f = c.makefile("rb", 1 << 20)
    while True:
        words = f.readline().split()
        if not words:
            break
        n = 0
        while (h := f.readline().strip()):
            if h.lower().startswith(b"content-length:"):
                n = int(h.split(b":")[1])
        while n > 0:
            n -= len(f.read(min(n, 1 << 20)))
        count = int(words[1][1:]) if words[0] == b"GET" and words[1][1:].isdigit() else 0
        c.sendall(b"HTTP/1.1 200 OK\r\nContent-Length: %d\r\n\r\n" % (count * len(piece)))
        for _ in range(count):
            c.sendall(piece)
`

// measurePreview moves bytes between a program in a machine and a client of its
// preview, and of a forwarded port.
func measurePreview(ctx context.Context, b *bench) error {
	return b.eachAgent(ctx, "preview", b.previewOf)
}

func (b *bench) previewOf(ctx context.Context, s *served, id errand.AgentID) error {
	ctx, cancel := context.WithCancel(ctx)
	ended := make(chan error, 1)
	listening, says := io.Pipe()
	go func() {
		_, err := s.client.Exec(ctx, id, api.ExecStart{Args: []string{"python3", "-c", previewed}}, client.ExecIO{Stdout: says, Stderr: says})
		says.CloseWithError(cmpEnd(err))
		ended <- err
	}()
	defer func() { cancel(); <-ended }()
	first := make([]byte, 512)
	if n, err := listening.Read(first); err != nil || !strings.HasPrefix(string(first[:n]), "listening") {
		return fmt.Errorf("the program says %q: %w", first[:n], err)
	}
	page, err := s.look(ctx, id)
	if err != nil {
		return err
	}
	if err := b.through(ctx, "preview", s.engine, page, page.origin); err != nil {
		return err
	}
	port := &http.Transport{DialContext: func(ctx context.Context, _, _ string) (net.Conn, error) { return s.tunnelled(ctx, id) }}
	defer port.CloseIdleConnections()
	return b.through(ctx, "forwarded port", s.engine, looking{Client: &http.Client{Transport: port}}, "http://localhost:8080")
}

func cmpEnd(err error) error {
	if err == nil {
		return io.EOF
	}
	return err
}

// looking is a client that was let in to a preview.
type looking struct {
	*http.Client
	origin string
}

func (s *served) look(ctx context.Context, id errand.AgentID) (looking, error) {
	p, err := s.client.OpenPreview(ctx, id, 8080, "/0")
	if err != nil {
		return looking{}, err
	}
	at, err := url.Parse(s.client.URL())
	if err != nil {
		return looking{}, err
	}
	jar, err := cookiejar.New(nil)
	if err != nil {
		return looking{}, err
	}
	l := looking{&http.Client{Jar: jar, Transport: &http.Transport{DialContext: func(ctx context.Context, network, _ string) (net.Conn, error) {
		return new(net.Dialer).DialContext(ctx, network, at.Host) // as browsers find names under localhost
	}}}, p.Origin}
	_, err = l.move(ctx, http.MethodGet, p.URL, nil)
	return l, err
}

// tunnelled gives a connection to the program as `errand port` makes one.
func (s *served) tunnelled(ctx context.Context, id errand.AgentID) (net.Conn, error) {
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		return nil, err
	}
	defer l.Close()
	ours, err := new(net.Dialer).DialContext(ctx, "tcp", l.Addr().String())
	if err != nil {
		return nil, err
	}
	theirs, err := l.Accept()
	if err != nil {
		ours.Close()
		return nil, err
	}
	go func() {
		if s.client.Forward(context.WithoutCancel(ctx), id, 8080, theirs) != nil {
			theirs.Close() // and so is seen by who reads
		}
	}()
	return ours, nil
}

// through keeps what goes through a client to the program at an address.
func (b *bench) through(ctx context.Context, name, engine string, c looking, at string) error {
	down, up := b.size(500), b.size(250)
	body := make([]byte, up*1e6)
	for _, way := range []struct {
		name, method, path string
		size               int
		body               []byte
	}{
		{"download", http.MethodGet, fmt.Sprintf("/%d", down), down, nil},
		{"upload", http.MethodPut, "/", up, body},
	} {
		var rates []float64
		for range 5 {
			began := time.Now()
			n, err := c.move(ctx, way.method, at+way.path, way.body)
			if err != nil {
				return err
			}
			if way.body == nil && n != int64(way.size)*1e6 {
				return fmt.Errorf("of %d MB came %d bytes", way.size, n)
			}
			rates = append(rates, float64(way.size)/time.Since(began).Seconds())
		}
		b.keep("preview", name+", "+way.name, engine, "MB/s", rates, fmt.Sprintf("%d MB; client, server and a program in Python on the same processors", way.size))
	}
	return nil
}

// move makes a request and gives how many bytes it was answered with.
func (l looking) move(ctx context.Context, method, at string, body []byte) (int64, error) {
	req, err := http.NewRequestWithContext(ctx, method, at, bytes.NewReader(body))
	if err != nil {
		return 0, err
	}
	req.Header.Set("Sec-Fetch-Site", "same-origin")
	resp, err := l.Do(req)
	if err != nil {
		return 0, err
	}
	defer resp.Body.Close()
	// Hidden behind plain interfaces, so that the buffer's size holds.
	n, err := io.CopyBuffer(struct{ io.Writer }{io.Discard}, struct{ io.Reader }{resp.Body}, make([]byte, 1<<20))
	if err == nil && resp.StatusCode != http.StatusOK {
		err = fmt.Errorf("%s is answered with %s", at, resp.Status)
	}
	return n, err
}
