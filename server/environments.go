package server

import (
	"cmp"
	"context"
	"net/http"
	"strings"

	"github.com/errand-dev/errand"
	"github.com/errand-dev/errand/api"
	"github.com/errand-dev/errand/build"
	"github.com/errand-dev/errand/environment/file"
)

// ByEnvironment are the parameters of what is about one environment.
type ByEnvironment struct {
	ID string `path:"id" doc:"Unique identifier for the environment."`
}

func (in ByEnvironment) id() (errand.EnvironmentID, error) { return errand.ParseEnvironmentID(in.ID) }

type createEnvironment struct{ Body api.CreateEnvironment }

type checkEnvironment struct{ Body api.CheckEnvironment }

type editEnvironment struct {
	ByEnvironment
	Body api.EditEnvironment
}

type pageOfEnvironment struct {
	ByEnvironment
	Page
}

// ByVersion are the parameters of what is about one version.
type ByVersion struct {
	ByEnvironment
	Version string `path:"version" doc:"Unique identifier of a version."`
}

type diffVersions struct {
	ByVersion
	Against string `query:"against" doc:"Another version; the one before when left out."`
}

func (s *Server) environmentRoutes(r *router) {
	add(r, route{name: "createEnvironment", method: "POST", path: "/v1/environments", status: http.StatusCreated, failures: []int{400, 403, 409, 413},
		summary: "Store an environment and queue its first build"}, s.createEnvironment)
	add(r, route{name: "listEnvironments", method: "GET", path: "/v1/environments", failures: []int{400, 403},
		summary: "List environments, newest first"}, s.listEnvironments)
	add(r, route{name: "checkEnvironment", method: "POST", path: "/v1/environments/check", failures: []int{400, 403, 413},
		summary: "Say what is odd about the text of an environment file, and how it is written correctly; nothing is stored"}, s.checkEnvironment)
	add(r, route{name: "getEnvironment", method: "GET", path: "/v1/environments/{id}", failures: []int{400, 403, 404},
		summary: "Get an environment"}, s.getEnvironment)
	addEmpty(r, route{name: "editEnvironment", method: "PATCH", path: "/v1/environments/{id}", failures: []int{400, 403, 404, 409, 413},
		summary: "Change an environment; a new text is a new version and queues a build"}, s.editEnvironment)
	add(r, route{name: "deleteEnvironment", method: "DELETE", path: "/v1/environments/{id}", failures: []int{400, 403, 404},
		summary: "Delete an environment; its history stays"}, s.deleteEnvironment)
	add(r, route{name: "listEnvironmentHistory", method: "GET", path: "/v1/environments/{id}/history", failures: []int{400, 403, 404},
		summary: "List an environment's versions, newest first"}, s.listHistory)
	add(r, route{name: "diffEnvironmentVersion", method: "GET", path: "/v1/environments/{id}/history/{version}/diff", failures: []int{400, 403, 404},
		summary: "What a version changed"}, s.diffVersions)
	add(r, route{name: "restoreEnvironmentVersion", method: "POST", path: "/v1/environments/{id}/history/{version}/restore", failures: []int{400, 403, 404, 409},
		summary: "Make an earlier version the current one again, also of a deleted environment"}, s.restoreVersion)
}

type getBoot struct {
	ByID
	Run string `query:"run" doc:"A run of the agent; the latest when left out."`
}

func (s *Server) bootRoutes(r *router) {
	add(r, route{name: "getBoot", method: "GET", path: "/v1/agents/{id}/boot", failures: []int{400, 403, 404},
		summary: "How an agent's machine became ready: each phase, its time, and why it was or was not saved"}, s.getBoot)
}

func (s *Server) getBoot(ctx context.Context, w who, in *getBoot) (api.Boot, error) {
	agent, err := s.agent(ctx, w, in.ID)
	if err != nil {
		return api.Boot{}, err
	}
	var run errand.RunID
	if in.Run != "" {
		if run, err = errand.ParseRunID(in.Run); err != nil {
			return api.Boot{}, err
		}
	}
	events, err := s.runner.Journal.All(ctx, agent.ID)
	if err != nil {
		return api.Boot{}, err
	}
	boot, found := api.BootOf(events, run)
	if !found {
		return boot, errand.Errorf(errand.NotFound, "boot_not_found", "Nothing was made ready for that run yet. errand logs %s shows what happens.", agent.ID)
	}
	return boot, nil
}

