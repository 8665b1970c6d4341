package errand

import (
	"encoding/json"
	"time"
)

// Seq numbers the events of a journal from 1 without gaps.
type Seq int64

// Subject is whom a journal is about: an AgentID, a BuildID or a SetupID.
type Subject interface {
	// Journal names the subject's journal: it is the subject's id.
	Journal() string
}

// Journal names the agent's journal.
func (id AgentID) Journal() string { return string(id) }

// Journal names the build's journal.
func (id BuildID) Journal() string { return string(id) }

// Journal names the setup's journal.
func (id SetupID) Journal() string { return string(id) }

// EventKind says what an event tells, and which struct its Data is.
type EventKind string

const (
	EventAgentCreated   EventKind = "agent.created"     // AgentCreated
	EventAgentChanged   EventKind = "agent.changed"     // AgentChanged
	EventRunQueued      EventKind = "run.queued"        // RunQueuedData
	EventRunStatus      EventKind = "run.status"        // RunStatusData
	EventRunCancelAsked EventKind = "run.cancelAsked"   // CancelAsked
	EventPhaseStarted   EventKind = "phase.started"     // PhaseStarted
	EventPhaseOutput    EventKind = "phase.output"      // PhaseOutput
	EventPhaseEnded     EventKind = "phase.ended"       // PhaseEnded
	EventMachine        EventKind = "machine"           // MachineData
	EventTurnStarted    EventKind = "turn.started"      // TurnStarted
	EventText           EventKind = "text"              // TextData
	EventThinking       EventKind = "thinking"          // TextData
	EventTurnRetried    EventKind = "turn.retried"      // TurnRetried
	EventTurnEnded      EventKind = "turn.ended"        // TurnEnded
	EventToolCalled     EventKind = "tool.called"       // ToolCalled
	EventToolEnded      EventKind = "tool.ended"        // ToolEnded
	EventPlan           EventKind = "plan"              // PlanData
	EventCompacted      EventKind = "compacted"         // Compacted
	EventConnection     EventKind = "connection"        // Connection
	EventCommit         EventKind = "commit"            // CommitData
	EventPush           EventKind = "push"              // PushData
	EventNotice         EventKind = "notice"            // Notice
	EventEnvironment    EventKind = "environment"       // EnvironmentUsed
	EventBuildQueued    EventKind = "build.queued"      // BuildQueuedData
	EventBuildStatus    EventKind = "build.status"      // BuildStatusData
	EventBuildCancel    EventKind = "build.cancelAsked" // CancelAsked
	EventSetupChanged   EventKind = "setup.changed"     // SetupChanged
	EventSecretsUsed    EventKind = "secret.used"       // SecretsUsed

	EventTakeoverStarted  EventKind = "takeover.started"  // TakeoverStarted
	EventTakeoverReady    EventKind = "takeover.ready"    // TakeoverReady
	EventTakeoverReminded EventKind = "takeover.reminded" // TakeoverReminded
	EventTakeoverCommand  EventKind = "takeover.command"  // TakeoverCommand
	EventTakeoverEnding   EventKind = "takeover.ending"   // TakeoverEnding
	EventTakeoverEnded    EventKind = "takeover.ended"    // TakeoverEnded
)

// Event is a numbered fact that never changes.
type Event struct {
	Agent AgentID         `json:"agent,omitempty"` // one of Agent, Build and Setup is set
	Build BuildID         `json:"build,omitempty"`
	Setup SetupID         `json:"setup,omitempty"`
	Seq   Seq             `json:"seq"`
	Run   RunID           `json:"run,omitempty"` // "" where it belongs to no run
	Time  time.Time       `json:"time"`          // UTC, milliseconds
	Kind  EventKind       `json:"kind"`
	Data  json.RawMessage `json:"data"`
}

// Phase is a timed part of a run. Phases follow one another in the order of
// the constants; one that has nothing to do still says so.
type Phase string

const (
	PhaseImage     Phase = "image"     // pull and unpack the image
	PhaseMirror    Phase = "mirror"    // bring the local mirror up to date
	PhaseMachine   Phase = "machine"   // create or wake the machine
	PhaseInstall   Phase = "install"   // the environment's install command
	PhaseSnapshot  Phase = "snapshot"  // keep the disk after install
	PhaseCheckout  Phase = "checkout"  // the agent's branch in the machine
	PhaseStart     Phase = "start"     // the environment's start command
	PhaseTerminals Phase = "terminals" // the environment's terminals
	PhaseWork      Phase = "work"      // model and tools
	PhaseCommit    Phase = "commit"    // what the agent left uncommitted
	PhasePush      Phase = "push"      // through the broker to the remote

	// Phases of setups, between the others.

	PhaseSurvey Phase = "survey" // what the repository says of its environment
	PhaseAgain  Phase = "again"  // install a second time, on the disk of the first
	PhasePorts  Phase = "ports"  // which ports are listened on, once start and terminals are up
	PhaseVerify Phase = "verify" // the command that shows that the environment works
	PhaseWrite  Phase = "write"  // the environment file, where it belongs
)

