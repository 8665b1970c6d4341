package errand

import (
	"cmp"
	"time"
)

// Takeover is one person's hold on an agent. While it lasts the agent begins
// nothing new; when it ends, the model is told what the person did.
type Takeover struct {
	Number int       `json:"number"` // counts the agent's take-overs from 1
	By     Caller    `json:"by"`     // who has it now
	Since  time.Time `json:"since"`
	// Until is when it ends by itself.
	Until    time.Time `json:"until"`
	Reminded int       `json:"reminded,omitempty"` // reminders of its end so far, counted anew with Until
	// From is how the machine stood when it began; nil until that is recorded.
	From *Mark `json:"from,omitempty"`
	// Ending is set once its end is decided: what the person did is then being
	// read. nil before.
	Ending *Ending `json:"ending,omitempty"`
}

// Ending is how a take-over comes to its end.
type Ending struct {
	Caller Caller `json:"caller,omitzero"` // who ends it; zero where it ends by its rule
	Why    string `json:"why"`             // one of the Ending constants
	Note   string `json:"note,omitempty"`  // for the agent, in the person's words
}

// Why take-overs end.
const (
	EndingHandback = "handback"  // somebody handed the agent back
	EndingLimit    = "limit"     // its time was over
	EndingCancel   = "cancelled" // the run that it paused was cancelled
	EndingArchive  = "archived"  // the agent was archived
)

// Mark is how a machine stood at one moment: what a later one is compared with.
// All of it was said by the machine.
type Mark struct {
	Tree   string `json:"tree,omitempty"`   // git's tree of all files, uncommitted ones too; "" where there is none
	Head   string `json:"head,omitempty"`   // the commit; "" before the first
	Branch string `json:"branch,omitempty"` // that is checked out; "" for none
	// Typed is how much each file of typed commands held, in bytes.
	Typed map[string]int64 `json:"typed,omitempty"`
	// Rows is the line in each shell's terminal at which its cursor stood.
	Rows map[string]int `json:"rows,omitempty"`
	// Problem says, in a sentence, why the files could not be recorded.
	Problem string `json:"problem,omitempty"`
}

// TakeoverStarted tells that a person has taken an agent over: for the first
// time, from somebody else, or for longer.
type TakeoverStarted struct {
	Number int       `json:"number"`
	Caller Caller    `json:"caller"`
	Until  time.Time `json:"until"`
	// From is who had it before and lost it; nil for nobody.
	From *Caller `json:"from,omitempty"`
	// Longer says that the same person has it already, and now until Until.
	Longer bool `json:"longer,omitempty"`
}

// TakeoverReady tells that what the machine holds was recorded: what is changed
// from then on is known to be the person's.
type TakeoverReady struct {
	Number int  `json:"number"`
	Mark   Mark `json:"mark"`
}

// TakeoverReminded tells that a take-over's end was called to mind.
type TakeoverReminded struct {
	Number int       `json:"number"`
	Caller Caller    `json:"caller"` // whose it is
	Until  time.Time `json:"until"`
	LeftMs int64     `json:"leftMs"` // until then
}

// TakeoverCommand tells a command that a person ran in the machine during a
// take-over, outside of its shared terminals.
type TakeoverCommand struct {
	Number  int    `json:"number"`
	Caller  Caller `json:"caller"`
	Command string `json:"command"`
}

// TakeoverEnding tells that the end of a take-over is decided.
type TakeoverEnding struct {
	Number int `json:"number"`
	Ending
}

// TakeoverEnded closes a take-over.
type TakeoverEnded struct {
	Number  int       `json:"number"`
	Holder  Caller    `json:"holder"` // who had it last
	Since   time.Time `json:"since"`
	Ending  Ending    `json:"ending"`
	Changed Changes   `json:"changed"`
	// Summary is all of this as the model is told it.
	Summary string `json:"summary"`
}

// Changes are what became of a machine between two marks.
type Changes struct {
	Head     string        `json:"head,omitempty"`
	Branch   string        `json:"branch,omitempty"`
	Files    []ChangedFile `json:"files,omitempty"`
	MoreFile int           `json:"moreFiles,omitempty"` // files that are not in Files
	Commits  []TakenCommit `json:"commits,omitempty"`   // newest first
	// Rewritten says that the commit which the first mark had is not among those
	// that the last one's stands on.
	Rewritten bool   `json:"rewritten,omitempty"`
	Patch     string `json:"patch,omitempty"`    // its beginning, where PatchCut says so
	PatchCut  bool   `json:"patchCut,omitempty"` // there is more
	// Whole is the command that prints the whole patch in the machine.
	Whole    string         `json:"whole,omitempty"`
	Commands []TakenCommand `json:"commands,omitempty"` // in order, as far as it is known
	Screens  []TakenScreen  `json:"screens,omitempty"`  // of terminals whose shells keep no history
	// Problem says, in a sentence, what could not be found out.
	Problem string `json:"problem,omitempty"`
}

// ChangedFile is one file that differs.
type ChangedFile struct {
	Path    string `json:"path"`
	OldPath string `json:"oldPath,omitempty"`
	Status  string `json:"status"` // as git.FileStat has it
	Added   int    `json:"added"`
	Deleted int    `json:"deleted"`
	Binary  bool   `json:"binary,omitempty"`
}

// TakenCommit is a commit that was made meanwhile.
type TakenCommit struct {
	ID     string `json:"id"`
	Author string `json:"author"`
	Title  string `json:"title"`
}

// TakenCommand is a command that a person ran.
type TakenCommand struct {
	// Where is the terminal that it was typed into; "" for a command of its own.
	Where string `json:"where,omitempty"`
	// Who ran it; "" where that is not known, since terminals are shared.
	Who  string `json:"who,omitempty"`
	Text string `json:"text"`
}

// TakenScreen is what a terminal showed.
type TakenScreen struct {
	Terminal string `json:"terminal"`
	Text     string `json:"text"` // its end
}

// Called is how people read of a caller.
func (c Caller) Called() string { return cmp.Or(c.Name, c.Key) }
