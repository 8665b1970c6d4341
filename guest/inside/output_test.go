package inside

import (
	"bytes"
	"fmt"
	"testing"
)

// collect reads all that is kept.
func collect(o *output) (data []byte, dropped int64) {
	var at int64
	for {
		c, done, wait := o.next(at)
		if done || wait != nil {
			return data, dropped
		}
		dropped += c.offset - at
		data = append(data, c.data...)
		at = c.end()
	}
}

func TestOutputKeepsBothEnds(t *testing.T) {
	tests := []struct {
		piece, pieces int
		keep          int64
	}{{1, 100000, 8 << 10}, {10, 1000, 1 << 20}, {1000, 1000, 64 << 10}, {32 << 10, 100, 1 << 20}, {70000, 10, 8 << 10}}
	for _, tt := range tests {
		t.Run(fmt.Sprint(tt), func(t *testing.T) {
			b := &budget{limit: maxKept}
			o := newOutput(b, tt.keep, false)
			var all []byte
			for i := range tt.pieces {
				p := bytes.Repeat([]byte{byte('a' + i%26)}, tt.piece)
				all = append(all, p...)
				o.write(i%3 == 0, p)
				if o.cost > max(tt.keep, leastKeep) || o.cost != b.total {
					t.Fatalf("cost %d of %d, counted %d", o.cost, tt.keep, b.total)
				}
			}
			o.seal()
			got, dropped := collect(o)
			if int64(len(got))+dropped != int64(len(all)) {
				t.Errorf("%d bytes and %d dropped of %d", len(got), dropped, len(all))
			}
			half := len(got) / 4
			if !bytes.HasPrefix(all, got[:half]) || !bytes.HasSuffix(all, got[len(got)-half:]) {
				t.Error("what is kept is not both ends")
			}
			if dropped == 0 && !bytes.Equal(got, all) {
				t.Error("what is kept is not what was written")
			}
			o.drop()
			if b.total != 0 || len(b.all) != 0 {
				t.Errorf("after drop the budget counts %d bytes of %d outputs", b.total, len(b.all))
			}
		})
	}
}

func TestBudgetTakesFromTheLargest(t *testing.T) {
	b := &budget{limit: 1 << 20}
	small, large := newOutput(b, 0, false), newOutput(b, 0, false)
	small.write(false, bytes.Repeat([]byte("s"), 10000))
	for range 100 {
		large.write(false, bytes.Repeat([]byte("l"), 32<<10))
		if b.total > b.limit+maxChunk+chunkCost {
			t.Fatalf("%d bytes are kept, and %d may be", b.total, b.limit)
		}
	}
	if got, dropped := collect(small); len(got) != 10000 || dropped != 0 {
		t.Errorf("the small one lost %d bytes", dropped)
	}
	if got, dropped := collect(large); dropped == 0 || int64(len(got))+dropped != 100*32<<10 {
		t.Errorf("the large one has %d bytes, and lost %d", len(got), dropped)
	}
}
