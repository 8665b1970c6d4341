package client

import (
	"bufio"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"iter"
	"net/http"
	"net/url"
	"strings"
	"time"

	"github.com/errand-dev/errand"
	"github.com/errand-dev/errand/api"
)

// Events gives at most limit (0: the server's choice) of an agent's events after
// a number, those that are there now.
func (c *Client) Events(ctx context.Context, agent errand.AgentID, after errand.Seq, limit int) (out api.Events, err error) {
	query := url.Values{"after": {number(after)}}
	if limit > 0 {
		query.Set("limit", number(limit))
	}
	err = c.call(ctx, request{method: "GET", path: agentPath(agent, "/events"), query: query}, &out)
	return out, err
}

// AllEvents gives an agent's events after a number that are there now.
func (c *Client) AllEvents(ctx context.Context, agent errand.AgentID, after errand.Seq) iter.Seq2[errand.Event, error] {
	return func(yield func(errand.Event, error) bool) {
		for {
			page, err := c.Events(ctx, agent, after, 500)
			if err != nil {
				yield(errand.Event{}, err)
				return
			}
			for _, e := range page.Items {
				if !yield(e, nil) {
					return
				}
			}
			if len(page.Items) == 0 {
				return
			}
			after = page.Next
		}
	}
}

// patience bounds how long Follow waits for a server that does not answer.
const patience = 2 * time.Minute

// Follow gives an agent's events after a number and then each as it is written.
// It ends when ctx ends, with its cause as the error, or when the agent is
// deleted. A broken connection is made anew, from the last event on, until the
// server has not answered for two minutes.
func (c *Client) Follow(ctx context.Context, agent errand.AgentID, after errand.Seq) iter.Seq2[errand.Event, error] {
	return c.follow(ctx, agentPath(agent, "/journal"), after)
}

// FollowBuild gives the events of a build's log after a number and then each as
// it is written, until the build has ended. It reconnects as Follow does.
func (c *Client) FollowBuild(ctx context.Context, environment errand.EnvironmentID, id errand.BuildID, after errand.Seq) iter.Seq2[errand.Event, error] {
	return c.follow(ctx, buildPath(environment, id, "/log"), after)
}

// BuildLog gives the events of a build's log that are there now.
func (c *Client) BuildLog(ctx context.Context, environment errand.EnvironmentID, id errand.BuildID) iter.Seq2[errand.Event, error] {
	return func(yield func(errand.Event, error) bool) {
		var after errand.Seq
		_, err := c.followOnce(ctx, buildPath(environment, id, "/log"), url.Values{"follow": {"false"}}, &after, func(bool) {}, func(e errand.Event) bool { return yield(e, nil) })
		if err != nil {
			yield(errand.Event{}, err)
		}
	}
}

func (c *Client) follow(ctx context.Context, path string, after errand.Seq) iter.Seq2[errand.Event, error] {
	return func(yield func(errand.Event, error) bool) {
		wait, lost := 100*time.Millisecond, time.Time{}
		heard := func(more bool) {
			if lost = (time.Time{}); more {
				wait = 100 * time.Millisecond
			}
		}
		for {
			stop, err := c.followOnce(ctx, path, nil, &after, heard, func(e errand.Event) bool { return yield(e, nil) })
			if stop {
				return
			}
			if lost.IsZero() {
				lost = time.Now()
			}
			if err != nil && (!passing(err) || time.Since(lost) > patience) {
				yield(errand.Event{}, err)
				return
			}
			select {
			case <-time.After(wait):
			case <-ctx.Done():
				yield(errand.Event{}, context.Cause(ctx))
				return
			}
			wait = min(2*wait, 5*time.Second)
		}
	}
}

// passing says whether the same request may go through later.
func passing(err error) bool {
	var unreachable *UnreachableError
	if errors.As(err, &unreachable) {
		return true
	}
	var e *errand.Error
	return errors.As(err, &e) && (e.Kind == errand.Unavailable || e.Kind == errand.Limited)
}

// followOnce reads one connection until it breaks. It moves after along, and says
// when it has heard of the server, and whether more than that the connection
// stands. stop means that the reader wants no more or that the journal has ended.
func (c *Client) followOnce(ctx context.Context, path string, query url.Values, after *errand.Seq, heard func(more bool), each func(errand.Event) bool) (stop bool, err error) {
	resp, err := c.send(ctx, request{
		method: "GET", path: path, query: query,
		header: http.Header{"Accept": {"text/event-stream"}, api.HeaderLastEventID: {number(*after)}},
	})
	if err != nil {
		return false, err
	}
	defer resp.Body.Close()
	heard(false)
	for m, err := range messages(resp.Body) {
		if err != nil {
			if ctx.Err() != nil {
				return false, context.Cause(ctx)
			}
			return false, &UnreachableError{URL: c.base.String(), Err: err}
		}
		heard(true) // a heartbeat too
		if m.event == api.StreamDone {
			return true, nil
		}
		if m.id == "" {
			continue
		}
		var e errand.Event
		if err := json.Unmarshal(m.data, &e); err != nil {
			return false, fmt.Errorf("reading event %s: %w", m.id, err)
		}
		*after = e.Seq
		if !each(e) {
			return true, nil
		}
	}
	return false, &UnreachableError{URL: c.base.String(), Err: io.ErrUnexpectedEOF}
}

// message is one server-sent event.
type message struct {
	id, event string
	data      []byte
}

// messages reads server-sent events until r ends, in their last form whole: what
// was cut at the end is not given.
func messages(r io.Reader) iter.Seq2[message, error] {
	return func(yield func(message, error) bool) {
		lines := bufio.NewScanner(r)
		lines.Buffer(make([]byte, 64<<10), maxBody)
		var m message
		for lines.Scan() {
			line := lines.Text()
			if line == "" {
				if (m.event != "" || m.data != nil) && !yield(m, nil) {
					return
				}
				m = message{}
				continue
			}
			name, value, _ := strings.Cut(line, ":")
			value = strings.TrimPrefix(value, " ")
			switch name {
			case "id":
				m.id = value
			case "event":
				m.event = value
			case "data":
				if m.data != nil {
					m.data = append(m.data, '\n')
				}
				m.data = append(m.data, value...)
			}
		}
		if err := lines.Err(); err != nil {
			yield(message{}, err)
		}
	}
}
