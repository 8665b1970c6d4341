package errand

import (
	"regexp"
	"slices"
	"time"

	"github.com/google/uuid"
)

// SetupID names a setup: "set-" and a UUID in lower case.
type SetupID string

// NewSetupID returns a fresh setup id.
func NewSetupID() SetupID { return SetupID("set-" + uuid.NewString()) }

var setupPattern = regexp.MustCompile(`^set-` + uuidPattern + `$`)

// ParseSetupID reads a setup id as a client sent it. Letters may come in either
// case. Anything else is an Invalid error that shows the right form.
func ParseSetupID(s string) (SetupID, error) {
	return parseID[SetupID](s, setupPattern, "a setup's id", "set-00000000-0000-0000-0000-000000000001")
}

// Proposal is what a look at a repository came to.
type Proposal struct {
	Path      string     `json:"path"`   // where the environment file goes, from the repository's root
	Text      string     `json:"text"`   // the environment file
	Verify    string     `json:"verify"` // shows that the environment works; "" where nothing was found
	Reasons   []Reason   `json:"reasons"`
	Questions []Question `json:"questions,omitempty"`
	Notes     []string   `json:"notes,omitempty"` // what people should know, in sentences
	Found     bool       `json:"found,omitempty"` // Text is the repository's own file
}

// Reason says why a Proposal has one of its things.
type Reason struct {
	Key      string `json:"key"`                // of the environment file, or "verify"
	Value    string `json:"value"`              // what is proposed
	Text     string `json:"text"`               // why, without a full stop
	File     string `json:"file,omitempty"`     // what it follows from
	Line     int    `json:"line,omitempty"`     // from 1; 0 is the file as a whole
	Question string `json:"question,omitempty"` // the ID of the question that decides it
}

// Question is what a repository does not say. Its answer changes the Proposal.
type Question struct {
	ID      string   `json:"id"`
	Text    string   `json:"text"`
	Choices []string `json:"choices"`
	Default string   `json:"default"` // one of Choices
	Answer  string   `json:"answer"`  // what holds: the answer given, or Default
}

// SetupMode says who makes the draft of a setup work.
type SetupMode string

const (
	SetupPropose SetupMode = "propose" // nobody: the draft is what the survey proposes and people edit
	SetupPerson  SetupMode = "person"  // a person, in a machine that is opened for them
	SetupAgent   SetupMode = "agent"   // an agent's model, in its machine
)

// SetupStatus is where a setup stands.
type SetupStatus string

const (
	SetupSurveying SetupStatus = "surveying" // the repository is looked at
	SetupProposed  SetupStatus = "proposed"  // there is a draft; people decide what comes next
	SetupOpening   SetupStatus = "opening"   // a machine is made ready for a person
	SetupWorking   SetupStatus = "working"   // a model works on the draft
	SetupProving   SetupStatus = "proving"   // clean machines show whether the draft works
	SetupProved    SetupStatus = "proved"    // it does
	SetupWriting   SetupStatus = "writing"   // the file is being written
	SetupAccepted  SetupStatus = "accepted"  // it is written
)

// setupFollows says which statuses of setups may come after which. What is under
// way and fails leads back to where it began, with Setup.Error.
var setupFollows = map[SetupStatus][]SetupStatus{
	SetupSurveying: {SetupProposed, SetupOpening, SetupWorking},
	// A draft that is edited back to what was shown is proved again.
	SetupProposed: {SetupSurveying, SetupOpening, SetupWorking, SetupProving, SetupProved, SetupWriting},
	SetupOpening:  {SetupProposed},
	SetupWorking:  {SetupProposed, SetupProving},
	SetupProving:  {SetupProposed, SetupProved, SetupWorking},
	SetupProved:   {SetupSurveying, SetupProposed, SetupOpening, SetupWorking, SetupProving, SetupWriting},
	SetupWriting:  {SetupProposed, SetupProved, SetupAccepted},
	SetupAccepted: nil,
}

// MayBecome says whether next can follow s.
func (s SetupStatus) MayBecome(next SetupStatus) bool {
	return slices.Contains(setupFollows[s], next)
}

// Busy says whether the server works on a setup of this status, rather than
// waiting for people.
func (s SetupStatus) Busy() bool {
	switch s {
	case SetupProposed, SetupProved, SetupAccepted:
		return false
	}
	return true
}

