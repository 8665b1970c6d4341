package server

import (
	"sync"
	"time"
)

// rate counts requests by key in windows of a minute.
type rate struct {
	most int

	mu      sync.Mutex
	windows map[string]window
}

type window struct {
	ends time.Time
	used int
}

func newRate(most int) *rate {
	if most == 0 {
		most = 60_000
	}
	return &rate{most: most, windows: map[string]window{}}
}

// take counts one request of key. It gives how many are left until reset, and
// whether this one was still free.
func (r *rate) take(key string, now time.Time) (left int, reset time.Time, ok bool) {
	r.mu.Lock()
	defer r.mu.Unlock()
	w := r.windows[key]
	if now.After(w.ends) {
		w = window{ends: now.Add(time.Minute)}
	}
	if ok = w.used < r.most; ok {
		w.used++
	}
	r.windows[key] = w
	return r.most - w.used, w.ends, ok
}
