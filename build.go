package errand

import (
	"regexp"
	"slices"
	"time"

	"github.com/google/uuid"
)

// EnvironmentID names a stored environment: "env-" and a UUID in lower case.
type EnvironmentID string

// VersionID names one version of an environment: "ver-" and a UUID in lower
// case.
type VersionID string

// BuildID names a build: "bld-", the day it was asked for (UTC, YYYYMMDD), "-"
// and a UUID in lower case.
type BuildID string

// NoVersion stands for no environment where one is settled: nothing was found.
const NoVersion VersionID = "none"

// NewEnvironmentID returns a fresh environment id.
func NewEnvironmentID() EnvironmentID { return EnvironmentID("env-" + uuid.NewString()) }

// NewVersionID returns a fresh version id.
func NewVersionID() VersionID { return VersionID("ver-" + uuid.NewString()) }

// NewBuildID returns a fresh id for a build that is asked for at a time.
func NewBuildID(at time.Time) BuildID {
	return BuildID("bld-" + at.UTC().Format("20060102") + "-" + uuid.NewString())
}

// BuildIDFor returns the id of the build to which an asking leads that was given
// a name beforehand, op, by something that began at a time. Both say it all:
// asking again leads to the same build.
func BuildIDFor(at time.Time, op string) BuildID {
	return BuildID("bld-" + at.UTC().Format("20060102") + "-" + uuid.NewSHA1(uuid.NameSpaceURL, []byte(op)).String())
}

var (
	environmentPattern = regexp.MustCompile(`^env-` + uuidPattern + `$`)
	versionPattern     = regexp.MustCompile(`^ver-` + uuidPattern + `$`)
	buildPattern       = regexp.MustCompile(`^bld-[0-9]{8}-` + uuidPattern + `$`)
)

// ParseEnvironmentID reads an environment id as a client sent it. Letters may
// come in either case. Anything else is an Invalid error that shows the right
// form.
func ParseEnvironmentID(s string) (EnvironmentID, error) {
	return parseID[EnvironmentID](s, environmentPattern, "an environment's id", "env-00000000-0000-0000-0000-000000000001")
}

// ParseVersionID reads the id of an environment's version as a client sent it,
// as ParseEnvironmentID does.
func ParseVersionID(s string) (VersionID, error) {
	return parseID[VersionID](s, versionPattern, "the id of a version", "ver-00000000-0000-0000-0000-000000000001")
}

// ParseBuildID reads a build id as a client sent it, as ParseEnvironmentID does.
func ParseBuildID(s string) (BuildID, error) {
	return parseID[BuildID](s, buildPattern, "a build's id", "bld-20260102-00000000-0000-0000-0000-000000000001")
}

// Owner says for whom an environment is.
type Owner string

const (
	OwnerPersonal Owner = "personal" // for Environment.Person alone
	OwnerTeam     Owner = "team"     // for everybody who has a key
)

// Environment is a stored environment: how machines become ready for some
// repositories, kept on the server with its history and its builds. What its
// JSON asks for is read by package environment.
type Environment struct {
	ID     EnvironmentID `json:"id"`
	Name   string        `json:"name"` // unique among those of one owner that are there
	Owner  Owner         `json:"owner"`
	Person string        `json:"person,omitempty"` // Caller.Person of a personal one; "" of the team's
	// Repositories are those it is for; builds check out the first.
	Repositories []Repository `json:"repositories,omitempty"`
	// JSON is the text of the environment file as somebody wrote it.
	JSON    string    `json:"environmentJson"`
	Version VersionID `json:"version"` // of JSON
	// Active is the build that agents start on; "" before one succeeded, and
	// after it was deactivated.
	Active BuildID `json:"active,omitempty"`
	// RepositoryFile is set for one that stands in a repository: it was
	// registered by its first use, and follows the file on the default branch.
	RepositoryFile *RepositoryFile `json:"repositoryFile,omitempty"`
	CreatedAt      time.Time       `json:"createdAt"`
	UpdatedAt      time.Time       `json:"updatedAt"`
	UsedAt         time.Time       `json:"usedAt"`             // by an agent, a person's change or a build by hand
	DeletedAt      time.Time       `json:"deletedAt,omitzero"` // zero: it is there
}

// RepositoryFile says in which repository an environment file stands, and where.
type RepositoryFile struct {
	URL  string `json:"url"`
	Path string `json:"path"`
}

// VersionKind says what a version did to its environment.
type VersionKind string

const (
	VersionCreated    VersionKind = "created"
	VersionUpdated    VersionKind = "updated"    // somebody changed what was there
	VersionDeleted    VersionKind = "deleted"    // JSON is what was there last
	VersionBackfilled VersionKind = "backfilled" // registered from a repository's file
	VersionChanged    VersionKind = "changed"    // the repository's file changed
	// VersionProposed changed nothing: an agent asked for a build of JSON, which
	// becomes the environment's when a person activates that build.
	VersionProposed VersionKind = "proposed"
)

// VersionSource says where a version came from.
type VersionSource string

const (
	SourceDashboard       VersionSource = "dashboard"
	SourceSetupFlow       VersionSource = "setup_flow"
	SourceRestore         VersionSource = "restore"
	SourceAPI             VersionSource = "api"
	SourceAgentRun        VersionSource = "agent_run"
	SourceRepositoryFile  VersionSource = "repo_file"
	SourceRequestOverride VersionSource = "request_override"
)

