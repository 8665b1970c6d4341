package cli

import (
	"fmt"
	"io"
	"sync"
	"time"
)

// status is the last line of a terminal: what is being done, and for how long.
// Whatever else is written to the terminal goes through it. On a nil status
// every method does nothing.
type status struct {
	w     io.Writer
	style style
	stop  chan struct{}
	ended sync.WaitGroup

	mu    sync.Mutex
	text  string
	since time.Time
	frame int
	shown bool
}

// newStatus begins a status line. Close ends it.
func newStatus(w io.Writer, s style) *status {
	st := &status{w: w, style: s, stop: make(chan struct{})}
	st.ended.Go(st.spin)
	return st
}

func (s *status) spin() {
	tick := time.NewTicker(120 * time.Millisecond)
	defer tick.Stop()
	for {
		select {
		case <-tick.C:
			s.mu.Lock()
			s.drawLocked()
			s.mu.Unlock()
		case <-s.stop:
			return
		}
	}
}

// Set shows text from now on, with the time since then; "" shows nothing.
func (s *status) Set(text string) {
	if s == nil {
		return
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	if text != s.text {
		s.text, s.since = text, time.Now()
	}
	s.clearLocked()
}

// Write takes the line away, writes p and lets the line come back.
func (s *status) Write(p []byte) (int, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.clearLocked()
	return s.w.Write(p)
}

// Close takes the line away for good.
func (s *status) Close() {
	if s == nil {
		return
	}
	close(s.stop)
	s.ended.Wait()
	s.mu.Lock()
	defer s.mu.Unlock()
	s.clearLocked()
}

func (s *status) drawLocked() {
	if s.text == "" {
		return
	}
	frames := []rune("⠋⠙⠹⠸⠼⠴⠦⠧⠇⠏")
	s.frame++
	line := fmt.Sprintf("%c %s", frames[s.frame%len(frames)], s.text)
	if d := time.Since(s.since); d >= time.Second {
		line += " · " + duration(d.Truncate(time.Second/10))
	}
	fmt.Fprint(s.w, "\r\x1b[K"+s.style.dim(line))
	s.shown = true
}

func (s *status) clearLocked() {
	if s.shown {
		fmt.Fprint(s.w, "\r\x1b[K")
		s.shown = false
	}
}
