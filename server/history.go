package server

import (
	"context"
	"slices"
	"strings"

	"github.com/errand-dev/errand"
	"github.com/errand-dev/errand/api"
	"github.com/errand-dev/errand/git"
)

type listCommits struct {
	ByID
	Page
}

type listRefs struct {
	URL    string `query:"url" required:"true" minLength:"1" maxLength:"2000" doc:"Repository URL, as for an agent."`
	Query  string `query:"q" maxLength:"200" doc:"Only names that contain this, whatever their case."`
	Limit  int    `query:"limit" minimum:"1" maximum:"100" default:"100"`
	Cursor string `query:"cursor" doc:"Pagination cursor from the previous response."`
}

func (s *Server) historyRoutes(r *router) {
	add(r, route{name: "listCommits", method: "GET", path: "/v1/agents/{id}/commits", failures: []int{400, 403, 404, 503},
		summary: "List what an agent's branch has beyond its base, newest first"}, s.commits)
	s.carryRoutes(r)
	add(r, route{name: "listRefs", method: "GET", path: "/v1/repositories/refs", failures: []int{400, 403, 404, 413, 503},
		summary: "Ask a repository's remote for its branches and tags, the default branch first"}, s.refs)
}

func (s *Server) commits(ctx context.Context, w who, in *listCommits) (api.Commits, error) {
	out := api.Commits{Items: []api.Commit{}}
	id, err := errand.ParseAgentID(in.ID)
	if err != nil {
		return out, err
	}
	commits, next, err := s.runner.Commits(ctx, w.caller, id, in.Limit, in.Cursor)
	if err != nil {
		return out, err
	}
	for _, c := range commits {
		out.Items = append(out.Items, fromCommit(c))
	}
	out.NextCursor = next
	return out, nil
}

func (s *Server) refs(ctx context.Context, w who, in *listRefs) (api.Refs, error) {
	out := api.Refs{Items: []api.Ref{}}
	all, err := s.runner.Refs(ctx, w.caller, in.URL)
	if err != nil {
		return out, err
	}
	if in.Cursor != "" {
		at := slices.IndexFunc(all, func(r git.Ref) bool { return r.Name == in.Cursor })
		if at < 0 {
			return out, errand.Errorf(errand.Invalid, "validation_error", "The branch or tag that the cursor %.80q names is gone. List from the beginning.", in.Cursor)
		}
		all = all[at+1:]
	}
	query := strings.ToLower(in.Query)
	for _, ref := range all {
		wire := fromRef(ref)
		if !strings.Contains(strings.ToLower(wire.Name), query) {
			continue
		}
		if len(out.Items) == in.Limit {
			return out, nil
		}
		out.Items = append(out.Items, wire)
		out.NextCursor = ref.Name
	}
	out.NextCursor = ""
	return out, nil
}

func fromCommit(c git.Commit) api.Commit {
	return api.Commit{ID: c.ID, Title: c.Title, Author: c.Author, CommittedAt: c.Time}
}

func fromRef(r git.Ref) api.Ref {
	wire := api.Ref{Kind: "branch", Commit: r.Commit, Default: r.Default}
	var tag bool
	if wire.Name, tag = r.Short(); tag {
		wire.Kind = "tag"
	}
	return wire
}
