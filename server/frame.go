package server

import (
	"strconv"
	"sync"

	"github.com/errand-dev/errand"
	"github.com/errand-dev/errand/api"
)

// frames are events of journals as streams send them, the newest ones, so that
// each is written out once for all who follow.
type frames struct {
	mu    sync.Mutex
	known map[frameKey][]byte
	order []frameKey // oldest first
	size  int
	made  int // how many were written out, for tests
}

// frameKey is an event. A deleted agent's id may be given again, so its number
// alone is not enough.
type frameKey struct {
	of   string
	seq  errand.Seq
	time int64
}

// Bounds of what frames keep.
const (
	maxFrames     = 2048
	maxFrameBytes = 4 << 20
)

// of gives an event as a message. What is given is shared and must not be changed.
func (f *frames) of(e errand.Event) ([]byte, error) {
	key := frameKey{string(e.Agent) + string(e.Build) + string(e.Setup), e.Seq, e.Time.UnixMilli()} // all but one are ""
	f.mu.Lock()
	defer f.mu.Unlock()
	if frame, ok := f.known[key]; ok {
		return frame, nil
	}
	var out sse
	if err := out.put(api.Message{ID: strconv.FormatInt(int64(e.Seq), 10), Event: string(e.Kind), Data: e}); err != nil {
		return nil, err
	}
	frame := out.buf.Bytes()
	f.made++
	f.known[key] = frame
	f.order = append(f.order, key)
	f.size += len(frame)
	for len(f.order) > maxFrames || f.size > maxFrameBytes {
		oldest := f.order[0]
		f.order = f.order[1:]
		f.size -= len(f.known[oldest])
		delete(f.known, oldest)
	}
	return frame, nil
}
