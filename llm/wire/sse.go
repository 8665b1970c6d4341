package wire

import (
	"bufio"
	"bytes"
	"errors"
	"fmt"
	"io"
)

// Bounds of one event. A provider's last event may hold the whole answer.
const (
	maxLine  = 16 << 20 // bytes
	maxEvent = 24 << 20 // bytes of all data lines
)

// ErrTooLarge is returned for a line or an event beyond the bounds.
var ErrTooLarge = errors.New("an event of the stream is too large")

// Event is one server-sent event.
type Event struct {
	Name string // from its event line; "" where it had none
	Data []byte // its data lines, joined by newlines; never empty
}

// Reader reads server-sent events as the providers send them: lines end in \n
// or \r\n, comments, ids and retry lines are skipped.
type Reader struct {
	lines *bufio.Reader
	begun bool
}

// NewReader returns a Reader on r.
func NewReader(r io.Reader) *Reader {
	return &Reader{lines: bufio.NewReaderSize(r, 16<<10)}
}

// Next returns the next event that has data, blocking until it is whole. At the
// end of the stream it returns io.EOF; an event that was not closed by an empty
// line before that is dropped, because it may have been cut.
func (r *Reader) Next() (Event, error) {
	var event Event
	var data []byte
	seen := false
	for {
		line, err := r.line()
		if err != nil {
			return Event{}, err
		}
		if len(line) == 0 {
			if len(data) > 0 {
				event.Data = data
				return event, nil
			}
			event, data, seen = Event{}, nil, false
			continue
		}
		field, value, _ := bytes.Cut(line, []byte(":"))
		value = bytes.TrimPrefix(value, []byte(" "))
		switch string(field) {
		case "event":
			event.Name = string(value)
		case "data":
			if seen {
				data = append(data, '\n')
			}
			seen = true
			data = append(data, value...)
			if len(data) > maxEvent {
				return Event{}, fmt.Errorf("%w: more than %d MiB", ErrTooLarge, maxEvent>>20)
			}
		}
	}
}

// line returns the next line without its end. A last line without an end is
// dropped with io.EOF.
func (r *Reader) line() ([]byte, error) {
	var long []byte
	for {
		part, err := r.lines.ReadSlice('\n')
		if err == bufio.ErrBufferFull {
			long = append(long, part...)
			if len(long) > maxLine {
				return nil, fmt.Errorf("%w: a line of more than %d MiB", ErrTooLarge, maxLine>>20)
			}
			continue
		}
		if err != nil {
			return nil, err
		}
		if long != nil {
			part = append(long, part...)
		}
		if !r.begun {
			r.begun = true
			part = bytes.TrimPrefix(part, []byte("\xef\xbb\xbf"))
		}
		return bytes.TrimSuffix(bytes.TrimSuffix(part, []byte("\n")), []byte("\r")), nil
	}
}
