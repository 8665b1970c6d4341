package errand

import (
	"cmp"
	"strings"
	"time"
)

// AgentStatus is an agent's life. An agent is never "running": its runs are.
type AgentStatus string

const (
	// AgentActive: has a run under way or waiting.
	AgentActive AgentStatus = "active"
	// AgentIdle: takes follow-ups, has no run under way.
	AgentIdle AgentStatus = "idle"
	// AgentArchived: readable, takes no runs until unarchived.
	AgentArchived AgentStatus = "archived"
)

// Caller is who makes a request, as authentication found out.
type Caller struct {
	Key   string `json:"key"`             // the name of the key used
	Name  string `json:"name,omitempty"`  // for commits' co-author line; "" leaves the line out
	Email string `json:"email,omitempty"` // with Name
}

// Person is whom a caller's personal things belong to. All keys with one email
// address are one person's; a key without one is a person of its own.
func (c Caller) Person() string {
	if c.Email != "" {
		return strings.ToLower(c.Email)
	}
	return "key:" + c.Key
}

// CallerOf gives a caller who is a person.
func CallerOf(person string) Caller {
	if key, ok := strings.CutPrefix(person, "key:"); ok {
		return Caller{Key: key}
	}
	return Caller{Email: person}
}

// Repository is a git repository that an agent works on.
type Repository struct {
	// URL is as the person gave it: an absolute local path, file://, http(s)://,
	// ssh:// or scp form. It never holds a credential once stored.
	URL string `json:"url"`
	// Ref is the branch, tag or commit to start from; "" is the default branch.
	Ref string `json:"ref,omitempty"`
}

// Model names the language model of an agent and its parameters.
type Model struct {
	ID     string            `json:"id"`
	Params map[string]string `json:"params,omitempty"`
}

// Limits bound a machine. Zero means the driver's default.
type Limits struct {
	CPUs   float64 `json:"cpus,omitempty"`   // processors, 0.5 is half of one
	Memory int64   `json:"memory,omitempty"` // bytes
	PIDs   int64   `json:"pids,omitempty"`   // processes and threads
	Disk   int64   `json:"disk,omitempty"`   // bytes that the machine may write
}

// Or gives l with what is zero in it taken from def.
func (l Limits) Or(def Limits) Limits {
	return Limits{CPUs: cmp.Or(l.CPUs, def.CPUs), Memory: cmp.Or(l.Memory, def.Memory), PIDs: cmp.Or(l.PIDs, def.PIDs), Disk: cmp.Or(l.Disk, def.Disk)}
}

// Settings are what a person chose for an agent when it was made. They do not
// change afterwards, but for the model, which a later run may choose anew.
type Settings struct {
	Model  Model  `json:"model"`
	Engine string `json:"engine,omitempty"` // "gvisor", "runc"; "" is the server's default
	// Image overrides the environment file's image: "host", an OCI reference or a
	// snapshot (SnapshotImage).
	Image  string `json:"image,omitempty"`
	Limits Limits `json:"limits,omitzero"`
	// EnvironmentJSON takes the place of whatever environment would be found; ""
	// is none, "{}" asks for nothing.
	EnvironmentJSON string `json:"environmentJson,omitempty"`
	// Force runs install in a clean machine, also where a snapshot has it.
	Force bool `json:"force,omitempty"`
	// Unpublished leaves what the agent does in its machine: a run's end commits
	// and pushes nothing.
	Unpublished bool `json:"unpublished,omitempty"`
	// WorkOnCurrentBranch pushes to Repositories[0].Ref instead of an own branch.
	WorkOnCurrentBranch bool `json:"workOnCurrentBranch,omitempty"`
	AutoCreatePR        bool `json:"autoCreatePR,omitempty"`
	SkipReviewerRequest bool `json:"skipReviewerRequest,omitempty"`
	// Environment is the stored environment that was asked for; "" leaves it to
	// the repository's file and what is stored for the repository.
	Environment EnvironmentID `json:"environment,omitempty"`
	// Build is the build that was asked for; "" is the environment's active one.
	Build BuildID `json:"build,omitempty"`
	// Extra keeps what a compatible client sent and this version does not act
	// on (env, mcpServers, customSubagents), so that reading gives it back.
	Extra map[string]any `json:"extra,omitempty"`
}

