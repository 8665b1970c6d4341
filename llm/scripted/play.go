package scripted

import (
	"context"
	"fmt"
	"net/http"
	"time"
)

// performance is one answer being given.
type performance struct {
	ask    *ask
	choice *choice
	reply  *reply
	fault  *Fault // nil when all goes well
}

// play gives an answer, or what its fault makes of it.
func (d *dialect) play(w http.ResponseWriter, r *http.Request, p *performance) {
	f := p.fault
	if f == nil {
		f = &Fault{}
	}
	for name, value := range f.Headers {
		w.Header().Set(name, value)
	}
	switch {
	case f.Drop:
		panic(http.ErrAbortHandler)
	case f.Status != 0 && f.Body != "":
		w.WriteHeader(f.Status)
		fmt.Fprint(w, f.Body)
		return
	case f.Status != 0:
		d.refuse(w, &refusal{status: f.Status, kind: f.Type, message: message(f)})
		return
	case f.Garbage != "":
		if p.ask.stream && w.Header().Get("Content-Type") == "" {
			w.Header().Set("Content-Type", "text/event-stream")
		}
		fmt.Fprint(w, f.Garbage)
		return
	case f.Error != "" && !p.ask.stream:
		status := 500
		if f.Error == "overloaded_error" {
			status = 529
		}
		d.refuse(w, &refusal{status: status, kind: f.Error, message: message(f)})
		return
	}
	frames := []frame{{"body", d.whole(p.reply)}}
	w.Header().Set("Content-Type", "application/json")
	if p.ask.stream {
		w.Header().Set("Content-Type", "text/event-stream")
		frames = d.frames(p.reply, p.ask)
	}
	if f.Error != "" {
		half := max(1, len(frames)/2)
		frames = append(frames[:half:half], frame{"error", d.inStream(f.Error, message(f))})
	}
	send(w, r, frames, p.choice.turn.Pause, f)
}

// message gives a fault's words.
func message(f *Fault) string {
	if f.Message != "" {
		return f.Message
	}
	return "scripted fault"
}

// send writes frames until the end or until the fault's place is reached.
func send(w http.ResponseWriter, r *http.Request, frames []frame, wait Duration, f *Fault) {
	cut := f.Cut
	if f.Stall != nil {
		cut = f.Stall
	}
	out := http.NewResponseController(w)
	w.WriteHeader(http.StatusOK)
	out.Flush()
	written := 0
	for i, fr := range frames {
		if i > 0 && !pause(r.Context(), wait) {
			return
		}
		room, ends := cut.room(i, written, fr)
		n, err := w.Write(fr.text[:room])
		written += n
		if err != nil || out.Flush() != nil {
			return // the client has left
		}
		if !ends {
			continue
		}
		switch {
		case f.Stall != nil:
			<-r.Context().Done()
			panic(http.ErrAbortHandler)
		case cut.Clean:
			return
		}
		panic(http.ErrAbortHandler)
	}
}

// room gives how many bytes of frame i may be written, and whether the answer
// ends there. The zero Cut ends before the first byte.
func (c *Cut) room(i, written int, f frame) (int, bool) {
	switch {
	case c == nil:
		return len(f.text), false
	case c.Bytes == 0 && c.Events == 0 && c.Before == "",
		c.Before != "" && c.Before == f.kind,
		c.Events > 0 && i >= c.Events:
		return 0, true
	case c.Bytes > 0 && written+len(f.text) >= c.Bytes:
		return c.Bytes - written, true
	}
	return len(f.text), false
}

// pause waits, and says whether the client is still there.
func pause(ctx context.Context, d Duration) bool {
	if d <= 0 {
		return ctx.Err() == nil
	}
	timer := time.NewTimer(time.Duration(d))
	defer timer.Stop()
	select {
	case <-timer.C:
		return true
	case <-ctx.Done():
		return false
	}
}