func (s *Server) createEnvironment(ctx context.Context, w who, in *createEnvironment) (api.Environment, error) {
	e, err := s.runner.Builds.Create(ctx, w.caller, build.NewEnvironment{
		Name: in.Body.Name, Owner: in.Body.Owner, Repositories: api.Repositories(in.Body.Repos), JSON: in.Body.EnvironmentJSON,
		Version: build.Change{Title: in.Body.Title, Description: in.Body.Description},
	})
	return api.FromEnvironment(e), err
}

func (s *Server) listEnvironments(ctx context.Context, w who, in *Page) (api.Environments, error) {
	out := api.Environments{Items: []api.EnvironmentSummary{}}
	all, next, err := s.runner.Builds.Environments(ctx, w.caller, in.Limit, in.Cursor)
	for _, e := range all {
		out.Items = append(out.Items, api.FromEnvironmentSummary(e))
	}
	out.NextCursor = next
	return out, err
}

// checkEnvironment looks at the text alone, and at the snapshots that are here.
func (s *Server) checkEnvironment(ctx context.Context, _ who, in *checkEnvironment) (api.EnvironmentCheck, error) {
	text := in.Body.EnvironmentJSON
	if strings.TrimSpace(text) == "" { // asks for nothing, as when one is stored
		return api.EnvironmentCheck{Corrected: text, Findings: []api.EnvironmentFinding{}}, nil
	}
	var failed error
	report := file.Check(cmp.Or(in.Body.Path, "environment.json"), []byte(text), file.Around{Linter: s.linter(ctx), Snapshot: func(name string) bool {
		_, err := s.runner.Snapshots.Key(ctx, name)
		if err != nil && errand.KindOf(err) != errand.NotFound {
			failed = err
		}
		return err == nil
	}})
	return api.FromReport(report), failed
}

func (s *Server) getEnvironment(ctx context.Context, w who, in *ByEnvironment) (api.Environment, error) {
	id, err := in.id()
	if err != nil {
		return api.Environment{}, err
	}
	e, err := s.runner.Builds.Environment(ctx, w.caller, id)
	return api.FromEnvironment(e), err
}

func (s *Server) editEnvironment(ctx context.Context, w who, in *editEnvironment) error {
	id, err := in.id()
	if err != nil {
		return err
	}
	_, err = s.runner.Builds.Edit(ctx, w.caller, id, build.EditEnvironment{
		Name: in.Body.Name, JSON: in.Body.EnvironmentJSON, Repositories: api.Repositories(in.Body.Repos),
		Version: build.Change{Title: in.Body.Title, Description: in.Body.Description},
	})
	return err
}

func (s *Server) deleteEnvironment(ctx context.Context, w who, in *ByEnvironment) (api.ID, error) {
	id, err := in.id()
	if err == nil {
		err = s.runner.Builds.Delete(ctx, w.caller, id)
	}
	return api.ID{ID: string(id)}, err
}

func (s *Server) listHistory(ctx context.Context, w who, in *pageOfEnvironment) (api.EnvironmentHistory, error) {
	out := api.EnvironmentHistory{Items: []api.EnvironmentVersion{}}
	id, err := in.id()
	if err != nil {
		return out, err
	}
	all, current, next, err := s.runner.Builds.Versions(ctx, w.caller, id, in.Limit, in.Cursor)
	for _, v := range all {
		out.Items = append(out.Items, api.FromVersion(v, current))
	}
	out.NextCursor = next
	return out, err
}

func (s *Server) diffVersions(ctx context.Context, w who, in *diffVersions) (api.EnvironmentDiff, error) {
	out := api.EnvironmentDiff{}
	id, version, err := in.ids()
	if err != nil {
		return out, err
	}
	var against errand.VersionID
	if in.Against != "" {
		if against, err = errand.ParseVersionID(in.Against); err != nil {
			return out, err
		}
	}
	out.Version, out.Against = string(version), string(against)
	out.Patch, err = s.runner.Builds.Diff(ctx, w.caller, id, version, against)
	return out, err
}

func (s *Server) restoreVersion(ctx context.Context, w who, in *ByVersion) (api.Environment, error) {
	id, version, err := in.ids()
	if err != nil {
		return api.Environment{}, err
	}
	e, err := s.runner.Builds.Restore(ctx, w.caller, id, version)
	return api.FromEnvironment(e), err
}

func (in ByVersion) ids() (errand.EnvironmentID, errand.VersionID, error) {
	id, err := in.id()
	if err != nil {
		return "", "", err
	}
	version, err := errand.ParseVersionID(in.Version)
	return id, version, err
}
