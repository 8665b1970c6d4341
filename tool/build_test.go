package tool_test

import (
	"context"
	"errors"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/errand-dev/errand"
	"github.com/errand-dev/errand/tool"
)

// desk has builds made in no time.
type desk struct {
	environment errand.Environment
	asked       map[string]tool.Proposal // by op
	ends        errand.Build
	refuses     error
}

func (d *desk) Environment(context.Context) (errand.Environment, error) {
	return d.environment, d.refuses
}

func (d *desk) Build(_ context.Context, op string, p tool.Proposal) (errand.Build, error) {
	d.asked[op] = p
	return d.ends, d.refuses
}

func TestRequestBuild(t *testing.T) {
	d := &desk{asked: map[string]tool.Proposal{}, environment: errand.Environment{Name: "web", JSON: `{"install": "npm ci"}`}}
	b := newBench(t, tool.Options{Builder: d, OutputBound: 1000})
	b.works(b.do(tool.RequestBuild, `{}`), "web is kept on the server", `{"install": "npm ci"}`)
	d.environment.RepositoryFile = &errand.RepositoryFile{Path: ".cursor/environment.json"}
	b.works(b.do(tool.RequestBuild, ``), ".cursor/environment.json in the repository", "own_branch", `{"install": "npm ci"}`)
	b.fails(b.do(tool.RequestBuild, `{"environment":"{}"}`), "Say in why")
	b.fails(b.do(tool.RequestBuild, `{"why":" ","own_branch":true}`), "Say in why")
	if len(d.asked) > 0 {
		t.Errorf("looking asked for %v", d.asked)
	}

	d.ends = errand.Build{ID: "bld-1", Environment: "env-1", Status: errand.BuildSucceeded}
	r := b.doAs("run-1.2.3", "", tool.RequestBuild, `{"why":"jq is missing","environment":"{\"install\":\"apt-get install -y jq\"}","own_branch":true}`)
	b.works(r, "Build bld-1 succeeded. It is a draft")
	if diff := cmp.Diff(tool.Proposal{Why: "jq is missing", Environment: `{"install":"apt-get install -y jq"}`, OwnBranch: true}, d.asked["run-1.2.3"]); diff != "" {
		t.Errorf("the proposal (-want +got):\n%s", diff)
	}
	if diff := cmp.Diff(tool.BuildResult{Environment: "env-1", Build: "bld-1", Status: errand.BuildSucceeded}, r.Structured); diff != "" {
		t.Errorf("the result (-want +got):\n%s", diff)
	}
	// A machine that was restarted meanwhile has no part in it.
	b.works(b.doAs("run-1.2.3", "an earlier life", tool.RequestBuild, `{"why":"jq is missing"}`), "succeeded")

	d.ends.Status = errand.BuildFailed
	d.ends.Failure = &errand.BuildFailure{Error: &errand.Error{Message: "install ended with exit status 100.", Output: "first\n" + strings.Repeat("x", 4000) + "\nE: no such package"}}
	b.works(b.do(tool.RequestBuild, `{"why":"jq is missing"}`), "bld-1 failed: install ended with exit status 100.", "first", "bytes cut; full output in", "E: no such package")
	d.ends = errand.Build{ID: "bld-2", Status: errand.BuildCancelled}
	b.works(b.do(tool.RequestBuild, `{"why":"jq is missing"}`), "Build bld-2 cancelled.")

	d.refuses = errand.Errorf(errand.Forbidden, "agent_may_not_build", "Agents may not do this here.")
	b.fails(b.do(tool.RequestBuild, `{"why":"jq is missing"}`), "Agents may not do this here.")
	b.fails(b.do(tool.RequestBuild, `{}`), "Agents may not do this here.")
	d.refuses = errors.New("the database is gone")
	if _, err := b.set.Call(t.Context(), tool.Call{Op: "op", Name: tool.RequestBuild, Args: []byte(`{"why":"x"}`)}); !errors.Is(err, d.refuses) {
		t.Errorf("a fault of ours gave %v", err)
	}
}

// TestRequestBuildIsLeftOut where nothing makes builds, and for those who only
// look.
func TestRequestBuildIsLeftOut(t *testing.T) {
	d := &desk{asked: map[string]tool.Proposal{}}
	for _, o := range []tool.Options{{}, {Builder: d, ReadOnly: true}} {
		b := newBench(t, o)
		b.fails(b.do(tool.RequestBuild, `{"why":"jq is missing"}`), `no tool "request_build"`)
	}
	if len(d.asked) > 0 {
		t.Errorf("it asked for %v", d.asked)
	}
}