// Agent is a durable worker on one or more repositories, with its own branch,
// conversation and settings.
type Agent struct {
	ID           AgentID      `json:"id"`
	Name         string       `json:"name"`
	Status       AgentStatus  `json:"status"`
	Caller       Caller       `json:"caller"`
	Repositories []Repository `json:"repositories,omitempty"`
	// Branch is the agent's own branch; "" without a repository.
	Branch string `json:"branch,omitempty"`
	// Base is the commit that Branch started from; "" until it was resolved.
	Base      string   `json:"base,omitempty"`
	Settings  Settings `json:"settings"`
	LatestRun RunID    `json:"latestRun,omitempty"`
	// LatestStatus is LatestRun's status when the agent was read; nobody sets it.
	LatestStatus RunStatus `json:"latestStatus,omitempty"`
	CreatedAt    time.Time `json:"createdAt"`
	UpdatedAt    time.Time `json:"updatedAt"`
	// Pushed is the commit of Branch that the remote has; "" before a push.
	Pushed string `json:"pushed,omitempty"`
	// Environment, Version and Build are what the agent's machine was made from,
	// "" until that is settled, which happens once in an agent's life.
	Environment EnvironmentID `json:"environment,omitempty"`
	Version     VersionID     `json:"version,omitempty"`
	Build       BuildID       `json:"build,omitempty"`
	// Takeover is who has the agent in hand; nil for nobody. Takeovers is how many
	// there were, that one included.
	Takeover  *Takeover `json:"takeover,omitempty"`
	Takeovers int       `json:"takeovers,omitempty"`
}

// RunStatus is where a run stands.
type RunStatus string

const (
	RunQueued    RunStatus = "queued"
	RunPreparing RunStatus = "preparing" // a machine is being made ready
	RunRunning   RunStatus = "running"
	RunFinished  RunStatus = "finished"
	RunFailed    RunStatus = "failed"
	RunCancelled RunStatus = "cancelled"
	RunExpired   RunStatus = "expired"
)

// follows says which statuses may come after which.
var follows = map[RunStatus][]RunStatus{
	RunQueued:    {RunPreparing, RunFailed, RunCancelled, RunExpired},
	RunPreparing: {RunRunning, RunFailed, RunCancelled, RunExpired},
	RunRunning:   {RunFinished, RunFailed, RunCancelled, RunExpired},
}

// Ended says whether no other status can follow.
func (s RunStatus) Ended() bool { return len(follows[s]) == 0 }

// MayBecome says whether next can follow s.
func (s RunStatus) MayBecome(next RunStatus) bool {
	for _, f := range follows[s] {
		if f == next {
			return true
		}
	}
	return false
}

// Image is a picture in a prompt.
type Image struct {
	MIME string `json:"mime"`
	Data []byte `json:"data"`
}

// Prompt is what a person asks of an agent.
type Prompt struct {
	Text   string  `json:"text"`
	Images []Image `json:"images,omitempty"`
}

// Run is one prompt given to an agent and all that follows from it.
type Run struct {
	ID     RunID     `json:"id"`
	Agent  AgentID   `json:"agent"`
	Prompt Prompt    `json:"prompt"`
	Mode   string    `json:"mode,omitempty"` // "agent" or "plan"
	Status RunStatus `json:"status"`
	// Phase is what drive is doing now, for lists; "" outside of it.
	Phase     Phase     `json:"phase,omitempty"`
	Result    string    `json:"result,omitempty"` // the agent's last words
	Error     *Error    `json:"error,omitempty"`  // why it failed
	Usage     Usage     `json:"usage"`
	CreatedAt time.Time `json:"createdAt"`
	StartedAt time.Time `json:"startedAt,omitzero"` // when a server first took it up
	EndedAt   time.Time `json:"endedAt,omitzero"`
	UpdatedAt time.Time `json:"updatedAt"`
	// CancelAsked is set when somebody asked for an end that is not yet there.
	CancelAsked bool `json:"cancelAsked,omitempty"`
	// Build is the one whose disk the run worked on; "" where there is none.
	Build BuildID `json:"build,omitempty"`
}

// Usage is what was used of a model, in tokens as the provider counted them.
// The four counts do not overlap: a token read from the cache is not in Input.
type Usage struct {
	Input      int64 `json:"input"`
	Output     int64 `json:"output"`
	CacheRead  int64 `json:"cacheRead"`
	CacheWrite int64 `json:"cacheWrite"`
}

// Add gives the sum of both.
func (u Usage) Add(v Usage) Usage {
	return Usage{u.Input + v.Input, u.Output + v.Output, u.CacheRead + v.CacheRead, u.CacheWrite + v.CacheWrite}
}

// Total is the sum of the four counts.
func (u Usage) Total() int64 { return u.Input + u.Output + u.CacheRead + u.CacheWrite }
