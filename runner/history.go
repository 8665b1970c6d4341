package runner

import (
	"context"
	"strconv"
	"time"

	"github.com/errand-dev/errand"
	"github.com/errand-dev/errand/git"
)

// Commits gives what the agent's branch has beyond its base, newest first, and
// the cursor of the next page ("" on the last one): from its machine while that
// runs, otherwise what was pushed.
func (r *Runner) Commits(ctx context.Context, _ errand.Caller, id errand.AgentID, limit int, cursor string) ([]git.Commit, string, error) {
	skip := 0
	if cursor != "" {
		var err error
		if skip, err = strconv.Atoi(cursor); err != nil || skip < 0 {
			return nil, "", errand.Errorf(errand.Invalid, "validation_error", "The cursor %.80q is not one that this server gave.", cursor)
		}
	}
	agent, err := r.checkedOut(ctx, id)
	if err != nil {
		return nil, "", err
	}
	commits, err := r.commits(ctx, agent, limit+1, skip)
	if err != nil {
		return nil, "", err
	}
	next := ""
	if len(commits) > limit {
		commits, next = commits[:limit], strconv.Itoa(skip+limit)
	}
	for i, c := range commits {
		commits[i].Title, commits[i].Author = r.Redactor.String(c.Title), r.Redactor.String(c.Author)
	}
	return commits, next, nil
}

func (r *Runner) commits(ctx context.Context, agent errand.Agent, limit, skip int) ([]git.Commit, error) {
	if p := r.placeOf(agent.ID); p.now().isReady() {
		out, err := r.printed(ctx, p, agent.ID, append([]string{"git"}, git.LogArgs(agent.Base, "HEAD", limit, skip)...))
		if err == nil || !died(err) {
			return git.ParseLog(out), err
		}
	}
	if agent.Pushed == "" {
		return nil, nil
	}
	return r.Mirrors.Log(ctx, agent.ID, agent.Repositories[0].URL, agent.Base, agent.Pushed, limit, skip)
}

// refsWait bounds how long a remote may take to tell its branches: a person
// waits for them.
const refsWait = 20 * time.Second

// Refs asks a repository's remote for its branches and tags, the default branch
// first.
func (r *Runner) Refs(ctx context.Context, _ errand.Caller, url string) ([]git.Ref, error) {
	ctx, cancel := context.WithTimeout(ctx, refsWait)
	defer cancel()
	refs, err := r.Mirrors.Refs(ctx, url)
	for i, ref := range refs {
		refs[i].Name = r.Redactor.String(ref.Name)
	}
	return refs, err
}
