package wire

import (
	"fmt"
	"io/fs"
	"time"
)

// Hello is how a guest presents itself.
type Hello struct {
	Version int `json:"version"` // of the protocol
	// Boot is random for each start of the guest: it names one life of the
	// machine's processes.
	Boot string `json:"boot"`
	// Program is the guest's own file and Tmux the socket of the machine's
	// terminals, both paths in the machine.
	Program string    `json:"program"`
	Tmux    string    `json:"tmux"`
	PID     int       `json:"pid"` // the guest's own: 1 in a machine
	Started time.Time `json:"started"`
}

// Artifacts is the folder in a machine for what an agent leaves for people, which
// all users there may write to.
const Artifacts = "/opt/cursor/artifacts"

// Whole is the last byte of an upload, after the content: what does not end with
// it was cut off.
const Whole = '.'

// Tag names a file's content by what the system says of it: another tag may mean
// another content.
func Tag(size int64, changed time.Time) string { return fmt.Sprintf("%x-%x", changed.UnixNano(), size) }

// Size is a terminal's, in characters.
type Size struct {
	Cols uint16 `json:"cols"`
	Rows uint16 `json:"rows"`
}

// Command is a program to run in the machine.
type Command struct {
	// ID is chosen by the caller, at most 128 bytes. The guest starts one
	// process for an id, ever: the same id again joins that process, and after
	// Forget it is refused.
	ID   string   `json:"id"`
	Args []string `json:"args"`          // argv; Args[0] is looked up in PATH
	Dir  string   `json:"dir,omitempty"` // absolute; "" is /
	// Env is added to the machine's environment. HOME, USER, LOGNAME, SHELL and
	// PATH are set for User where Env does not name them.
	Env  []string `json:"env,omitempty"`
	User string   `json:"user,omitempty"` // a name, or uid[:gid]; "" is root
	// TTY, if set, runs the command on a pty of that size, stderr together with
	// stdout, TERM set to xterm-256color where Env does not name it.
	TTY *Size `json:"tty,omitempty"`
	// Stdin keeps stdin open for Write until CloseStdin. Otherwise it is empty,
	// or the pty, to which Write always works.
	Stdin bool `json:"stdin,omitempty"`
	// Limit is how long the command may take: then its process group gets
	// SIGTERM, and SIGKILL 5 seconds later. Zero is no limit.
	Limit time.Duration `json:"limit,omitempty"`
	// Keep is how many bytes of output the guest keeps; zero is 8 MiB. Its own
	// bookkeeping counts too, so that output in very small pieces takes more.
	// When it is full the middle is dropped, so that the first and the last
	// half stay; the process never waits.
	Keep int64 `json:"keep,omitempty"`
	// Hold, if set, drops nothing: output is let go when it has been handed
	// out, and when Keep (then 256 KiB at least) is full the process waits, as
	// at a full pipe. Somebody must be joined for it to go on. What was handed
	// out may not be there for another Rejoin.
	Hold bool `json:"hold,omitempty"`
	// From skips output before this offset: for a caller that has it already.
	From int64 `json:"from,omitempty"`
}

// Exit is how a command ended.
type Exit struct {
	Code     int    `json:"code"`               // 128 + the signal's number where a signal ended it
	Signal   string `json:"signal,omitempty"`   // "KILL", "TERM", …; "" where none did
	TimedOut bool   `json:"timedOut,omitempty"` // Limit was reached
	// Unknown: the process is gone and the guest could not learn how. Code is -1.
	Unknown bool      `json:"unknown,omitempty"`
	Started time.Time `json:"started"`
	Ended   time.Time `json:"ended"`
	// End is how many bytes the command had written when it exited.
	End int64 `json:"end"`
	// Dropped is how many of these, after From, the caller was not given
	// because the guest had not kept them. The server counts them.
	Dropped int64 `json:"-"`
}

// Process is one command that the guest knows.
type Process struct {
	ID      string    `json:"id"`
	PID     int       `json:"pid"`
	Args    []string  `json:"args"`
	Started time.Time `json:"started"`
	Exit    *Exit     `json:"exit,omitempty"` // nil while it runs
	Kept    int64     `json:"kept"`           // bytes of output kept
	End     int64     `json:"end"`            // bytes of output written so far
}