// AgentCreated is the first event of every journal.
type AgentCreated struct {
	Agent Agent `json:"agent"`
}

// AgentChanged tells a change of the agent's row: a new name, status, base…
// Only the fields that changed are set.
type AgentChanged struct {
	Name   string      `json:"name,omitempty"`
	Status AgentStatus `json:"status,omitempty"`
	Base   string      `json:"base,omitempty"`
	Branch string      `json:"branch,omitempty"`
	Pushed string      `json:"pushed,omitempty"`
}

// RunQueuedData opens a run.
type RunQueuedData struct {
	Prompt Prompt `json:"prompt"`
	Mode   string `json:"mode,omitempty"`
	Caller Caller `json:"caller"`
	// Model is the model from this run on; nil keeps the one before.
	Model *Model `json:"model,omitempty"`
}

// RunStatusData tells a run's new status. Result, Error, Duration and Usage are
// set when the run has ended.
type RunStatusData struct {
	Status     RunStatus `json:"status"`
	Result     string    `json:"result,omitempty"`
	Error      *Error    `json:"error,omitempty"`
	DurationMs int64     `json:"durationMs,omitempty"`
	Usage      *Usage    `json:"usage,omitempty"`
	Build      BuildID   `json:"build,omitempty"` // with RunRunning: whose disk the run works on
}

// CancelAsked tells that somebody wants the run, or the build, to end.
type CancelAsked struct {
	Caller Caller `json:"caller"`
}

// PhaseStarted opens a phase. A phase that was interrupted is opened again.
type PhaseStarted struct {
	Phase   Phase  `json:"phase"`
	Command string `json:"command,omitempty"` // what is run, where it is a command
}

// PhaseOutput is a piece of what a phase's command printed.
type PhaseOutput struct {
	Phase  Phase  `json:"phase"`
	Text   string `json:"text"`
	Stderr bool   `json:"stderr,omitempty"`
	// End is where this piece ends in all that the command printed, in bytes,
	// so that a restarted server goes on from there. 0 where it is no command's.
	End int64 `json:"end,omitempty"`
}

// PhaseEnded closes a phase.
type PhaseEnded struct {
	Phase      Phase  `json:"phase"`
	DurationMs int64  `json:"durationMs"`
	Cached     bool   `json:"cached,omitempty"` // nothing had to be done
	Note       string `json:"note,omitempty"`   // what was found or done, in a line; why not cached
	Error      *Error `json:"error,omitempty"`
}

// MachineData tells what happened to the agent's machine.
type MachineData struct {
	// What is "created", "woken", "found" (by handle after a restart),
	// "stopped", "lost" or "destroyed".
	What   string `json:"what"`
	ID     string `json:"id"`
	Driver string `json:"driver,omitempty"`
	Engine string `json:"engine,omitempty"`
	Image  string `json:"image,omitempty"` // resolved: "host" or a reference with its digest
	// Boot names one life of the machine's processes; it changes at each start.
	Boot string `json:"boot,omitempty"`
	// Unenforced lists, in sentences, the limits that this host cannot hold.
	Unenforced []string `json:"unenforced,omitempty"`
}

// TurnStarted opens one request to the model. A turn with the same number that
// starts again (Attempt 2, …) makes void what was streamed of it before.
type TurnStarted struct {
	Turn    int    `json:"turn"` // counts from 1 within the run
	Attempt int    `json:"attempt"`
	Model   string `json:"model"`
}

// TextData is a piece of a turn's text or thinking, as it streamed.
type TextData struct {
	Turn    int    `json:"turn"`
	Attempt int    `json:"attempt"`
	Text    string `json:"text"`
}

// TurnRetried tells that an attempt broke and another will follow.
type TurnRetried struct {
	Turn    int    `json:"turn"`
	Attempt int    `json:"attempt"`
	Reason  string `json:"reason"`
	WaitMs  int64  `json:"waitMs"`
}

// TurnEnded closes a turn. Message is the model's whole answer in the form of
// package llm, from which the conversation is built again.
type TurnEnded struct {
	Turn    int             `json:"turn"`
	Attempt int             `json:"attempt"`
	Message json.RawMessage `json:"message"`
	Stop    string          `json:"stop"`
	Usage   Usage           `json:"usage"`
}

// ToolCalled tells that a tool call goes to the machine now. Op is the id under
// which the guest knows it: asking again by it never does the work twice.
type ToolCalled struct {
	Turn int             `json:"turn"`
	Call string          `json:"call"` // the model's own id for it
	Op   string          `json:"op"`
	Name string          `json:"name"`
	Args json.RawMessage `json:"args"`
	Boot string          `json:"boot,omitempty"` // the machine's life that it goes to
}

