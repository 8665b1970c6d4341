package environment

import (
	"bytes"
	"context"
	"fmt"
	"slices"
	"strings"
	"sync"
	"time"
	"unicode/utf8"

	"github.com/errand-dev/errand"
	"github.com/errand-dev/errand/guest"
	"github.com/errand-dev/errand/secret"
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
	// redactor takes the secrets out also where they stand in several pieces:
	// what may be the beginning of one waits. Nil: there are none.
	redactor *secret.Redactor

	mu      sync.Mutex
	from    int64          // what the journal has: output before this offset
	next    int64          // the offset after the last piece taken
	pending []guest.Output // to be recorded next
	late    []guest.Output // past the first half: the newest of it, for the end
	lateLen int
	cut     int64 // bytes that were let go before late
	last    []byte
	before  [2][]byte // of each stream: the end of what was let go
	gone    [2][]byte // likewise, of what was cut
	err     error     // of the first record that failed
}

// take is the out function of guest's Run. It does not block on the journal.
func (t *transcript) take(o guest.Output) {
	t.mu.Lock()
	defer t.mu.Unlock()
	if t.last = append(t.last, o.Data...); len(t.last) > 4*maxError {
		t.last = bytes.Clone(t.last[len(t.last)-maxError-remembered:])
	}
	if end := o.Offset + int64(len(o.Data)); end <= t.from {
		t.next = end
		t.remember(o)
		return
	}
	if o.Offset < t.from {
		t.remember(guest.Output{Stderr: o.Stderr, Data: o.Data[:t.from-o.Offset]})
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
		remember(&t.gone, t.late[0])
		t.cut += int64(len(t.late[0].Data))
		t.lateLen -= len(t.late[0].Data)
		t.late[0].Data = nil
		t.late = t.late[1:]
	}
}

// follow records until ended is closed. Its caller waits for it. What it has
// begun to record it ends under ctx: it is not there to be recorded again.
func (t *transcript) follow(ctx context.Context, ended <-chan struct{}, failed func()) {
	ticker := time.NewTicker(recordEvery)
	defer ticker.Stop()
	for {
		select {
		case <-ended:
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
	facts := t.facts(t.cut == 0)
	if t.cut > 0 {
		for _, o := range t.pending { // what may be the beginning of a secret whose rest is cut
			t.cut += int64(len(o.Data))
		}
		facts = append(facts, errand.Fact{Kind: errand.EventPhaseOutput, Data: errand.PhaseOutput{
			Phase: t.phase, Text: fmt.Sprintf("\n… %d bytes are left out …\n", t.cut),
		}})
	}
	if t.cut > 0 {
		t.before, t.gone = t.gone, [2][]byte{}
	}
	t.pending, t.late, t.lateLen, t.cut = t.late, nil, 0, 0
	return append(facts, t.facts(true)...), nil
}

// remember notes what stands just ahead of a stream's next piece.
func (t *transcript) remember(o guest.Output) { remember(&t.before, o) }

func remember(ends *[2][]byte, o guest.Output) {
	all := append(ends[stream(o)], o.Data...)
	ends[stream(o)] = bytes.Clone(all[max(0, len(all)-remembered):])
}

// remembered is enough of what went before to see that a secret goes on.
const remembered = 128

func stream(o guest.Output) int {
	if o.Stderr {
		return 1
	}
	return 0
}

// facts takes what is pending, neighbours of one stream joined. What may be the
// beginning of a character or of a secret waits, with all that came after it,
// unless all is to go.
func (t *transcript) facts(all bool) []errand.Fact {
	going, kept := t.pending, []guest.Output(nil)
	if !all {
		going, kept = t.divide()
	}
	texts := t.clean(going)
	var facts []errand.Fact
	for i := 0; i < len(going); {
		piece := going[i]
		data, end := bytes.Clone(texts[i]), piece.Offset+int64(len(piece.Data))
		for i++; i < len(going) && going[i].Stderr == piece.Stderr; i++ {
			data, end = append(data, texts[i]...), end+int64(len(going[i].Data))
		}
		if end == piece.Offset {
			continue
		}
		facts = append(facts, errand.Fact{Kind: errand.EventPhaseOutput, Data: errand.PhaseOutput{
			Phase: t.phase, Stderr: piece.Stderr,
			Text: string(bytes.ToValidUTF8(data, []byte("\ufffd"))),
			End:  end,
		}})
	}
	t.pending = kept
	return facts
}

// divide gives what of the pending pieces can go, and what waits.
func (t *transcript) divide() (going, kept []guest.Output) {
	var joined [2][]byte
	for _, o := range t.pending {
		joined[stream(o)] = append(joined[stream(o)], o.Data...)
	}
	var free [2]int // bytes of each stream that can go
	for i, data := range joined {
		held := 0
		if t.redactor != nil {
			held = t.redactor.Held(slices.Concat(t.before[i], data))
		}
		free[i] = len(data) - min(len(data), max(held, unfinished(data)))
	}
	for i, o := range t.pending {
		n := min(len(o.Data), free[stream(o)])
		if free[stream(o)] -= n; n == len(o.Data) {
			continue
		}
		going = slices.Clone(t.pending[:i])
		kept = slices.Clone(t.pending[i:])
		if n > 0 {
			head := o
			head.Data = o.Data[:n]
			going = append(going, head)
			kept[0].Data, kept[0].Offset = o.Data[n:], o.Offset+int64(n)
		}
		return going, kept
	}
	return t.pending, nil
}

// clean gives the texts of pieces without the secrets.
func (t *transcript) clean(pieces []guest.Output) [][]byte {
	texts := make([][]byte, len(pieces))
	for s := range t.before {
		var own []int
		var raw [][]byte
		for i, o := range pieces {
			if stream(o) == s {
				own, raw = append(own, i), append(raw, o.Data)
			}
		}
		clean := raw
		if t.redactor != nil && len(raw) > 0 {
			clean = t.redactor.Pieces(t.before[s], raw...)
		}
		for k, i := range own {
			texts[i] = clean[k]
			t.remember(pieces[i])
		}
	}
	return texts
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
	last := t.last
	if t.redactor != nil { // before it is cut
		from := min(remembered, max(0, len(last)-maxError))
		last = t.redactor.Pieces(last[:from], last[from:])[0]
	}
	return string(bytes.ToValidUTF8(last[max(0, len(last)-maxError):], nil))
}

// lastOf gives as much of the end of output as an error may carry. A secret is
// taken out before it might be cut.
func lastOf(output string, redactor *secret.Redactor) string {
	if redactor != nil {
		output = redactor.String(output)
	}
	return strings.ToValidUTF8(output[max(0, len(output)-maxError):], "")
}
