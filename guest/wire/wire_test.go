package wire

import (
	"bytes"
	"errors"
	"io"
	"net"
	"strings"
	"testing"
	"testing/iotest"
)

func TestFrames(t *testing.T) {
	var b bytes.Buffer
	body := []byte("body")
	if err := WriteRequest(&b, MethodWrite, Write{Op: "x"}, body); err != nil {
		t.Fatal(err)
	}
	whole := b.Bytes()
	req, got, err := ReadRequest(iotest.OneByteReader(bytes.NewReader(whole)), MaxRequest)
	if err != nil || req.Method != MethodWrite || !bytes.Equal(got, body) {
		t.Errorf("%+v %q %v", req, got, err)
	}
	for n := 1; n < len(whole); n++ {
		if _, _, err := ReadRequest(bytes.NewReader(whole[:n]), MaxRequest); err == nil {
			t.Errorf("%d of %d bytes were taken for a request", n, len(whole))
		}
	}
	if _, _, err := ReadRequest(bytes.NewReader(whole), 10); !errors.Is(err, ErrFrame) {
		t.Errorf("a frame over the limit: %v", err)
	}
}

// TestGuard floods it with pings, also hidden behind data.
func TestGuard(t *testing.T) {
	ping := "\x00\x02\x00\x01\x00\x00\x00\x00\x00\x00\x00\x01"
	data := "\x00\x00\x00\x00\x00\x00\x00\x01\x00\x00\x00\x18" + ping + ping // pings that are data
	tests := []struct {
		name string
		says string
		want error
	}{
		{"some pings", strings.Repeat(ping, maxPings), nil},
		{"data", strings.Repeat(data, 10*maxPings), nil},
		{"too many", strings.Repeat(ping, maxPings+1), errPings},
		{"between data", strings.Repeat(data+ping, maxPings+1), errPings},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			ours, theirs := net.Pipe()
			defer ours.Close()
			go func() {
				io.Copy(theirs, iotest.OneByteReader(strings.NewReader(tt.says)))
				theirs.Close()
			}()
			if _, err := io.Copy(io.Discard, &guard{Conn: ours}); !errors.Is(err, tt.want) {
				t.Errorf("got %v, want %v", err, tt.want)
			}
		})
	}
}
