// Package wire is what the two ends of a line say to each other: the server in
// package guest and the guest in guest/inside.
//
// A line is one yamux connection. Every request is a stream of its own: the
// asking side sends one Request frame, the other answers with frames of output
// where the method has any, and one Answer frame that ends it. A frame is a kind,
// a length and that many bytes, and every read names the most it will take:
// what comes up from a machine is untrusted.
//
// Nothing here knows what a method does, and nothing here survives the line:
// asking again after a loss is the business of both ends.
package wire

import (
	"encoding/binary"
	"encoding/json"
	"errors"
	"fmt"
	"io"
)

// Kind says what a frame holds.
type Kind byte

const (
	KindHead   Kind = 'h' // JSON: a Request, or the Answer that ends a stream
	KindBody   Kind = 'b' // raw bytes that belong to the head before it
	KindStdout Kind = 'o' // 8 bytes of offset, then output
	KindStderr Kind = 'e' // likewise
	KindAck    Kind = 'a' // 8 bytes of offset: output before it has arrived
)

// Bounds of frames, in bytes.
const (
	// MaxChunk bounds one frame of output, its offset included.
	MaxChunk = 64<<10 + 8
	// MaxAnswer bounds what the server takes from a guest in one head or body.
	MaxAnswer = 16 << 20
	// MaxRequest bounds what a guest takes from the server in one head or body.
	MaxRequest = 96 << 20
)

// MaxOwnerCommand bounds what is told of a process's command line, in bytes.
const MaxOwnerCommand = 4 << 10

// How often the server acknowledges output: after so many bytes, or so many
// frames. A guest that waits for acks must be able to keep more than that.
const (
	AckBytes  = 128 << 10
	AckFrames = 256
)

// How much of a stdin may be under way in one stream: so many frames, of so many
// bytes. Whoever feeds it stops there and waits for acks.
const (
	MaxFeed    = 64 << 10
	FeedFrames = 16
)

// HeaderSize is what a frame has in front of its payload, in bytes.
const HeaderSize = 5

// ErrFrame: the other side broke the protocol.
var ErrFrame = errors.New("malformed frame")

// WriteFrame writes one frame in one Write.
func WriteFrame(w io.Writer, kind Kind, payload []byte) error {
	b := make([]byte, HeaderSize, HeaderSize+len(payload))
	putHeader(b, kind, len(payload))
	_, err := w.Write(append(b, payload...))
	return err
}

// Frame makes a frame of b, whose payload stands after HeaderSize bytes, in place.
func Frame(b []byte, kind Kind) { putHeader(b, kind, len(b)-HeaderSize) }

func putHeader(b []byte, kind Kind, n int) {
	b[0] = byte(kind)
	binary.BigEndian.PutUint32(b[1:], uint32(n))
}

// ReadFrame reads one frame of at most limit bytes. The payload is the caller's.
// A stream that ends between frames is io.EOF.
func ReadFrame(r io.Reader, limit int) (Kind, []byte, error) {
	var h [HeaderSize]byte
	if _, err := io.ReadFull(r, h[:]); err != nil {
		return 0, nil, err
	}
	n := binary.BigEndian.Uint32(h[1:])
	if int64(n) > int64(limit) {
		return 0, nil, fmt.Errorf("%w: %d bytes of %q where %d are allowed", ErrFrame, n, h[0], limit)
	}
	payload := make([]byte, n)
	if _, err := io.ReadFull(r, payload); err != nil {
		return 0, nil, unexpected(err)
	}
	return Kind(h[0]), payload, nil
}

// unexpected turns the end of a stream inside a frame into an error.
func unexpected(err error) error {
	if errors.Is(err, io.EOF) {
		return io.ErrUnexpectedEOF
	}
	return err
}

// WriteChunk writes a piece of output that stands at offset, in one Write.
func WriteChunk(w io.Writer, stderr bool, offset int64, data []byte) error {
	kind := KindStdout
	if stderr {
		kind = KindStderr
	}
	b := make([]byte, HeaderSize+8, HeaderSize+8+len(data))
	putHeader(b, kind, 8+len(data))
	binary.BigEndian.PutUint64(b[HeaderSize:], uint64(offset))
	_, err := w.Write(append(b, data...))
	return err
}

// WriteAck tells that all output before offset has arrived.
func WriteAck(w io.Writer, offset int64) error {
	return WriteFrame(w, KindAck, binary.BigEndian.AppendUint64(nil, uint64(offset)))
}

