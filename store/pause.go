package store

import "time"

// Pause is how long to wait before a write that failed is tried again: a second
// at first, twice as long each time, half a minute at most. The zero value is
// ready.
type Pause struct{ last time.Duration }

// Next gives how long the next Wait takes.
func (p *Pause) Next() time.Duration {
	if p.last == 0 {
		return time.Second
	}
	return min(2*p.last, 30*time.Second)
}

// Wait waits and says whether to try again: false when ended was closed first.
func (p *Pause) Wait(ended <-chan struct{}) bool {
	p.last = p.Next()
	timer := time.NewTimer(p.last)
	defer timer.Stop()
	select {
	case <-timer.C:
		return true
	case <-ended:
		return false
	}
}
