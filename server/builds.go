package server

import (
	"context"
	"iter"
	"net/http"

	"github.com/danielgtaylor/huma/v2"

	"github.com/errand-dev/errand"
	"github.com/errand-dev/errand/api"
	"github.com/errand-dev/errand/build"
)

type createBuild struct {
	ByEnvironment
	Body *api.CreateBuild `required:"false"`
}

// ByBuild are the parameters of what is about one build.
type ByBuild struct {
	ByEnvironment
	Build string `path:"build" doc:"Unique identifier for the build."`
}

func (in ByBuild) ids() (errand.EnvironmentID, errand.BuildID, error) {
	id, err := in.id()
	if err != nil {
		return "", "", err
	}
	one, err := errand.ParseBuildID(in.Build)
	return id, one, err
}

func (s *Server) buildRoutes(r *router) {
	const base = "/v1/environments/{id}/builds"
	add(r, route{name: "createBuild", method: "POST", path: base, status: http.StatusCreated, failures: []int{400, 403, 404, 413},
		summary: "Queue a build"}, s.createBuild)
	add(r, route{name: "listBuilds", method: "GET", path: base, failures: []int{400, 403, 404},
		summary: "List an environment's builds, newest first"}, s.listBuilds)
	add(r, route{name: "getActiveBuild", method: "GET", path: base + "/active", failures: []int{400, 403, 404},
		summary: "What agents of the environment start on"}, s.getActiveBuild)
	add(r, route{name: "getBuild", method: "GET", path: base + "/{build}", failures: []int{400, 403, 404},
		summary: "Get a build"}, s.getBuild)
	for _, o := range []struct {
		name, verb, summary string
		do                  func(context.Context, errand.Caller, errand.EnvironmentID, errand.BuildID) error
	}{
		{"cancelBuild", "cancel", "Cancel a build", s.runner.Builds.Cancel},
		{"activateBuild", "activate", "Make a build the one that agents start on", s.runner.Builds.Activate},
		{"deactivateBuild", "deactivate", "Let agents do without the active build", s.runner.Builds.Deactivate},
	} {
		add(r, route{name: o.name, method: "POST", path: base + "/{build}/" + o.verb, failures: []int{400, 403, 404, 409}, summary: o.summary},
			func(ctx context.Context, w who, in *ByBuild) (api.ID, error) {
				environment, id, err := in.ids()
				if err == nil {
					err = o.do(ctx, w.caller, environment, id)
				}
				return api.ID{ID: string(id)}, err
			})
	}
	r.addRaw(route{name: "followBuildLog", method: "GET", path: base + "/{build}/log", failures: []int{400, 403, 404},
		summary: "Follow a build's log as server-sent events, one for each event with its number as id, until the build ends"},
		http.StatusOK, "text/event-stream", []*huma.Param{lastEventID(), follow()}, s.followBuild)
}

func (s *Server) createBuild(ctx context.Context, w who, in *createBuild) (api.Build, error) {
	id, err := in.id()
	if err != nil {
		return api.Build{}, err
	}
	var q build.Request
	if in.Body != nil {
		q = build.Request{Ref: in.Body.Ref, Draft: in.Body.Draft, Force: in.Body.Force}
	}
	b, err := s.runner.Builds.Ask(ctx, w.caller, id, q)
	return api.FromBuild(b, ""), err
}

func (s *Server) listBuilds(ctx context.Context, w who, in *pageOfEnvironment) (api.Builds, error) {
	out := api.Builds{Items: []api.Build{}}
	id, err := in.id()
	if err != nil {
		return out, err
	}
	all, active, next, err := s.runner.Builds.List(ctx, w.caller, id, in.Limit, in.Cursor)
	for _, b := range all {
		out.Items = append(out.Items, api.FromBuild(b, active))
	}
	out.NextCursor = next
	return out, err
}

func (s *Server) getActiveBuild(ctx context.Context, w who, in *ByEnvironment) (api.ActiveBuild, error) {
	id, err := in.id()
	if err != nil {
		return api.ActiveBuild{}, err
	}
	e, err := s.runner.Builds.Environment(ctx, w.caller, id)
	if e.Active == "" {
		return api.ActiveBuild{Type: api.ActiveBuildUniversal}, err
	}
	return api.ActiveBuild{Type: api.ActiveBuildOwn, BuildID: string(e.Active)}, err
}

func (s *Server) getBuild(ctx context.Context, w who, in *ByBuild) (api.Build, error) {
	environment, id, err := in.ids()
	if err != nil {
		return api.Build{}, err
	}
	b, active, err := s.runner.Builds.Build(ctx, w.caller, environment, id)
	return api.FromBuild(b, active), err
}

// followBuild sends the events of a build's log as they are.
func (s *Server) followBuild(w http.ResponseWriter, r *http.Request) error {
	environment, id, err := ByBuild{ByEnvironment{r.PathValue("id")}, r.PathValue("build")}.ids()
	if err != nil {
		return err
	}
	one, _, err := s.runner.Builds.Build(r.Context(), whoIs(r.Context()).caller, environment, id)
	if err != nil {
		return err
	}
	return s.sendJournal(w, r, aside{}, func(ctx context.Context, after errand.Seq, follow bool) iter.Seq2[errand.Event, error] {
		if follow {
			return s.runner.Builds.Follow(ctx, one, after)
		}
		return s.runner.Builds.Events(ctx, one, after)
	}, func(e errand.Event) bool { return build.Ends(one, e) })
}
