package inside

import (
	"cmp"
	"slices"
	"sync"

	"github.com/errand-dev/errand/guest/wire"
)

const (
	defaultKeep = 8 << 20
	leastKeep   = 8 << 10
	leastHold   = 2 * wire.AckBytes // less, and the acks would never come
	mostKeep    = 64 << 20
	maxKept     = 256 << 20 // of all commands together

	maxChunk  = 64 << 10
	chunkCost = 96 // what a chunk takes besides its bytes
)

// chunk is output of one stream without a gap. Bytes are added to the last one
// in place, beyond what any reader was given.
type chunk struct {
	offset int64
	stderr bool
	data   []byte
}

func (c *chunk) end() int64  { return c.offset + int64(len(c.data)) }
func (c *chunk) cost() int64 { return int64(cap(c.data)) + chunkCost }

// output is what a command printed, as far as it is kept: the first half of
// keep, and the last.
type output struct {
	budget *budget

	mu      sync.Mutex
	keep    int64   // most cost of all chunks
	hold    bool    // let go only what was acknowledged, and make the command wait
	discard bool    // nobody will ask any more
	head    []chunk // never dropped; stays empty with hold
	tail    []chunk // dropped from the front
	cost    int64
	end     int64 // offset of the next byte
	sealed  bool  // the command has exited, after writing final bytes
	final   int64
	news    bell // rings at every append and at the end
	room    bell // rings when something was let go
}

func newOutput(b *budget, keep int64, hold bool) *output {
	o := &output{budget: b, hold: hold}
	o.keep = min(max(cmp.Or(keep, defaultKeep), o.least()), mostKeep)
	b.add(o)
	return o
}

// least is what may be kept in any case.
func (o *output) least() int64 {
	if o.hold {
		return leastHold
	}
	return leastKeep
}

// write adds p. It never waits.
func (o *output) write(stderr bool, p []byte) {
	o.mu.Lock()
	before := o.cost
	if o.discard || o.hold && o.sealed {
		o.end += int64(len(p))
	} else {
		o.writeLocked(stderr, p)
	}
	o.news.ring()
	grown := o.cost - before
	o.mu.Unlock()
	o.budget.grow(grown)
}

func (o *output) writeLocked(stderr bool, p []byte) {
	for len(p) > 0 {
		last := o.lastLocked()
		if last == nil || last.stderr != stderr || len(last.data) == cap(last.data) {
			last = o.pushLocked(stderr, len(p))
		}
		n := min(len(p), cap(last.data)-len(last.data))
		last.data = append(last.data, p[:n]...)
		o.end += int64(n)
		p = p[n:]
	}
	o.trimLocked()
}

func (o *output) lastLocked() *chunk {
	if n := len(o.tail); n > 0 {
		return &o.tail[n-1]
	}
	if n := len(o.head); n > 0 {
		return &o.head[n-1]
	}
	return nil
}

// pushLocked adds an empty chunk. Chunks grow with the output, so that little
// output takes little.
func (o *output) pushLocked(stderr bool, want int) *chunk {
	size := max(want, 64)
	if last := o.lastLocked(); last != nil {
		size = max(size, 2*cap(last.data))
	}
	size = min(size, maxChunk, int(o.keep/8))
	c := chunk{offset: o.end, stderr: stderr, data: make([]byte, 0, size)}
	o.cost += c.cost()
	if !o.hold && len(o.tail) == 0 && o.cost <= o.keep/2 {
		o.head = append(o.head, c)
		return &o.head[len(o.head)-1]
	}
	o.tail = append(o.tail, c)
	return &o.tail[len(o.tail)-1]
}

// trimLocked drops the middle where more is kept than may be.
func (o *output) trimLocked() {
	for !o.hold && o.cost > o.keep && len(o.tail) > 1 {
		o.dropLocked()
	}
}

func (o *output) dropLocked() {
	o.cost -= o.tail[0].cost()
	o.tail[0] = chunk{}
	o.tail = o.tail[1:]
}

