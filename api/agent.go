package api

import (
	"cmp"
	"encoding/json"
	"time"

	"github.com/errand-dev/errand"
)

// The statuses of an agent on the wire. An agent without a run under way is
// ACTIVE too: what happens now is told by its runs.
const (
	AgentActive   = "ACTIVE"
	AgentArchived = "ARCHIVED"
)

// Env is where an agent runs, as Cursor's clients name it. Errand keeps and
// gives back what was sent and runs every agent on its own machines.
type Env struct {
	Type string `json:"type" enum:"cloud,pool,machine"`
	Name string `json:"name,omitempty"`
}

// AgentSummary is an agent in lists. Idle and what follows it are Errand's own.
type AgentSummary struct {
	ID          string           `json:"id" doc:"Unique agent identifier." example:"bc-00000000-0000-0000-0000-000000000001"`
	Name        string           `json:"name,omitempty" doc:"Display name."`
	Status      string           `json:"status" enum:"ACTIVE,ARCHIVED" doc:"Agent lifecycle state. Execution status lives on runs."`
	Env         Env              `json:"env"`
	URL         string           `json:"url" format:"uri" doc:"Where to look at the agent."`
	CreatedAt   time.Time        `json:"createdAt"`
	UpdatedAt   time.Time        `json:"updatedAt"`
	LatestRunID string           `json:"latestRunId,omitempty"`
	Idle        bool             `json:"idle,omitempty" doc:"No run is under way or waiting."`
	State       errand.RunStatus `json:"state,omitempty" doc:"Exact status of the latest run."`
	Branch      string           `json:"branch,omitempty" doc:"The agent's own branch."`
	Model       *ModelRef        `json:"model,omitempty"`
	Takeover    *Takeover        `json:"takeover,omitempty" doc:"Who has it in hand; left out for nobody."`
	Glance      *Glance          `json:"glance,omitempty" doc:"Where it was asked for."`
}

// Agent is an agent in full. Base and what follows it are Errand's own.
type Agent struct {
	AgentSummary
	Repos               []Repo         `json:"repos,omitempty"`
	WorkOnCurrentBranch bool           `json:"workOnCurrentBranch,omitempty"`
	AutoCreatePR        bool           `json:"autoCreatePR,omitempty"`
	SkipReviewerRequest bool           `json:"skipReviewerRequest,omitempty"`
	CustomSubagents     []Subagent     `json:"customSubagents,omitempty"`
	Base                string         `json:"base,omitempty" doc:"The commit that the branch started from."`
	Pushed              string         `json:"pushed,omitempty" doc:"The commit of the branch that the remote has."`
	Engine              string         `json:"engine,omitempty" doc:"What isolates the machine."`
	Image               string         `json:"image,omitempty" doc:"The image that was asked for."`
	Limits              *errand.Limits `json:"limits,omitempty"`
	EnvironmentID       string         `json:"environmentId,omitempty" doc:"The stored environment that its machine was made from."`
	VersionID           string         `json:"versionId,omitempty" doc:"The environment's version."`
	BuildID             string         `json:"buildId,omitempty" doc:"The build on whose disk it works."`
}

// Agents is one page of agents, newest first.
type Agents struct {
	Items      []AgentSummary `json:"items"`
	NextCursor string         `json:"nextCursor,omitempty" doc:"Left out on the last page."`
}

// Repo is a repository as a client names it.
type Repo struct {
	URL         string `json:"url" minLength:"1" doc:"Repository URL, or an absolute path on the server's machine."`
	StartingRef string `json:"startingRef,omitempty" doc:"Branch, tag or commit to start from."`
	PRURL       string `json:"prUrl,omitempty" format:"uri"`
}

// Subagent is kept and given back; Errand does not act on it yet.
type Subagent struct {
	Name        string          `json:"name" minLength:"1" maxLength:"100"`
	Description string          `json:"description" minLength:"1" maxLength:"1000"`
	Prompt      string          `json:"prompt" minLength:"1" maxLength:"8192"`
	Model       json.RawMessage `json:"model,omitempty"`
}

// FromAgent gives an agent's wire form. base is the server's own URL without a
// slash at its end.
func FromAgent(a errand.Agent, base string) Agent {
	wire := Agent{
		AgentSummary:        FromAgentSummary(a, base),
		WorkOnCurrentBranch: a.Settings.WorkOnCurrentBranch,
		AutoCreatePR:        a.Settings.AutoCreatePR,
		SkipReviewerRequest: a.Settings.SkipReviewerRequest,
		Base:                a.Base,
		Pushed:              a.Pushed,
		Engine:              a.Settings.Engine,
		Image:               a.Settings.Image,
		EnvironmentID:       string(a.Environment),
		BuildID:             string(a.Build),
	}
	if a.Environment != "" {
		wire.VersionID = string(a.Version)
	}
	for _, r := range a.Repositories {
		wire.Repos = append(wire.Repos, Repo{URL: r.URL, StartingRef: r.Ref})
	}
	if a.Settings.Limits != (errand.Limits{}) {
		wire.Limits = &a.Settings.Limits
	}
	keptAs(a.Settings.Extra, "customSubagents", &wire.CustomSubagents)
	return wire
}

// FromAgentSummary gives an agent's wire form in lists.
func FromAgentSummary(a errand.Agent, base string) AgentSummary {
	wire := AgentSummary{
		ID: string(a.ID), Name: a.Name, Status: AgentActive,
		Env: Env{Type: "cloud"}, URL: base + "/agents/" + string(a.ID),
		CreatedAt: a.CreatedAt, UpdatedAt: a.UpdatedAt,
		LatestRunID: string(a.LatestRun),
		Idle:        a.Status == errand.AgentIdle,
		State:       a.LatestStatus,
		Branch:      a.Branch,
		Model:       fromModel(a.Settings.Model),
		Takeover:    FromTakeover(a.Takeover),
	}
	if a.Status == errand.AgentArchived {
		wire.Status = AgentArchived
	}
	keptAs(a.Settings.Extra, "env", &wire.Env)
	wire.Env.Type = cmp.Or(wire.Env.Type, "cloud")
	return wire
}

// keptAs reads back what a client sent and Settings.Extra keeps. It may be a
// value of ours or, out of the store, what JSON makes of one.
func keptAs(extra map[string]any, name string, into any) {
	if v, ok := extra[name]; ok {
		if text, err := json.Marshal(v); err == nil {
			_ = json.Unmarshal(text, into) // what was checked when it came in
		}
	}
}