// Stat describes a file.
type Stat struct {
	Path    string      `json:"path"` // relative to the root, with slashes
	Size    int64       `json:"size"` // bytes
	Mode    fs.FileMode `json:"mode"`
	ModTime time.Time   `json:"modTime"`
	UID     int         `json:"uid"`
	GID     int         `json:"gid"`
	Link    string      `json:"link,omitempty"` // where a symbolic link points
}

// ListOptions bound and choose what List gives.
type ListOptions struct {
	// Depth is how many levels; 0 is 1, the directory's own entries. Negative
	// is all.
	Depth int `json:"depth,omitempty"`
	Limit int `json:"limit,omitempty"` // entries; 0 is 1000, at most 20000
	// Glob chooses files by path relative to the listed directory: * ? [a-z]
	// within a name, ** across directories, {a,b}. A pattern without a slash is
	// for the file's name alone. With it Depth is all unless set, and
	// directories are not listed.
	Glob string `json:"glob,omitempty"`
	// Ignored also lists what git ignores. The directory .git is never listed.
	Ignored bool `json:"ignored,omitempty"`
}

// Listing is a directory's entries, sorted by path.
type Listing struct {
	Entries   []Stat `json:"entries"`
	Truncated bool   `json:"truncated,omitempty"` // there are more than Limit
}

// SearchOptions say what to look for and where.
type SearchOptions struct {
	Pattern string `json:"pattern"`        // a regular expression (RE2), matched line by line
	Path    string `json:"path,omitempty"` // file or directory below root; "" is all
	Glob    string `json:"glob,omitempty"` // which files, as in ListOptions
	// Context is how many lines before and after each match; at most 20.
	Context int  `json:"context,omitempty"`
	Limit   int  `json:"limit,omitempty"`   // matches; 0 is 200, at most 2000
	Ignored bool `json:"ignored,omitempty"` // also what git ignores; never .git
}

// Match is one line that matched. Lines are cut at 1000 bytes.
type Match struct {
	Path   string   `json:"path"` // relative to the root
	Line   int      `json:"line"` // from 1
	Text   string   `json:"text"`
	Before []string `json:"before,omitempty"`
	After  []string `json:"after,omitempty"`
}

// SearchResult is what a search found, by path and line.
type SearchResult struct {
	Matches []Match `json:"matches"`
	Files   int     `json:"files"` // looked into; binary and very large ones are not
	// Truncated: a bound (matches, bytes, 10 seconds) ended the search early.
	Truncated bool `json:"truncated,omitempty"`
}

// ChangeKind says what a FileChange does.
type ChangeKind string

const (
	ChangeWrite  ChangeKind = "write"  // Path becomes Data; parents are made
	ChangeCreate ChangeKind = "create" // likewise, and Path must not be there yet
	ChangeEdit   ChangeKind = "edit"   // Edits are done to Path, one after the other
	ChangeDelete ChangeKind = "delete" // Path is removed; it must be a file
	ChangeMove   ChangeKind = "move"   // Edits, if any, then Path becomes To, which must not be there
)

// FileChange is one change of one file.
type FileChange struct {
	Path  string      `json:"path"` // relative to the root
	Kind  ChangeKind  `json:"kind"`
	Data  []byte      `json:"data,omitempty"`
	Mode  fs.FileMode `json:"mode,omitempty"` // of a new file; 0 is 0644
	Edits []Edit      `json:"edits,omitempty"`
	To    string      `json:"to,omitempty"`
}

// Edit replaces Old by New. Old must be there exactly once, or, with All, at
// least once.
type Edit struct {
	Old string `json:"old"`
	New string `json:"new"`
	All bool   `json:"all,omitempty"`
}

// ChangeResult tells what a set of changes did, a FileResult for each.
type ChangeResult struct {
	Files []FileResult `json:"files"`
}

// FileResult tells what became of one file.
type FileResult struct {
	Path    string      `json:"path"`              // where it is now, or was
	From    string      `json:"from,omitempty"`    // where it was, after a move
	Existed bool        `json:"existed,omitempty"` // before
	Exists  bool        `json:"exists,omitempty"`  // now
	Mode    fs.FileMode `json:"mode,omitempty"`    // now, or before it was removed
	Matches int         `json:"matches,omitempty"` // places that edits replaced
	// Before and After are the contents, for a diff. Where one of them is over
	// 256 KiB, or all files of the change together over 4 MiB, neither is given
	// and Truncated is set.
	Before    []byte `json:"before,omitempty"`
	After     []byte `json:"after,omitempty"`
	Truncated bool   `json:"truncated,omitempty"`
}
