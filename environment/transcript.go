package environment

import (
	"bytes"
	"context"
	"fmt"
	"sync"
	"time"
	"unicode/utf8"

	"github.com/errand-dev/errand"
	"github.com/errand-dev/errand/guest"
)

const (
	// recordEvery is how often a phase's output becomes events.
	recordEvery = 100 * time.Millisecond
	// maxRecorded bounds a phase's output in the journal, in bytes. Its first
	// half is recorded as it comes, of the rest the last half at the end.
	maxRecorded = 1 << 20
	// maxError bounds the output that an error carries, in bytes.
	maxError = 16 << 10
)

// transcript records a command's output as events, a few at a time, and keeps
// its end for an error. It is given the output from its start also when a
// restarted server joins a command, and leaves out what the journal has.
type transcript struct {
	phase  errand.Phase
	record func(ctx context.Context, facts ...errand.Fact) error

	mu      sync.Mutex
	from    int64          // what the journal has: output before this offset
	next    int64          // the offset after the last piece taken
	pending []guest.Output // to be recorded next
	late    []guest.Output // past the first half: the newest of it, for the end
	lateLen int
	cut     int64 // bytes that were let go before late
	last    []byte
	err     error // of the first record that failed
}

// take is the out function of guest's Run. It does not block on the journal.
func (t *transcript) take(o guest.Output) {
	t.mu.Lock()
	defer t.mu.Unlock()
	if t.last = append(t.last, o.Data...); len(t.last) > 4*maxError {
		t.last = bytes.Clone(t.last[len(t.last)-maxError:])
	}
	if end := o.Offset + int64(len(o.Data)); end <= t.from {
		t.next = end
		return
	}
	if o.Offset < t.from {
		o.Data, o.Offset = o.Data[t.from-o.Offset:], t.from
	}
	if gap := o.Offset - max(t.next, t.from); gap > 0 {
		t.cut += gap
	}
	t.next = o.Offset + int64(len(o.Data))
	if room := max(maxRecorded/2-o.Offset, 0); t.cut == 0 && len(t.late) == 0 && room > 0 {
		head := o
		head.Data = o.Data[:min(int64(len(o.Data)), room)]
		t.pending = append(t.pending, head)
		o.Data, o.Offset = o.Data[len(head.Data):], o.Offset+int64(len(head.Data))
	}
	if len(o.Data) > 0 {
		t.keepLate(o)
	}
}

// keepLate holds back a piece and lets the oldest go.
func (t *transcript) keepLate(o guest.Output) {
	t.late = append(t.late, o)
	t.lateLen += len(o.Data)
	for t.lateLen-len(t.late[0].Data) >= maxRecorded/2 {
		t.cut += int64(len(t.late[0].Data))
		t.lateLen -= len(t.late[0].Data)
		t.late[0].Data = nil
		t.late = t.late[1:]
	}
}

// follow records until ctx ends. Its caller waits for it.
func (t *transcript) follow(ctx context.Context, failed func()) {
	ticker := time.NewTicker(recordEvery)
	defer ticker.Stop()
	for {
		select {
		case <-ctx.Done():
			return
		case <-ticker.C:
			t.mu.Lock()
			facts := t.facts(false)
			t.mu.Unlock()
			if len(facts) == 0 {
				continue
			}
			if err := t.record(ctx, facts...); err != nil {
				t.mu.Lock()
				t.err = err
				t.mu.Unlock()
				failed()
				return
			}
		}
	}
}

// rest gives the facts for all that is not recorded yet, when the command has
// ended and follow has returned.
func (t *transcript) rest() ([]errand.Fact, error) {
	t.mu.Lock()
	defer t.mu.Unlock()
	if t.err != nil {
		return nil, t.err
	}
	facts := t.facts(true)
	if t.cut > 0 {
		facts = append(facts, errand.Fact{Kind: errand.EventPhaseOutput, Data: errand.PhaseOutput{
			Phase: t.phase, Text: fmt.Sprintf("\n… %d bytes are left out …\n", t.cut),
		}})
	}
	t.pending, t.late, t.lateLen, t.cut = t.late, nil, 0, 0
	return append(facts, t.facts(true)...), nil
}

// facts takes what is pending, neighbours of one stream joined. A character of
// which only the first bytes are there waits, unless all is to go.
func (t *transcript) facts(all bool) []errand.Fact {
	var facts []errand.Fact
	var kept []guest.Output
	for i := 0; i < len(t.pending); {
		piece := t.pending[i]
		data := bytes.Clone(piece.Data)
		for i++; i < len(t.pending) && t.pending[i].Stderr == piece.Stderr; i++ {
			data = append(data, t.pending[i].Data...)
		}
		if i == len(t.pending) && !all {
			if n := len(data) - unfinished(data); n < len(data) {
				kept = []guest.Output{{Stderr: piece.Stderr, Offset: piece.Offset + int64(n), Data: data[n:]}}
				data = data[:n]
			}
		}
		if len(data) == 0 {
			continue
		}
		facts = append(facts, errand.Fact{Kind: errand.EventPhaseOutput, Data: errand.PhaseOutput{
			Phase: t.phase, Stderr: piece.Stderr,
			Text: string(bytes.ToValidUTF8(data, []byte("\ufffd"))),
			End:  piece.Offset + int64(len(data)),
		}})
	}
	t.pending = kept
	return facts
}

// unfinished gives how many bytes at the end of data begin a character that is
// not there in full.
func unfinished(data []byte) int {
	for n := 1; n < utf8.UTFMax && n <= len(data); n++ {
		if c := data[len(data)-n]; utf8.RuneStart(c) {
			if c >= utf8.RuneSelf && !utf8.FullRune(data[len(data)-n:]) {
				return n
			}
			return 0
		}
	}
	return 0
}

// lastWords gives the end of the output for an error.
func (t *transcript) lastWords() string {
	t.mu.Lock()
	defer t.mu.Unlock()
	return string(bytes.ToValidUTF8(t.last[max(0, len(t.last)-maxError):], nil))
}
