package egress

import (
	"bufio"
	"bytes"
	"context"
	"crypto/tls"
	"errors"
	"io"
	"net"
	"net/http"
	"slices"
	"time"
)

// maxFirst bounds what is kept while a client has not said yet what it wants: a
// ClientHello is at most 16 KiB, a request line far less.
const maxFirst = 17 << 10

// speech is what a client's first bytes are.
type speech int

const (
	undecided speech = iota // more bytes are needed
	opaque                  // something that names no host
	hello                   // a whole ClientHello
	request                 // an HTTP request line
	garbled                 // it begins as a ClientHello and is none
)

// classify says what b, the first bytes of a connection, begin. What an HTTP
// server could take for a request must not pass as opaque.
func classify(b []byte) speech {
	if len(b) > 0 && b[0] == recordHandshake {
		return classifyHello(b)
	}
	b = bytes.TrimLeft(b, "\r\n") // servers skip empty lines before a request
	end := bytes.IndexFunc(b, func(r rune) bool { return !isTokenChar(r) })
	switch {
	case end < 0 && len(b) <= 32:
		return undecided
	case end <= 0 || end > 32 || b[end] != ' ' && b[end] != '\t':
		return opaque
	}
	line, _, whole := bytes.Cut(b, []byte("\n"))
	if !whole {
		return undecided
	}
	fields := bytes.Fields(line)
	if len(fields) >= 3 && bytes.HasPrefix(bytes.ToUpper(fields[len(fields)-1]), []byte("HTTP/")) {
		return request
	}
	return opaque
}

func isTokenChar(r rune) bool {
	return r >= 'a' && r <= 'z' || r >= 'A' && r <= 'Z' || r >= '0' && r <= '9' || r < 128 && bytes.ContainsRune([]byte("!#$%&'*+-.^_`|~"), r)
}

const (
	recordHandshake   = 22
	messageHello      = 1
	recordHeader      = 5
	messageHeader     = 4
	maxHello          = 16 << 10
	alertFatal        = 2
	alertUnrecognized = 112
	recordAlert       = 21
)

// classifyHello says whether the records in b hold a whole ClientHello.
func classifyHello(b []byte) speech {
	if len(b) > 1 && b[1] != 3 {
		return opaque
	}
	var message []byte
	for len(b) >= recordHeader {
		size := int(b[3])<<8 | int(b[4])
		if b[0] != recordHandshake || b[1] != 3 || size == 0 || size > maxHello {
			return garbled
		}
		part := b[recordHeader:min(len(b), recordHeader+size)]
		message, b = append(message, part...), b[recordHeader+len(part):]
		if len(message) == 0 {
			break
		}
		if message[0] != messageHello {
			return garbled
		}
		if len(message) >= messageHeader {
			want := int(message[1])<<16 | int(message[2])<<8 | int(message[3])
			switch {
			case want > maxHello:
				return garbled
			case len(message) >= messageHeader+want:
				return hello
			}
		}
	}
	return undecided
}

// helloName gives the server name of a whole ClientHello, "" if it has none. It
// reports false where crypto/tls cannot read it.
func helloName(b []byte) (string, bool) {
	var got *tls.ClientHelloInfo
	stop := errors.New("seen")
	_ = tls.Server(replay{Reader: bytes.NewReader(b)}, &tls.Config{
		GetConfigForClient: func(h *tls.ClientHelloInfo) (*tls.Config, error) {
			got = h
			return nil, stop
		},
	}).HandshakeContext(context.Background())
	if got == nil {
		return "", false
	}
	return canonical(got.ServerName), true
}

// replay is a connection from which bytes can be read and nothing else.
type replay struct {
	net.Conn
	io.Reader
}

func (r replay) Read(b []byte) (int, error)       { return r.Reader.Read(b) }
func (r replay) Write(b []byte) (int, error)      { return len(b), nil }
func (r replay) Close() error                     { return nil }
func (r replay) SetDeadline(time.Time) error      { return nil }
func (r replay) SetReadDeadline(time.Time) error  { return nil }
func (r replay) SetWriteDeadline(time.Time) error { return nil }

// requestHost gives the Host of the request that b begins with. It reports
// false while its header is not whole.
func requestHost(b []byte) (string, bool) {
	b = bytes.TrimLeft(b, "\r\n")
	if !bytes.Contains(b, []byte("\r\n\r\n")) && !bytes.Contains(b, []byte("\n\n")) {
		return "", false
	}
	q, err := http.ReadRequest(bufio.NewReader(bytes.NewReader(b)))
	if err != nil {
		return "", true
	}
	host, _ := hostPort(q.Host)
	return canonical(host), true
}

// readFirst reads from conn until its client has said what it is: speech is
// opaque too where the client ends without a byte. Once bytes have come the
// rest of them must come within limit; patient says whether the first may take
// as long as it likes.
func readFirst(conn net.Conn, limit time.Duration, patient bool) ([]byte, speech, error) {
	var b []byte
	if !patient {
		conn.SetReadDeadline(time.Now().Add(limit))
	}
	defer conn.SetReadDeadline(time.Time{})
	for {
		b = slices.Grow(b, 2<<10)
		n, err := conn.Read(b[len(b):cap(b)])
		if len(b) == 0 && n > 0 {
			conn.SetReadDeadline(time.Now().Add(limit))
		}
		b = b[:len(b)+n]
		switch what := classify(b); {
		case len(b) > 0 && what != undecided:
			return b, what, nil
		case errors.Is(err, io.EOF) && len(b) == 0:
			return nil, opaque, nil
		case err != nil:
			return b, undecided, err
		case len(b) >= maxFirst:
			return b, garbled, nil
		}
	}
}

// ear notes the name in the first bytes of a connection that nobody holds
// up. Its zero value is ready.
type ear struct {
	kept []byte
	done bool
}

// hear takes the next bytes. It gives a name once it has heard one.
func (e *ear) hear(b []byte) string {
	if e.done {
		return ""
	}
	e.kept = append(e.kept, b[:min(len(b), maxFirst-len(e.kept))]...)
	name := ""
	switch classify(e.kept) {
	case hello:
		name, _ = helloName(e.kept)
		e.done = true
	case request:
		name, e.done = requestHost(e.kept)
	case undecided:
	default:
		e.done = true
	}
	if e.done || len(e.kept) >= maxFirst {
		e.done, e.kept = true, nil
	}
	return name
}

// refuseHello is the alert for a name that may not be asked for.
func refuseHello() []byte {
	return []byte{recordAlert, 3, 3, 0, 2, alertFatal, alertUnrecognized}
}