// Offset splits the payload of a chunk or an ack.
func Offset(payload []byte) (offset int64, data []byte, err error) {
	if len(payload) < 8 {
		return 0, nil, fmt.Errorf("%w: no offset", ErrFrame)
	}
	offset = int64(binary.BigEndian.Uint64(payload))
	if offset < 0 {
		return 0, nil, fmt.Errorf("%w: offset %d", ErrFrame, offset)
	}
	return offset, payload[8:], nil
}

// Request opens a stream.
type Request struct {
	Method Method          `json:"m"`
	Params json.RawMessage `json:"p,omitempty"` // the method's params struct
	Body   bool            `json:"b,omitempty"` // a KindBody frame follows
}

// Answer ends a stream.
type Answer struct {
	Fault  *Fault          `json:"f,omitempty"` // why it did not work; nil when it did
	Result json.RawMessage `json:"r,omitempty"` // the method's result struct
	Body   bool            `json:"b,omitempty"` // a KindBody frame follows
}

// WriteRequest writes a request and its body, nil for none.
func WriteRequest(w io.Writer, m Method, params any, body []byte) error {
	raw, err := json.Marshal(params)
	if err != nil {
		return err
	}
	return writeHead(w, Request{Method: m, Params: raw, Body: body != nil}, body)
}

// WriteAnswer writes a result and its body, nil for none.
func WriteAnswer(w io.Writer, result any, body []byte) error {
	raw, err := json.Marshal(result)
	if err != nil {
		return err
	}
	return writeHead(w, Answer{Result: raw, Body: body != nil}, body)
}

// WriteFault writes the answer of a request that did not work.
func WriteFault(w io.Writer, f *Fault) error {
	return writeHead(w, Answer{Fault: f}, nil)
}

func writeHead(w io.Writer, head any, body []byte) error {
	raw, err := json.Marshal(head)
	if err != nil {
		return err
	}
	n := HeaderSize + len(raw)
	if body != nil {
		n += HeaderSize + len(body)
	}
	b := make([]byte, HeaderSize, n)
	putHeader(b, KindHead, len(raw))
	b = append(b, raw...)
	if body != nil {
		b = append(b, byte(KindBody))
		b = binary.BigEndian.AppendUint32(b, uint32(len(body)))
		b = append(b, body...)
	}
	_, err = w.Write(b)
	return err
}

// ReadRequest reads a request and its body, nil where there is none.
func ReadRequest(r io.Reader, limit int) (Request, []byte, error) {
	var req Request
	if err := readHead(r, limit, &req); err != nil {
		return Request{}, nil, err
	}
	body, err := readBody(r, limit, req.Body)
	return req, body, err
}

// ReadAnswer reads the frame that ends a stream and decodes its result into
// result, if that is not nil. A fault comes back as an error of type *Fault.
func ReadAnswer(r io.Reader, result any) (body []byte, err error) {
	kind, payload, err := ReadFrame(r, MaxAnswer)
	if err != nil {
		return nil, err
	}
	if kind != KindHead {
		return nil, fmt.Errorf("%w: kind %q where an answer was due", ErrFrame, kind)
	}
	return DecodeAnswer(r, payload, result)
}

// DecodeAnswer is ReadAnswer for a head frame that was read already.
func DecodeAnswer(r io.Reader, payload []byte, result any) (body []byte, err error) {
	var a Answer
	if err := json.Unmarshal(payload, &a); err != nil {
		return nil, fmt.Errorf("%w: %v", ErrFrame, err)
	}
	if a.Fault != nil {
		return nil, a.Fault
	}
	if result != nil {
		if err := json.Unmarshal(a.Result, result); err != nil {
			return nil, fmt.Errorf("%w: %v", ErrFrame, err)
		}
	}
	return readBody(r, MaxAnswer, a.Body)
}

func readHead(r io.Reader, limit int, v any) error {
	kind, payload, err := ReadFrame(r, limit)
	if err != nil {
		return err
	}
	if kind != KindHead {
		return fmt.Errorf("%w: kind %q where a head was due", ErrFrame, kind)
	}
	if err := json.Unmarshal(payload, v); err != nil {
		return fmt.Errorf("%w: %v", ErrFrame, err)
	}
	return nil
}

func readBody(r io.Reader, limit int, follows bool) ([]byte, error) {
	if !follows {
		return nil, nil
	}
	kind, payload, err := ReadFrame(r, limit)
	if err != nil {
		return nil, unexpected(err)
	}
	if kind != KindBody {
		return nil, fmt.Errorf("%w: kind %q where a body was due", ErrFrame, kind)
	}
	return payload, nil
}