// Setup is the guided way to a working environment for one repository: a
// survey, a draft of the environment file, machines in which the draft is made
// to work and shown to, and the file written where it belongs.
type Setup struct {
	ID         SetupID     `json:"id"`
	Status     SetupStatus `json:"status"`
	Mode       SetupMode   `json:"mode"`
	Caller     Caller      `json:"caller"`
	Repository Repository  `json:"repository"`
	Model      Model       `json:"model,omitzero"`   // in mode agent; zero is the server's default
	Engine     string      `json:"engine,omitempty"` // of its machines; "" is the server's default
	Branch     string      `json:"branch,omitempty"` // for the commit; "" is made from a name
	// Commit is what the survey looked at and the machines check out; "" until
	// the repository was fetched.
	Commit   string            `json:"commit,omitempty"`
	Proposal *Proposal         `json:"proposal,omitempty"` // nil before the survey
	Answers  map[string]string `json:"answers,omitempty"`  // to Proposal.Questions
	// Draft is the environment file as it stands now, and Verify the command that
	// shows that it works; "" is none.
	Draft  string `json:"draft,omitempty"`
	Verify string `json:"verify,omitempty"`
	// Machine is the agent in whose machine people or a model work on the draft;
	// "" before one is opened.
	Machine AgentID `json:"machine,omitempty"`
	Proof   *Proof  `json:"proof,omitempty"` // the latest
	// Tries counts how often a model was sent to work on the draft, and LastTry is
	// the one after which people are asked.
	Tries   int `json:"tries,omitempty"`
	LastTry int `json:"lastTry,omitempty"`
	// Accept is what is to be written, and what came of it.
	Accept *Acceptance `json:"accept,omitempty"`
	// Error says why the last thing that was tried did not succeed.
	Error     *Error    `json:"error,omitempty"`
	CreatedAt time.Time `json:"createdAt"`
	UpdatedAt time.Time `json:"updatedAt"`
}

// Proof is the showing of a draft in clean machines.
type Proof struct {
	Draft  string `json:"draft"` // what is shown
	Verify string `json:"verify,omitempty"`
	// Installing is the agent on whose machine install runs twice, and Agent the
	// one on whose machine the rest is shown; both "" where there is none. The
	// latter stays to be looked into.
	Installing AgentID     `json:"installing,omitempty"`
	Agent      AgentID     `json:"agent,omitempty"`
	Steps      []ProofStep `json:"steps,omitempty"` // those that are done
	// Ports are those that the draft names and those that were listened on without
	// being named.
	Ports     []ProofPort `json:"ports,omitempty"`
	OK        bool        `json:"ok,omitempty"` // all of it succeeded
	StartedAt time.Time   `json:"startedAt"`
	EndedAt   time.Time   `json:"endedAt,omitzero"` // zero: it is under way
}

// ProofStep is one thing that a proof showed.
type ProofStep struct {
	Phase      Phase  `json:"phase"`
	Command    string `json:"command,omitempty"`
	ExitCode   *int   `json:"exitCode,omitempty"` // nil where no command ended
	DurationMs int64  `json:"durationMs"`
	Cached     bool   `json:"cached,omitempty"` // an earlier machine's disk was taken
	Output     string `json:"output,omitempty"` // the end of it, at most 16 KiB
	Note       string `json:"note,omitempty"`   // in a line
	Failed     bool   `json:"failed,omitempty"`
}

// ProofPort is what a proof showed of a port.
type ProofPort struct {
	Port    int    `json:"port"`
	Name    string `json:"name,omitempty"`    // as the draft calls it
	Named   bool   `json:"named,omitempty"`   // the draft has it
	Address string `json:"address,omitempty"` // that is listened on; "" is none
}

// Found are the ports that were listened on without being named in the draft.
func (p *Proof) Found() []int {
	var all []int
	if p != nil {
		for _, port := range p.Ports {
			if !port.Named {
				all = append(all, port.Port)
			}
		}
	}
	return all
}

// The ways to write an environment file.
const (
	AcceptCommit = "commit" // a commit on a branch of its own, pushed
	AcceptPatch  = "patch"  // a patch for git apply
	AcceptStored = "stored" // an environment kept on the server
)

// Acceptance says how a setup's draft is written and, once it is, what was
// written.
type Acceptance struct {
	As string `json:"as"` // AcceptCommit, AcceptPatch or AcceptStored
	// Name and Owner are of the stored environment.
	Name  string `json:"name,omitempty"`
	Owner Owner  `json:"owner,omitempty"`

	// Writer is the agent from whose machine the branch is pushed, while it is.
	Writer AgentID `json:"writer,omitempty"`

	Branch      string        `json:"branch,omitempty"`      // that was pushed
	Commit      string        `json:"commit,omitempty"`      // on Branch
	Patch       string        `json:"patch,omitempty"`       // for git apply
	Environment EnvironmentID `json:"environment,omitempty"` // that was stored
}
