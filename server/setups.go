package server

import (
	"context"
	"iter"
	"net/http"

	"github.com/danielgtaylor/huma/v2"

	"github.com/errand-dev/errand"
	"github.com/errand-dev/errand/api"
	"github.com/errand-dev/errand/setup"
)

// BySetup are the parameters of what is about one setup.
type BySetup struct {
	ID string `path:"id" doc:"Unique identifier for the setup."`
}

func (in BySetup) id() (errand.SetupID, error) { return errand.ParseSetupID(in.ID) }

type createSetup struct{ Body api.CreateSetup }

type editSetup struct {
	BySetup
	Body api.EditSetup
}

type openSetup struct {
	BySetup
	Body api.OpenSetup
}

type proveSetup struct {
	BySetup
	Body *api.ProveSetup `required:"false"`
}

type acceptSetup struct {
	BySetup
	Body api.AcceptSetup
}

type listSetupEvents struct {
	BySetup
	After int64 `query:"after" minimum:"0" doc:"Only events after this number."`
	Limit int   `query:"limit" minimum:"1" maximum:"1000" default:"200"`
}

func (s *Server) setupRoutes(r *router) {
	const one = "/v1/setups/{id}"
	add(r, route{name: "createSetup", method: "POST", path: "/v1/setups", status: http.StatusCreated, failures: []int{400, 403, 413},
		summary: "Begin the guided setup of a repository's environment"}, s.createSetup)
	add(r, route{name: "listSetups", method: "GET", path: "/v1/setups", failures: []int{400, 403},
		summary: "List setups, newest first"}, s.listSetups)
	add(r, route{name: "getSetup", method: "GET", path: one, failures: []int{400, 403, 404},
		summary: "Get a setup"}, s.getSetup)
	add(r, route{name: "editSetup", method: "PATCH", path: one, failures: []int{400, 403, 404, 409, 413},
		summary: "Change a setup's draft, its verify command, or answers"}, s.editSetup)
	add(r, route{name: "deleteSetup", method: "DELETE", path: one, failures: []int{400, 403, 404},
		summary: "End a setup and remove its machines"}, s.deleteSetup)
	add(r, route{name: "openSetup", method: "POST", path: one + "/open", failures: []int{400, 403, 404, 409},
		summary: "Open a machine with the draft, for a person or for a model"}, s.openSetup)
	add(r, route{name: "proveSetup", method: "POST", path: one + "/prove", failures: []int{400, 403, 404, 409},
		summary: "Show in clean machines whether the draft works"}, s.proveSetup)
	add(r, route{name: "acceptSetup", method: "POST", path: one + "/accept", failures: []int{400, 403, 404, 409},
		summary: "Write the draft as a commit, a patch or a stored environment"}, s.acceptSetup)
	add(r, route{name: "listSetupEvents", method: "GET", path: one + "/events", failures: []int{400, 403, 404},
		summary: "Get a piece of a setup's journal"}, s.listSetupEvents)
	r.addRaw(route{name: "followSetup", method: "GET", path: one + "/journal", failures: []int{400, 403, 404},
		summary: "Follow a setup's journal as server-sent events, one for each event with its number as id"},
		http.StatusOK, "text/event-stream", []*huma.Param{lastEventID(), follow()}, s.followSetup)
}

func (s *Server) createSetup(ctx context.Context, w who, in *createSetup) (api.Setup, error) {
	b := in.Body
	return wire(s.setups.Create(ctx, w.caller, setup.Request{
		Repository: errand.Repository{URL: b.Repository.URL, Ref: b.Repository.StartingRef},
		Mode:       b.Mode, Model: b.Model.Model(), Engine: b.Engine, Branch: b.Branch, Verify: b.Verify, Answers: b.Answers,
	}))
}