// next gives the first kept piece at or after offset, at most maxChunk bytes.
// Where there is none yet, wait is closed when that may have changed. done says
// that the command has exited and that all before its exit was given.
func (o *output) next(offset int64) (c chunk, done bool, wait <-chan struct{}) {
	o.mu.Lock()
	defer o.mu.Unlock()
	for _, part := range [][]chunk{o.head, o.tail} {
		i, _ := slices.BinarySearchFunc(part, offset, func(c chunk, at int64) int {
			if c.end() <= at {
				return -1
			}
			return 1
		})
		if i == len(part) {
			continue
		}
		c = part[i]
		if skip := offset - c.offset; skip > 0 {
			c.offset, c.data = offset, c.data[skip:]
		}
		return c, false, nil
	}
	if o.sealed && (offset >= o.final || o.discard) {
		return chunk{}, true, nil
	}
	return chunk{}, false, o.news.wait()
}

// seal says that the command has exited.
func (o *output) seal() (final int64) {
	o.mu.Lock()
	defer o.mu.Unlock()
	o.sealed, o.final = true, o.end
	o.news.ring()
	o.room.ring()
	return o.final
}

// ack lets go of what came before offset, where the output is held.
func (o *output) ack(offset int64) {
	o.mu.Lock()
	before := o.cost
	for o.hold && len(o.tail) > 0 && o.tail[0].end() <= offset && len(o.tail[0].data) > 0 {
		o.dropLocked()
	}
	o.room.ring()
	shrunk := before - o.cost
	o.mu.Unlock()
	o.budget.grow(-shrunk)
}

// full gives a channel to wait on before more is read, or nil where there is
// room. A command that has exited is not made to wait.
func (o *output) full() <-chan struct{} {
	o.mu.Lock()
	defer o.mu.Unlock()
	if !o.hold || o.discard || o.sealed || o.cost <= o.keep {
		return nil
	}
	return o.room.wait()
}

// squeeze halves what is kept.
func (o *output) squeeze() {
	o.mu.Lock()
	before := o.cost
	o.keep = max(min(o.keep, o.cost)/2, o.least())
	for !o.hold && o.cost > o.keep && len(o.tail) > 1 {
		o.dropLocked()
	}
	for !o.hold && o.cost > o.keep && len(o.head) > 1 {
		last := len(o.head) - 1
		o.cost -= o.head[last].cost()
		o.head[last] = chunk{}
		o.head = o.head[:last]
	}
	shrunk := before - o.cost
	o.mu.Unlock()
	o.budget.grow(-shrunk)
}

// drop lets go of everything, now and later.
func (o *output) drop() {
	o.mu.Lock()
	cost := o.cost
	o.discard, o.head, o.tail, o.cost = true, nil, nil, 0
	o.news.ring()
	o.room.ring()
	o.mu.Unlock()
	o.budget.remove(o, cost)
}

// kept gives the bytes kept and written so far.
func (o *output) kept() (kept, end int64) {
	o.mu.Lock()
	defer o.mu.Unlock()
	for _, part := range [][]chunk{o.head, o.tail} {
		for i := range part {
			kept += int64(len(part[i].data))
		}
	}
	return kept, o.end
}

// budget bounds what all outputs keep together.
type budget struct {
	mu    sync.Mutex
	limit int64
	total int64
	all   []*output
}

func (b *budget) add(o *output) {
	b.mu.Lock()
	defer b.mu.Unlock()
	b.all = append(b.all, o)
}

func (b *budget) remove(o *output, cost int64) {
	b.mu.Lock()
	defer b.mu.Unlock()
	b.total -= cost
	if i := slices.Index(b.all, o); i >= 0 {
		b.all = slices.Delete(b.all, i, i+1)
	}
}

// grow counts n bytes more and takes from the largest output where the whole is
// too much.
func (b *budget) grow(n int64) {
	if n == 0 {
		return
	}
	b.mu.Lock()
	b.total += n
	var all []*output
	if n > 0 && b.total > b.limit {
		all = slices.Clone(b.all)
	}
	b.mu.Unlock()
	if all != nil {
		squeezeLargest(all)
	}
}

func squeezeLargest(all []*output) {
	var largest *output
	var most int64
	for _, o := range all {
		o.mu.Lock()
		if o.cost > most {
			largest, most = o, o.cost
		}
		o.mu.Unlock()
	}
	if largest != nil {
		largest.squeeze()
	}
}
