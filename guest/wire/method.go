package wire

import (
	"io/fs"
)

// Version is the protocol's. Both ends say it when they meet, and a server
// refuses a guest of another one.
const Version = 1

// Method names a request.
type Method string

// What the server asks of the guest.
const (
	MethodHello    Method = "hello"    // Greeting → Hello
	MethodRun      Method = "run"      // Command → chunks, Exit; acks go the other way
	MethodStart    Method = "start"    // Command → Empty
	MethodJoin     Method = "join"     // Join → chunks, Exit; acks go the other way
	MethodKnown    Method = "known"    // Name → Known
	MethodInput    Method = "input"    // Input, body → Empty
	MethodFeed     Method = "feed"     // Input, then bodies → acks, until the stream is closed
	MethodSignal   Method = "signal"   // Signal → Empty
	MethodResize   Method = "resize"   // Resize → Empty
	MethodForget   Method = "forget"   // Names → Empty
	MethodProcs    Method = "procs"    // Empty → Processes
	MethodRead     Method = "read"     // Read → Stat, body
	MethodStat     Method = "stat"     // Path → Stat
	MethodList     Method = "list"     // List → Listing
	MethodSearch   Method = "search"   // Search → SearchResult
	MethodWrite    Method = "write"    // Write, body → Stat
	MethodChange   Method = "change"   // Change → ChangeResult
	MethodDial     Method = "dial"     // Address → Empty, then a tunnel
	MethodListen   Method = "listen"   // Listen → Empty
	MethodUnlisten Method = "unlisten" // Address → Empty
	MethodOwners   Method = "owners"   // Sockets → Owners
)

// MethodTunnel is what the guest asks of the server: Offer → Empty, then a
// tunnel.
const MethodTunnel Method = "tunnel"

// Empty stands where nothing needs saying.
type Empty struct{}

// Fault is why a request did not work.
type Fault struct {
	Code    string `json:"code"`    // one of the Code constants
	Message string `json:"message"` // a sentence or an operating system's words
}

// Error gives the message.
func (f *Fault) Error() string { return f.Message }

// Codes of faults, for the asking side to act on.
const (
	CodeNotExist   = "not_exist"   // no such file
	CodeExist      = "exist"       // the file is there already
	CodePermission = "permission"  // the operating system refused
	CodeInvalid    = "invalid"     // the request is wrong
	CodeOutside    = "outside"     // the path leaves its root
	CodeTooLarge   = "too_large"   // a bound was passed
	CodeMismatch   = "mismatch"    // an edit did not match as it must
	CodeUnknown    = "unknown"     // no such command
	CodeForgotten  = "forgotten"   // the id was used and forgotten
	CodeNotStarted = "not_started" // the program could not be started
	CodeEnded      = "ended"       // the command has exited
	CodeRefused    = "refused"     // nothing answers at an address
	CodeFailed     = "failed"      // anything else
)

// Greeting opens each connection.
type Greeting struct {
	Version  int      `json:"version"`
	Services []string `json:"services,omitempty"` // tunnels that this server takes
}

// Join asks for a command's output from an offset on, and for its exit.
type Join struct {
	ID   string `json:"id"`
	From int64  `json:"from,omitempty"`
}

// Name carries one id.
type Name struct {
	ID string `json:"id"`
}

// Names carries several.
type Names struct {
	IDs []string `json:"ids"`
}

// Known says whether there is a command with an id.
type Known struct {
	Known bool `json:"known"`
}

// Input is a piece of stdin; its bytes are the body. With Close it is the last.
type Input struct {
	ID     string `json:"id"`
	Offset int64  `json:"offset"`
	Close  bool   `json:"close,omitempty"`
}

// Signal is for a command's process group.
type Signal struct {
	ID     string `json:"id"`
	Signal string `json:"signal"` // "TERM", "KILL", …
}

// Resize sets the size of a command's pty.
type Resize struct {
	ID   string `json:"id"`
	Size Size   `json:"size"`
}

// Processes are all that the guest knows, oldest first.
type Processes struct {
	Processes []Process `json:"processes"`
}

// Path names a file: Root is an absolute directory, Path relative to it.
type Path struct {
	Root string `json:"root"`
	Path string `json:"path"`
}

// Read asks for a part of a file.
type Read struct {
	Path
	Offset int64 `json:"offset,omitempty"`
	Limit  int64 `json:"limit,omitempty"`
}

// List asks for a directory's entries.
type List struct {
	Path
	ListOptions
}

// Search asks for lines that match.
type Search struct {
	Root string `json:"root"`
	SearchOptions
}

// Write writes a whole file; its content is the body.
type Write struct {
	Op string `json:"op"`
	Path
	Mode fs.FileMode `json:"mode,omitempty"`
}

// Change is a set of file changes that happen together or not at all.
type Change struct {
	Op      string       `json:"op"`
	Root    string       `json:"root"`
	Changes []FileChange `json:"changes"`
}

// Address is a place to connect to or listen at: "host:port" or "unix:/path".
type Address struct {
	Address string `json:"address"`
}

// Listen asks for a listener whose connections go to a service.
type Listen struct {
	Service string `json:"service"`
	Address string `json:"address"`
}

// Sockets are some by their inodes.
type Sockets struct {
	Inodes []uint64 `json:"inodes"`
}

// Owner is a process that holds a socket.
type Owner struct {
	Inode uint64 `json:"inode"`
	PID   int    `json:"pid"`
	// Command is its command line, clipped, its arguments separated by spaces.
	Command string `json:"command"`
}

// Owners are one process of each socket that has any: the oldest.
type Owners struct {
	Owners []Owner `json:"owners"`
}

// Offer hands the server a connection for a service.
type Offer struct {
	Service string `json:"service"`
}
