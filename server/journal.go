package server

import (
	"cmp"
	"context"
	"iter"
	"net/http"
	"strconv"

	"github.com/danielgtaylor/huma/v2"

	"github.com/errand-dev/errand"
	"github.com/errand-dev/errand/api"
	"github.com/errand-dev/errand/presence"
)

type listEvents struct {
	ByID
	After int64 `query:"after" minimum:"0" doc:"Only events after this number."`
	Limit int   `query:"limit" minimum:"1" maximum:"1000" default:"200"`
}

func (s *Server) journalRoutes(r *router) {
	add(r, route{name: "listEvents", method: "GET", path: "/v1/agents/{id}/events", failures: []int{400, 403, 404},
		summary: "Get a piece of an agent's journal"}, s.listEvents)
	r.addRaw(route{name: "followJournal", method: "GET", path: "/v1/agents/{id}/journal", failures: []int{400, 403, 404},
		summary: "Follow an agent's journal as server-sent events, one for each event with its number as id"},
		http.StatusOK, "text/event-stream", []*huma.Param{lastEventID(), follow(), {
			Name: "presence", In: "query", Schema: &huma.Schema{Type: huma.TypeBoolean, Default: false},
			Description: "true: be seen as watching while the stream is open, and be told who else is there, in messages \"presence\" without an id.",
		}}, s.followJournal)
}

// follow is the parameter that followQuery reads.
func follow() *huma.Param {
	return &huma.Param{Name: "follow", In: "query", Schema: &huma.Schema{Type: huma.TypeBoolean, Default: true}, Description: "false: end with what there is now."}
}

func (s *Server) listEvents(ctx context.Context, w who, in *listEvents) (api.Events, error) {
	out := api.Events{Items: []errand.Event{}, Next: errand.Seq(in.After)}
	id, err := errand.ParseAgentID(in.ID)
	if err != nil {
		return out, err
	}
	events, err := s.runner.Events(ctx, w.caller, id, errand.Seq(in.After), in.Limit)
	if err != nil {
		return out, err
	}
	if n := len(events); n > 0 {
		out.Items, out.Next = events, events[n-1].Seq
	}
	return out, nil
}

// followJournal sends an agent's events as they are.
func (s *Server) followJournal(w http.ResponseWriter, r *http.Request) error {
	ctx, caller := r.Context(), whoIs(r.Context()).caller
	agent, err := s.agent(ctx, whoIs(ctx), r.PathValue("id"))
	if err != nil {
		return err
	}
	var visit *presence.Visit // nil: they are not seen
	if r.URL.Query().Get("presence") == "true" {
		visit = s.runner.Rooms.Enter(agent.ID, presence.Person{Caller: caller, Doing: presence.Watching})
		defer visit.Leave()
	}
	return s.sendJournal(w, r, s.roomOf(agent.ID, visit), func(ctx context.Context, after errand.Seq, follow bool) iter.Seq2[errand.Event, error] {
		if follow {
			return s.runner.Follow(ctx, caller, agent.ID, after)
		}
		return now(ctx, after, func(ctx context.Context, after errand.Seq) ([]errand.Event, error) {
			return s.runner.Events(ctx, caller, agent.ID, after, 500)
		})
	}, func(errand.Event) bool { return false })
}

// journalQuery reads after which event to go on, and whether to wait for more.
func journalQuery(r *http.Request) (after errand.Seq, follow bool, err error) {
	if last := r.Header.Get(api.HeaderLastEventID); last != "" {
		n, err := strconv.ParseInt(last, 10, 64)
		if err != nil || n < 0 {
			return 0, false, errand.Errorf(errand.Invalid, "invalid_last_event_id", "Last-Event-ID %.80q is not the number of an event.", last)
		}
		after = errand.Seq(n)
	}
	follow, err = followQuery(r)
	return after, follow, err
}

// followQuery says whether a stream is to wait for more.
func followQuery(r *http.Request) (bool, error) {
	follow, err := strconv.ParseBool(cmp.Or(r.URL.Query().Get("follow"), "true"))
	if err != nil {
		return false, errand.Errorf(errand.Invalid, "validation_error", "follow must be true or false.")
	}
	return follow, nil
}

// now gives the events that are there now, as page reads them.
func now(ctx context.Context, after errand.Seq, page func(context.Context, errand.Seq) ([]errand.Event, error)) iter.Seq2[errand.Event, error] {
	return func(yield func(errand.Event, error) bool) {
		for {
			events, err := page(ctx, after)
			if err != nil {
				yield(errand.Event{}, err)
				return
			}
			for _, e := range events {
				after = e.Seq
				if !yield(e, nil) {
					return
				}
			}
			if len(events) == 0 {
				return
			}
		}
	}
}

// sendJournal answers with the events that source gives, one message for each,
// from where the reader left off, until they end or last says so, and then with
// "done". Without that the answer broke off: the reader asks again from there.
func (s *Server) sendJournal(w http.ResponseWriter, r *http.Request, beside aside, source func(context.Context, errand.Seq, bool) iter.Seq2[errand.Event, error], last func(errand.Event) bool) error {
	after, follow, err := journalQuery(r)
	if err != nil {
		return err
	}
	out := newSSE(w)
	if err := out.control.Flush(); err != nil {
		return nil
	}
	ended := false
	gone, err := s.streamBeside(r.Context(), out, beside, func(ctx context.Context) iter.Seq2[errand.Event, error] { return source(ctx, after, follow) },
		func(e errand.Event) (bool, error) {
			ended = last(e)
			frame, err := s.frames.of(e)
			out.buf.Write(frame)
			return ended, err
		})
	if err != nil {
		s.lost(r.Context(), err)
	}
	if gone || ended {
		_ = out.put(api.Message{Event: api.StreamDone, Data: struct{}{}})
		_ = out.flush() // the reader may be gone too
	}
	return nil
}
