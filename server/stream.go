package server

import (
	"context"
	"iter"
	"net/http"
	"strconv"

	"github.com/danielgtaylor/huma/v2"

	"github.com/errand-dev/errand"
	"github.com/errand-dev/errand/api"
)

// retention is what is told of how long streams can be resumed: as long as the
// agent is there. The header wants a number of seconds; this is ten years.
const retention = 10 * 365 * 24 * 3600

func lastEventID() *huma.Param {
	return &huma.Param{
		Name: api.HeaderLastEventID, In: "header", Schema: &huma.Schema{Type: huma.TypeString},
		Description: "Go on after this event, which was received before.",
	}
}

// streamRun sends one run's messages: those that were, and then those that come,
// until the run has ended.
func (s *Server) streamRun(w http.ResponseWriter, r *http.Request) error {
	ctx, caller := r.Context(), whoIs(r.Context()).caller
	agent, id, err := byRun{ID: r.PathValue("id"), RunID: r.PathValue("runId")}.parse()
	if err != nil {
		return err
	}
	run, err := s.runner.OneRun(ctx, caller, agent, id)
	if err != nil {
		return err
	}
	fold := api.NewStream(run)
	top := fold.Top()
	var after errand.Seq
	var rest []api.Message
	if last := r.Header.Get(api.HeaderLastEventID); last != "" {
		if after, rest, err = s.resume(ctx, caller, agent, fold, last); err != nil {
			return err
		}
	}
	w.Header().Set(api.HeaderRetention, strconv.Itoa(retention))
	out := newSSE(w)
	if err := putAll(out, append([]api.Message{top}, rest...)); err != nil {
		s.lost(ctx, err)
		return nil
	}
	if err := out.flush(); err != nil || fold.Ended() {
		return nil
	}
	events := func(ctx context.Context) iter.Seq2[errand.Event, error] {
		return s.runner.Follow(ctx, caller, agent, after)
	}
	gone, err := s.stream(ctx, out, events, func(e errand.Event) (bool, error) {
		messages, err := fold.Fold(e)
		if err != nil {
			return false, err
		}
		return fold.Ended(), putAll(out, messages)
	})
	if err != nil {
		s.lost(ctx, err)
	}
	if gone {
		farewell(out)
	}
	return nil
}

// resume folds the journal up to the message that a client has had. It gives the
// event to go on after and what else that event says. An id that is not of this
// run is an Invalid error.
func (s *Server) resume(ctx context.Context, caller errand.Caller, agent errand.AgentID, fold *api.Stream, last string) (errand.Seq, []api.Message, error) {
	seq, _, err := api.ParseStreamID(last)
	if err != nil {
		return 0, nil, err
	}
	for after := errand.Seq(0); after < seq; {
		events, err := s.runner.Events(ctx, caller, agent, after, int(min(seq-after, 500)))
		if err != nil {
			return 0, nil, err
		}
		if len(events) == 0 {
			break
		}
		for _, e := range events {
			messages, err := fold.Fold(e)
			if err != nil {
				return 0, nil, err
			}
			if after = e.Seq; after == seq {
				rest, ok := past(messages, last)
				if !ok {
					return 0, nil, api.InvalidStreamID(last)
				}
				return seq, rest, nil
			}
		}
	}
	return 0, nil, api.InvalidStreamID(last)
}

// past gives the messages after the last one with this id.
func past(messages []api.Message, id string) (rest []api.Message, ok bool) {
	for i := len(messages) - 1; i >= 0; i-- {
		if messages[i].ID == id {
			return messages[i+1:], true
		}
	}
	return nil, false
}

func putAll(out *sse, messages []api.Message) error {
	for _, m := range messages {
		if err := out.put(m); err != nil {
			return err
		}
	}
	return nil
}

// lost logs why a stream ended early, unless its reader went.
func (s *Server) lost(ctx context.Context, err error) {
	if ctx.Err() == nil && errand.KindOf(err) == errand.Internal {
		s.log.Debug("a stream ended early", "error", err)
	}
}

// farewell ends a stream whose agent is gone.
func farewell(out *sse) {
	_ = putAll(out, []api.Message{
		{Event: api.StreamError, Data: api.FromError(errand.Errorf(errand.NotFound, "agent_not_found", "The agent was deleted."))},
		{Event: api.StreamDone, Data: struct{}{}},
	})
	_ = out.flush() // the reader may be gone too
}
