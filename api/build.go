package api

import (
	"cmp"
	"time"

	"github.com/errand-dev/errand"
)

// The statuses of a build on the wire. One that waits is in progress too.
const (
	BuildInProgress = "IN_PROGRESS"
	BuildSucceeded  = "SUCCEEDED"
	BuildFailed     = "FAILED"
	BuildCancelled  = "CANCELLED"
	BuildSkipped    = "SKIPPED"
)

// The types of an ActiveBuild.
const (
	ActiveBuildOwn       = "build"
	ActiveBuildUniversal = "universal_image"
)

// CreateBuild asks for a build.
type CreateBuild struct {
	Ref   string `json:"ref,omitempty" maxLength:"255" doc:"Branch, tag or commit; the default branch when left out. A build of another ref is a draft."`
	Draft bool   `json:"draft,omitempty" doc:"It becomes active only when a person activates it."`
	Force bool   `json:"force,omitempty" doc:"Install also where nothing has changed."`
}

// Build is one build of an environment. What follows CompletedAt is Errand's
// own.
type Build struct {
	ID            string              `json:"id" example:"bld-20260102-00000000-0000-0000-0000-000000000001"`
	EnvironmentID string              `json:"environmentId"`
	Status        string              `json:"status" enum:"IN_PROGRESS,SUCCEEDED,FAILED,CANCELLED,SKIPPED"`
	Trigger       errand.BuildTrigger `json:"trigger" enum:"RECURRING,CONFIG_CHANGE,MANUAL,AGENT"`
	Draft         bool                `json:"draft"`
	Failure       *BuildFailure       `json:"failure,omitempty"`
	CreatedAt     time.Time           `json:"createdAt"`
	UpdatedAt     time.Time           `json:"updatedAt"`
	CompletedAt   *time.Time          `json:"completedAt,omitempty"`

	State      errand.BuildStatus `json:"state" doc:"Exact status."`
	Active     bool               `json:"active" doc:"Agents start on it."`
	VersionID  string             `json:"versionId,omitempty" doc:"Of the environment."`
	Ref        string             `json:"ref,omitempty"`
	Forced     bool               `json:"forced,omitempty"`
	Commits    []BuildCommit      `json:"commits,omitempty"`
	Key        string             `json:"key,omitempty" doc:"Digest of what decides the disk."`
	SnapshotID string             `json:"snapshotId,omitempty" doc:"The kept disk, also of a build that failed."`
	AgentID    string             `json:"agentId,omitempty" doc:"Whose run it came about in, or who asked for it."`
	RunID      string             `json:"runId,omitempty"`
	By         string             `json:"by,omitempty" doc:"Who asked for it."`
	StartedAt  *time.Time         `json:"startedAt,omitempty"`
}

// BuildFailure says why a build failed. Message, Output and ExitCode are
// Errand's own.
type BuildFailure struct {
	Type     string `json:"type" enum:"INSTALL_FAILED,TERMINAL_FAILURE"`
	Code     string `json:"code,omitempty"`
	Message  string `json:"message,omitempty"`
	Output   string `json:"output,omitempty" doc:"What the failing command printed, at most 16 KiB."`
	ExitCode *int   `json:"exitCode,omitempty"`
}

// BuildCommit is a commit that a build was made at.
type BuildCommit struct {
	URL    string `json:"url"`
	Branch string `json:"branch,omitempty"`
	Commit string `json:"commit"`
}

// Builds is one page of an environment's builds, newest first.
type Builds struct {
	Items      []Build `json:"items"`
	NextCursor string  `json:"nextCursor,omitempty" doc:"Left out on the last page."`
}

// ActiveBuild says what agents of an environment start on.
type ActiveBuild struct {
	Type    string `json:"type" enum:"build,universal_image"`
	BuildID string `json:"buildId,omitempty"`
}

// FromBuild gives a build's wire form. active is the environment's.
func FromBuild(b errand.Build, active errand.BuildID) Build {
	wire := Build{
		ID: string(b.ID), EnvironmentID: string(b.Environment), Status: BuildInProgress, Trigger: b.Trigger, Draft: b.Draft,
		CreatedAt: b.CreatedAt, UpdatedAt: b.UpdatedAt, CompletedAt: timeOrNil(b.EndedAt), StartedAt: timeOrNil(b.StartedAt),
		State: b.Status, Active: b.ID == active, VersionID: string(b.Version), Ref: b.Ref, Forced: b.Force, Key: b.Key, SnapshotID: b.Snapshot,
		AgentID: string(b.Agent), RunID: string(b.Run), By: by(b.Caller),
	}
	switch b.Status {
	case errand.BuildSucceeded:
		wire.Status = BuildSucceeded
	case errand.BuildFailed:
		wire.Status = BuildFailed
	case errand.BuildCancelled:
		wire.Status = BuildCancelled
	case errand.BuildSkipped:
		wire.Status = BuildSkipped
	}
	for _, c := range b.Commits {
		wire.Commits = append(wire.Commits, BuildCommit(c))
	}
	if f := b.Failure; f != nil {
		wire.Failure = &BuildFailure{Type: f.Type, Code: f.Error.Code, Message: f.Error.Message, Output: f.Error.Output, ExitCode: f.Error.ExitCode}
	}
	return wire
}

func timeOrNil(t time.Time) *time.Time {
	if t.IsZero() {
		return nil
	}
	return &t
}

// by names who asked for something; "" is nobody, as the schedule.
func by(c errand.Caller) string { return cmp.Or(c.Name, c.Email, c.Key) }