func (s *Server) listSetups(ctx context.Context, w who, in *Page) (api.Setups, error) {
	all, next, err := s.setups.List(ctx, w.caller, in.Limit, in.Cursor)
	out := api.Setups{Items: []api.Setup{}, NextCursor: next}
	for _, one := range all {
		out.Items = append(out.Items, api.FromSetup(one))
	}
	return out, err
}

// wire gives the form of a setup that may be an error.
func wire(one errand.Setup, err error) (api.Setup, error) {
	if err != nil {
		return api.Setup{}, err
	}
	return api.FromSetup(one), nil
}

// with does something with the setup that is named.
func (in BySetup) with(do func(errand.SetupID) (errand.Setup, error)) (api.Setup, error) {
	id, err := in.id()
	if err != nil {
		return api.Setup{}, err
	}
	return wire(do(id))
}

func (s *Server) getSetup(ctx context.Context, w who, in *BySetup) (api.Setup, error) {
	return in.with(func(id errand.SetupID) (errand.Setup, error) { return s.setups.Setup(ctx, w.caller, id) })
}

func (s *Server) editSetup(ctx context.Context, w who, in *editSetup) (api.Setup, error) {
	return in.with(func(id errand.SetupID) (errand.Setup, error) {
		return s.setups.Edit(ctx, w.caller, id, setup.Edit{Draft: in.Body.Draft, Verify: in.Body.Verify, Answers: in.Body.Answers, Ports: in.Body.Ports})
	})
}

func (s *Server) deleteSetup(ctx context.Context, w who, in *BySetup) (api.ID, error) {
	id, err := in.id()
	if err == nil {
		err = s.setups.Delete(ctx, w.caller, id)
	}
	return api.ID{ID: string(id)}, err
}

func (s *Server) openSetup(ctx context.Context, w who, in *openSetup) (api.Setup, error) {
	return in.with(func(id errand.SetupID) (errand.Setup, error) {
		return s.setups.Open(ctx, w.caller, id, in.Body.Mode, in.Body.Model.Model())
	})
}

func (s *Server) proveSetup(ctx context.Context, w who, in *proveSetup) (api.Setup, error) {
	return in.with(func(id errand.SetupID) (errand.Setup, error) {
		return s.setups.Prove(ctx, w.caller, id, in.Body != nil && in.Body.FromMachine)
	})
}

func (s *Server) acceptSetup(ctx context.Context, w who, in *acceptSetup) (api.Setup, error) {
	b := in.Body
	return in.with(func(id errand.SetupID) (errand.Setup, error) {
		return s.setups.Accept(ctx, w.caller, id, errand.Acceptance{As: b.As, Name: b.Name, Owner: b.Owner, Branch: b.Branch}, b.Unproved)
	})
}

func (s *Server) listSetupEvents(ctx context.Context, w who, in *listSetupEvents) (api.Events, error) {
	out := api.Events{Items: []errand.Event{}, Next: errand.Seq(in.After)}
	id, err := in.id()
	if err != nil {
		return out, err
	}
	events, err := s.setups.Events(ctx, w.caller, id, errand.Seq(in.After), in.Limit)
	if n := len(events); n > 0 {
		out.Items, out.Next = events, events[n-1].Seq
	}
	return out, err
}

// followSetup sends a setup's events as they are.
func (s *Server) followSetup(w http.ResponseWriter, r *http.Request) error {
	caller := whoIs(r.Context()).caller
	id, err := errand.ParseSetupID(r.PathValue("id"))
	if err != nil {
		return err
	}
	if _, err := s.setups.Setup(r.Context(), caller, id); err != nil {
		return err
	}
	return s.sendJournal(w, r, aside{}, func(ctx context.Context, after errand.Seq, follow bool) iter.Seq2[errand.Event, error] {
		if follow {
			return s.setups.Follow(ctx, caller, id, after)
		}
		return now(ctx, after, func(ctx context.Context, after errand.Seq) ([]errand.Event, error) {
			return s.setups.Events(ctx, caller, id, after, 500)
		})
	}, func(errand.Event) bool { return false })
}