// EnvironmentVersion is one entry of an environment's history. It never changes.
type EnvironmentVersion struct {
	ID          VersionID     `json:"id"`
	Environment EnvironmentID `json:"environment"`
	Kind        VersionKind   `json:"kind"`
	Source      VersionSource `json:"source"`
	Title       string        `json:"title"`       // what was done, in a few words
	Description string        `json:"description"` // the sentence behind it; may be ""
	JSON        string        `json:"environmentJson"`
	Caller      Caller        `json:"caller"`
	CreatedAt   time.Time     `json:"createdAt"`
}

// BuildStatus is where a build stands.
type BuildStatus string

const (
	BuildQueued    BuildStatus = "queued"
	BuildRunning   BuildStatus = "running"
	BuildSucceeded BuildStatus = "succeeded"
	BuildFailed    BuildStatus = "failed"
	BuildCancelled BuildStatus = "cancelled"
	BuildSkipped   BuildStatus = "skipped" // nothing had changed since the one before
)

// buildFollows says which statuses of builds may come after which.
var buildFollows = map[BuildStatus][]BuildStatus{
	BuildQueued:  {BuildRunning, BuildFailed, BuildCancelled, BuildSkipped},
	BuildRunning: {BuildSucceeded, BuildFailed, BuildCancelled, BuildSkipped},
}

// Ended says whether no other status can follow.
func (s BuildStatus) Ended() bool { return len(buildFollows[s]) == 0 }

// MayBecome says whether next can follow s.
func (s BuildStatus) MayBecome(next BuildStatus) bool { return slices.Contains(buildFollows[s], next) }

// BuildTrigger says why there is a build.
type BuildTrigger string

const (
	TriggerManual       BuildTrigger = "MANUAL"
	TriggerConfigChange BuildTrigger = "CONFIG_CHANGE" // a new version, or inputs that an agent found changed
	TriggerRecurring    BuildTrigger = "RECURRING"     // the schedule
	TriggerAgent        BuildTrigger = "AGENT"         // an agent asked; always a draft
)

// The types of a BuildFailure.
const (
	FailureInstall  = "INSTALL_FAILED"   // the environment is at fault: its install, image or file
	FailureTerminal = "TERMINAL_FAILURE" // anything else
)

// BuildFailure says why a build failed.
type BuildFailure struct {
	Type string `json:"type"`
	// Error has the code, the sentence for people and what the failing command
	// printed; never nil.
	Error *Error `json:"error"`
}

// BuildCommit is a commit that a build was made at.
type BuildCommit struct {
	URL    string `json:"url"`
	Branch string `json:"branch,omitempty"` // "" where the commit was named otherwise
	Commit string `json:"commit"`
}

// KeyPart is one thing that the disk which install leaves depends on. Parts are
// kept with a build so that a later miss can be explained.
type KeyPart struct {
	Name  string `json:"name"`  // "image", "install", …, or a path in the repository
	Value string `json:"value"` // a content id, or the digest of a text
}

// Build is one preparation of an environment at known commits: image, clone,
// install, snapshot. It has a journal of its own, unless it came about within
// an agent's run (WithinRun), whose journal then tells it.
type Build struct {
	ID          BuildID       `json:"id"`
	Environment EnvironmentID `json:"environment"`
	Version     VersionID     `json:"version"` // of the environment; set anew when it is taken up, but for TriggerAgent
	Status      BuildStatus   `json:"status"`
	Trigger     BuildTrigger  `json:"trigger"`
	// Draft builds become active only when a person activates them.
	Draft bool `json:"draft,omitempty"`
	// Force installs also where a snapshot of the same key is there.
	Force   bool          `json:"force,omitempty"`
	Ref     string        `json:"ref,omitempty"` // that was asked for; "" is the default branch
	Failure *BuildFailure `json:"failure,omitempty"`
	Commits []BuildCommit `json:"commits,omitempty"` // nil until they are known
	Key     string        `json:"key,omitempty"`     // of the disk; "" without install, and before it is known
	Parts   []KeyPart     `json:"parts,omitempty"`   // what went into Key; without install the image alone
	// Snapshot names the disk, also that of a build which failed; "" where none
	// was kept.
	Snapshot string `json:"snapshot,omitempty"`
	Caller   Caller `json:"caller"` // who asked, or for whom the agent works that did; zero for the schedule
	// Agent and Run are where it came about within a run, or, with TriggerAgent,
	// who asked for it in a machine of its own.
	Agent AgentID `json:"agent,omitempty"`
	Run   RunID   `json:"run,omitempty"`
	// CancelAsked is set when somebody asked for an end that is not yet there.
	CancelAsked bool      `json:"cancelAsked,omitempty"`
	CreatedAt   time.Time `json:"createdAt"`
	StartedAt   time.Time `json:"startedAt,omitzero"` // when it was first taken up
	EndedAt     time.Time `json:"endedAt,omitzero"`
	UpdatedAt   time.Time `json:"updatedAt"`
}

// WithinRun says whether the build came about within an agent's run, in the
// agent's own machine.
func (b Build) WithinRun() bool { return b.Run != "" && b.Trigger != TriggerAgent }