// ToolEnded gives a tool call's result.
type ToolEnded struct {
	Turn       int    `json:"turn"`
	Call       string `json:"call"`
	Op         string `json:"op"`
	Name       string `json:"name"`
	Output     string `json:"output"` // what the model is told
	IsError    bool   `json:"isError,omitempty"`
	DurationMs int64  `json:"durationMs"`
	// Result is the structured form for screens (command, exit code, path, diff…).
	Result json.RawMessage `json:"result,omitempty"`
	// Images are what the tool showed the model.
	Images []Image `json:"images,omitempty"`
}

// PlanItem is one line of an agent's plan.
type PlanItem struct {
	Text   string `json:"text"`
	Status string `json:"status"` // "pending", "in_progress", "done"
}

// PlanData is an agent's whole plan as it stands now.
type PlanData struct {
	Items []PlanItem `json:"items"`
}

// Compacted tells that the conversation before this event is replaced, for the
// model, by Summary. Events stay; only the fold into a conversation changes.
type Compacted struct {
	Turn         int    `json:"turn"`
	Summary      string `json:"summary"`
	TokensBefore int64  `json:"tokensBefore"`
	Usage        Usage  `json:"usage"`
}

// Connection is one connection out of a machine, told when it has ended. Many
// to one destination that end at about the same time are told as one.
type Connection struct {
	Count    int       `json:"count,omitempty"` // how many are told as one; 0 is one
	Name     string    `json:"name,omitempty"`  // what the client asked for (SNI, Host, DNS); "" if it named nothing
	Address  string    `json:"address"`         // IP address that was connected to, or asked for when refused
	Port     int       `json:"port"`
	Protocol string    `json:"protocol"` // "tcp" or "udp"
	Sent     int64     `json:"sent"`     // bytes out of the machine
	Received int64     `json:"received"` // bytes into the machine
	Started  time.Time `json:"started"`
	Ms       int64     `json:"ms"`
	Refused  string    `json:"refused,omitempty"` // the rule that refused it, as a sentence
	Error    string    `json:"error,omitempty"`   // why connecting failed
}

// CommitData tells a commit that settling made.
type CommitData struct {
	Commit string `json:"commit"`
	Title  string `json:"title"`
	Files  int    `json:"files"`
}

// PushData tells what the broker did with a push.
type PushData struct {
	Repository string `json:"repository"`
	Ref        string `json:"ref"`
	Old        string `json:"old,omitempty"`
	New        string `json:"new,omitempty"`
	Refused    string `json:"refused,omitempty"` // as git told the agent
	Code       string `json:"code,omitempty"`    // of the refusal: SecretInPush; "" for others
	Others     int    `json:"others,omitempty"`  // refs of the same push, which were refused with it
}

// SecretInPush is the code of a push that was refused because it contains the
// value of a secret, and of the error of a run that ends with one.
const SecretInPush = "secret_in_push"

// Notice is a sentence for people that belongs to no other event.
type Notice struct {
	Level string `json:"level"` // "info", "warning"
	Text  string `json:"text"`
}

// EnvironmentUsed tells what a run's machine was made from. It is told once it
// is settled, and again where an install of the run's own became a build.
type EnvironmentUsed struct {
	Environment EnvironmentID `json:"environment,omitempty"` // "" where there is none
	Version     VersionID     `json:"version,omitempty"`
	Name        string        `json:"name,omitempty"`
	// Why says in a line how the environment was found.
	Why     string        `json:"why,omitempty"`
	Build   BuildID       `json:"build,omitempty"` // "" before there is one
	Commits []BuildCommit `json:"commits,omitempty"`
}

// BuildQueuedData opens a build. It is the first event of a build's journal;
// where a build comes about within a run it stands in the agent's.
type BuildQueuedData struct {
	Build Build `json:"build"`
}

// BuildStatusData tells a build's new status.
type BuildStatusData struct {
	Build      BuildID       `json:"build"`
	Status     BuildStatus   `json:"status"`
	Failure    *BuildFailure `json:"failure,omitempty"`
	Commits    []BuildCommit `json:"commits,omitempty"`
	Snapshot   string        `json:"snapshot,omitempty"`
	Active     bool          `json:"active,omitempty"` // agents start on it from now on
	Note       string        `json:"note,omitempty"`   // why it was skipped, for people
	DurationMs int64         `json:"durationMs,omitempty"`
}

// SecretsUsed tells which secrets the agent's machine was given, without their
// values.
type SecretsUsed struct {
	Secrets []SecretUse `json:"secrets"`
}

// Fact is an event before the journal has numbered it. Data is one of the
// structs of this file, or of those in takeover.go.
type Fact struct {
	Kind EventKind
	Data any
}

// SetupChanged tells that a setup stands otherwise than before.
type SetupChanged struct {
	Status SetupStatus `json:"status"`
	Error  *Error      `json:"error,omitempty"` // why what was tried did not succeed
	// What says what was done, in a line for people: "the draft was edited".
	What string `json:"what,omitempty"`
	// Machine is the agent in whose machine it goes on; "" where there is none.
	Machine AgentID `json:"machine,omitempty"`
}
