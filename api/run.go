package api

import (
	"strings"
	"time"

	"github.com/errand-dev/errand"
)

// The statuses of a run on the wire.
const (
	RunCreating  = "CREATING" // queued or preparing
	RunRunning   = "RUNNING"
	RunFinished  = "FINISHED"
	RunError     = "ERROR"
	RunCancelled = "CANCELLED"
	RunExpired   = "EXPIRED"
)

// Run is one prompt given to an agent. State, Phase, Prompt, Mode, Error, Usage,
// StartedAt and BuildID are Errand's own; State is the exact status behind Status.
type Run struct {
	ID         string           `json:"id" doc:"Unique run identifier." example:"run-00000000-0000-0000-0000-000000000001"`
	AgentID    string           `json:"agentId"`
	Status     string           `json:"status" enum:"CREATING,RUNNING,FINISHED,ERROR,CANCELLED,EXPIRED"`
	CreatedAt  time.Time        `json:"createdAt"`
	UpdatedAt  time.Time        `json:"updatedAt"`
	DurationMs *int64           `json:"durationMs,omitempty" minimum:"0" doc:"Wall-clock duration, once the run has ended."`
	Result     string           `json:"result,omitempty" doc:"Final assistant reply text, once the run has ended."`
	Git        *RunGit          `json:"git,omitempty" doc:"The agent's pushed branches, once there is one."`
	State      errand.RunStatus `json:"state,omitempty" enum:"queued,preparing,running,finished,failed,cancelled,expired"`
	Phase      errand.Phase     `json:"phase,omitempty" doc:"What is being done now."`
	Prompt     string           `json:"prompt,omitempty" doc:"The prompt's text."`
	Mode       string           `json:"mode,omitempty"`
	Error      *Error           `json:"error,omitempty" doc:"Why the run failed."`
	Usage      *Usage           `json:"usage,omitempty"`
	StartedAt  *time.Time       `json:"startedAt,omitempty" doc:"When a server first took the run up."`
	BuildID    string           `json:"buildId,omitempty" doc:"The build on whose disk it worked."`
}

// Ended says whether the run's status is final.
func (r Run) Ended() bool { return Ended(r.Status) }

// Ended says whether a run's wire status is final.
func Ended(status string) bool { return rank(status) == final }

// Runs is one page of runs, newest first.
type Runs struct {
	Items      []Run  `json:"items"`
	NextCursor string `json:"nextCursor,omitempty" doc:"Left out on the last page."`
}

// RunGit is the agent's pushed branches: the same on each of its runs.
type RunGit struct {
	Branches []RunGitBranch `json:"branches"`
}

// RunGitBranch is one pushed branch.
type RunGitBranch struct {
	RepoURL string `json:"repoUrl" minLength:"1" doc:"Repository URL without its scheme."`
	Branch  string `json:"branch,omitempty"`
	PRURL   string `json:"prUrl,omitempty" format:"uri"`
}

// FromRun gives a run's wire form. The agent is the run's own: what it has
// pushed is told with each run.
func FromRun(r errand.Run, a errand.Agent) Run {
	wire := Run{
		ID: string(r.ID), AgentID: string(r.Agent), Status: FromRunStatus(r.Status),
		CreatedAt: r.CreatedAt, UpdatedAt: r.UpdatedAt,
		Result: r.Result, Git: fromPushed(a),
		State: r.Status, Phase: r.Phase, Prompt: r.Prompt.Text, Mode: r.Mode,
	}
	if r.Error != nil {
		e := fromError(r.Error)
		wire.Error = &e
	}
	if r.Usage != (errand.Usage{}) {
		u := FromUsage(r.Usage)
		wire.Usage = &u
	}
	wire.BuildID = string(r.Build)
	if !r.StartedAt.IsZero() {
		wire.StartedAt = &r.StartedAt
	}
	if r.Status.Ended() && !r.EndedAt.IsZero() {
		from := r.StartedAt
		if from.IsZero() {
			from = r.CreatedAt // it ended while it waited
		}
		ms := max(0, r.EndedAt.Sub(from).Milliseconds())
		wire.DurationMs = &ms
	}
	return wire
}

// FromRunStatus gives a run status' wire form.
func FromRunStatus(s errand.RunStatus) string {
	switch s {
	case errand.RunQueued, errand.RunPreparing:
		return RunCreating
	case errand.RunRunning:
		return RunRunning
	case errand.RunFinished:
		return RunFinished
	case errand.RunCancelled:
		return RunCancelled
	case errand.RunExpired:
		return RunExpired
	}
	return RunError
}

// final is the rank of a status after which none follows.
const final = 3

// rank orders wire statuses by a run's life; 0 is unknown.
func rank(status string) int {
	switch status {
	case RunCreating:
		return 1
	case RunRunning:
		return 2
	case RunFinished, RunError, RunCancelled, RunExpired:
		return final
	}
	return 0
}

// fromPushed gives what the agent has pushed, and nil before its first push: by
// then its branch is settled, whatever the ref it started from was written as.
func fromPushed(a errand.Agent) *RunGit {
	if a.Pushed == "" || len(a.Repositories) == 0 {
		return nil
	}
	return &RunGit{Branches: []RunGitBranch{{RepoURL: bareURL(a.Repositories[0].URL), Branch: a.Branch}}}
}

// bareURL takes the scheme, the user and the .git of a hosted repository off
// its URL. A local path stays as it is.
func bareURL(url string) string {
	scheme, rest, ok := strings.Cut(url, "://")
	switch {
	case ok && scheme == "file":
		return rest
	case ok:
		url = rest
	case strings.HasPrefix(url, "/") || !strings.Contains(url, ":"):
		return url
	default: // git@host:path
		host, path, _ := strings.Cut(url, ":")
		url = host + "/" + path
	}
	host, path, _ := strings.Cut(url, "/")
	if i := strings.LastIndex(host, "@"); i >= 0 {
		host = host[i+1:]
	}
	return strings.TrimSuffix(strings.TrimSuffix(host+"/"+path, "/"), ".git")
}
