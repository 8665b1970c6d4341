// Package machine is the seam between Errand and whatever makes isolated Linux
// machines: the Driver interface, the Machine it gives, and the small optional
// interfaces for what not every driver can do.
//
// A driver knows how to start a machine with our guest as its first process,
// how to reach that guest, how to find the machine again after our process has
// ended, and how to remove it. Everything else (commands, files, terminals,
// git, tunnels) is written once, over the line, in package guest; so a driver
// stays small. Package machinetest is the contract that every driver passes.
//
// This package makes no machines itself and knows no driver.
package machine

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"net"
	"net/netip"
	"os"
	"time"

	"github.com/errand-dev/errand"
)

// ID names a machine. The server chooses it: lower-case letters, digits and
// dashes, at most 40 bytes, unique in the data directory.
type ID string

// SnapshotKey names a snapshot by what decides it: lower-case hex and dashes,
// at most 80 bytes.
type SnapshotKey string

// Handle is what finds a machine again after our process has ended. It is kept
// in the store as it is.
type Handle struct {
	Driver string          `json:"driver"`         // as in the map in cmd/errand
	ID     ID              `json:"id"`             //
	Data   json.RawMessage `json:"data,omitempty"` // the driver's own
}

// Mount shows a host directory inside the machine, read-only. The host side is
// ours (a git mirror), never a path that a person or a machine named.
type Mount struct {
	Source string `json:"source"` // absolute, on the host
	Target string `json:"target"` // absolute, in the machine
}

// Spec says what machine to make. Create of an id that exists ignores it,
// except that a hibernated machine is woken with its Limits, Env and Mounts.
type Spec struct {
	// Engine is the driver's own choice of isolation ("gvisor", "runc"); "" is
	// the driver's default.
	Engine string
	// Image is "host" or an OCI reference. "" means "host". Ignored with From.
	Image string
	// From starts the machine on a snapshot instead of an image.
	From SnapshotKey
	// Limits that are zero are the driver's defaults.
	Limits errand.Limits
	// Env is added to the image's environment for the guest and all it starts.
	Env []string
	// Hostname is the machine's own name; "" is its id.
	Hostname string
	// Mounts are shown read-only.
	Mounts []Mount
	// Progress, if set, is told in sentences of what takes long (pulling an
	// image). It may be called from any goroutine until Create returns.
	Progress func(string)
}

// DefaultLimits are those of machines and builds where nobody says otherwise: 2
// processors, 4 GiB of memory, 4096 processes, 20 GiB of disk.
func DefaultLimits() errand.Limits {
	return errand.Limits{CPUs: 2, Memory: 4 << 30, PIDs: 4096, Disk: 20 << 30}
}

// Driver makes machines of one kind. Its methods may be called at once from
// many goroutines, also for one id.
type Driver interface {
	// Create makes the machine and returns when its guest answers. It is
	// idempotent on id: a machine that runs is returned as it is, one that is
	// hibernated is started on its own disk, and what an interrupted Create
	// left is finished or begun again. A *SetupError means that the image or
	// the spec is at fault; any other error means that the host is.
	Create(ctx context.Context, id ID, spec Spec) (Machine, error)
	// Open finds a machine by its handle. It returns ErrNotFound when the
	// machine is gone, and a Machine whose Dial fails with ErrStopped when it
	// is hibernated or its processes have ended.
	Open(ctx context.Context, h Handle) (Machine, error)
	// List gives all machines that this driver still holds for us, whatever
	// their state, so that strays can be swept.
	List(ctx context.Context) ([]Handle, error)
}

// Machine is one isolated Linux machine.
type Machine interface {
	// Handle gives what Open takes. It does not block.
	Handle() Handle
	// Dial gives a line to the guest: a byte stream for guest.Open. Each call
	// makes a new one. It returns ErrStopped when the machine does not run.
	// Closing the connection releases all that Dial started.
	Dial(ctx context.Context) (net.Conn, error)
	// Destroy ends the machine's processes and removes its disk. To destroy
	// again is no error.
	Destroy(ctx context.Context) error
}

// Hibernator is a Machine that can end its processes and keep its disk. Create
// with the same id starts it again on it.
type Hibernator interface {
	Hibernate(ctx context.Context) error
}

// Snapshotter is a Machine whose disk can be kept for later machines.
type Snapshotter interface {
	// Snapshot ends the machine's processes, keeps its disk under key and
	// leaves the machine hibernated on top of the snapshot: Create with the
	// same id starts it again. It does no work in proportion to the disk's
	// size. A key that exists already is left as it is, without an error.
	Snapshot(ctx context.Context, key SnapshotKey) error
}

// Changes is a Machine that shows which files were written since its base.
type Changes interface {
	// Changes calls look with each tree of files that were written, and where
	// in the machine it stands ("/", "/usr"). Files of the base are not in it;
	// what was removed may be, as devices. A tree is valid until look returns,
	// and is read only: what it holds is untrusted, but no name in it leads out.
	// Call it while the machine is hibernated, or files may change meanwhile.
	Changes(ctx context.Context, look func(at string, written fs.FS) error) error
}

// Snapshots is a Driver that keeps snapshots.
type Snapshots interface {
	// HasSnapshot says whether Spec.From would find key.
	HasSnapshot(ctx context.Context, key SnapshotKey) (bool, error)
	// ListSnapshots gives all snapshots, oldest first.
	ListSnapshots(ctx context.Context) ([]Snapshot, error)
	// RemoveSnapshot forgets key. Machines and snapshots that stand on it keep
	// what they need. To remove again is no error.
	RemoveSnapshot(ctx context.Context, key SnapshotKey) error
}

// Snapshot is one kept disk.
type Snapshot struct {
	Key     SnapshotKey `json:"key"`
	Created time.Time   `json:"created"`
	Image   string      `json:"image"`  // what lies below: "host" or a reference with its digest
	Layers  []Layer     `json:"layers"` // what it is made of, lowest first
}

// Builder is a Driver that makes images from Dockerfiles.
type Builder interface {
	// BuiltImage gives the name of the image that BuildImage kept under key last,
	// and "" where there is none any more. It builds nothing.
	BuiltImage(ctx context.Context, key string) (string, error)
	// BuildImage carries out a Dockerfile and gives the name by which Spec.Image
	// takes the result on this driver. Steps whose outcome is cached are not run
	// again. It blocks until the image is kept; when ctx ends, the steps that run
	// are stopped. An *errand.Error of another kind than Internal and Unavailable
	// means that the Dockerfile, its context or a base image is at fault, and
	// names the line; any other error means that the host is.
	BuildImage(ctx context.Context, b ImageBuild) (string, error)
}

// ImageBuild is one carrying out of a Dockerfile.
type ImageBuild struct {
	// Key names what decides the outcome: lower-case hex and dashes, at most 80
	// bytes. The image is kept under it.
	Key  string
	File []byte // the Dockerfile
	Name string // how people know it, for messages: ".cursor/Dockerfile"
	// Context fills the build's context, a directory of the builder's; nil leaves
	// it empty. It is called at most once. What it writes is untrusted.
	Context func(context.Context, *os.Root) error
	Args    map[string]string // of ARG
	Target  string            // a stage; "" is the last
	Secrets map[string][]byte // for RUN --mount=type=secret, by id; in no layer
	// CacheOf is whose RUN --mount=type=cache the build has, such as its
	// repository: what others left there it neither sees nor changes.
	CacheOf string
	// Search is given all that the build adds to its base, before the image is
	// kept, and says of each whether the image must not be kept for it; what an
	// earlier image has is not given again. It is called from one goroutine at a
	// time, goes on to the end when something was found, and ends at an error.
	// BuildImage then is an Invalid error, also for later builds with a layer in
	// which something was found. Nil: nobody looks.
	Search func(Added) (found bool, err error)
	// Limits bound what all commands of the build take together; those that are
	// zero are the builder's defaults. What they may write is the builder's alone.
	Limits errand.Limits
	// Step is told of each step as it begins, prints and ends; nil: nobody. It
	// is called from one goroutine at a time.
	Step func(ImageStep)
	// Attach ends the build's network in the caller, who closes what it gave
	// when the build is over. Nil: the build has no network.
	Attach func(context.Context, *Link) (io.Closer, error)
}

// Added is a file that a build adds to its base, or a setting of the image. It
// comes from the commands of the Dockerfile and is untrusted.
type Added struct {
	Step    string    // the command that made it; "" where that is not known
	Path    string    // of a file, a folder or a link, absolute in the image
	Setting string    // with Path "": "ENV NAME", "LABEL name", the image's history
	Content io.Reader // valid until Search returns
}

// ImageStep is what a build tells of one of its steps. A step is told several
// times: when it begins, for each piece of output, and when it has ended.
type ImageStep struct {
	ID     string        // the same each time, within one build
	Name   string        // as people read it: "[2/4] RUN npm ci"
	Line   int           // of the Dockerfile, from 1; 0 for what has none
	Output []byte        // printed since it was told last
	Ended  bool          //
	Cached bool          // with Ended: it did not run
	Took   time.Duration // with Ended
	Err    string        // with Ended: why it failed
}

// Told gives the event that tells what happened to a machine, as in
// errand.MachineData.What, in the life that boot names.
func Told(what string, m Machine, boot string) errand.Fact {
	d := errand.MachineData{What: what, ID: string(m.Handle().ID), Driver: m.Handle().Driver, Boot: boot}
	if reporter, ok := m.(Reporter); ok {
		report := reporter.Report()
		d.Engine, d.Image, d.Unenforced = report.Engine, report.Image, report.Unenforced
	}
	return errand.Fact{Kind: errand.EventMachine, Data: d}
}

// Reporter is a Machine that can say what it is.
type Reporter interface {
	Report() Report
}

// Report says what a machine is and which promises its host cannot keep.
type Report struct {
	Engine string        `json:"engine"`
	Image  string        `json:"image"`          // resolved: "host" or a reference with its digest
	User   string        `json:"user,omitempty"` // whom the image is for, as it says; "" is root
	Limits errand.Limits `json:"limits"`
	From   SnapshotKey   `json:"from,omitempty"` // the snapshot that it stands on; "" for an image alone
	// Unenforced lists, in sentences, the limits and the isolation that this
	// host cannot hold. Empty means that all hold.
	Unenforced []string `json:"unenforced,omitempty"`
}

// Networked is a Machine whose network ends in our process.
type Networked interface {
	// Link opens the machine's layer-2 link. At most one holder at a time; the
	// caller closes it. After a restart of ours it can be opened again and new
	// connections from inside work.
	Link(ctx context.Context) (*Link, error)
}

// Link carries a machine's Ethernet frames. Reading File gives what the machine
// sends, writing to it is what the machine receives.
type Link struct {
	File    *os.File     // a TAP; one frame a read; non-blocking
	VNetHdr bool         // each frame is preceded by a virtio-net header (12 bytes)
	MTU     int          // bytes
	Machine netip.Prefix // the machine's own address
	Gateway netip.Addr   // its route out and its DNS server: ours
	MAC     net.HardwareAddr
}

// Inspector is a Driver that can look at its host.
type Inspector interface {
	// Inspect says what works here and what does not. It changes nothing.
	Inspect(ctx context.Context) []Finding
}

// Finding is one line of `errand doctor`.
type Finding struct {
	Name   string `json:"name"`   // what was looked at: "cgroups", "gvisor"
	OK     bool   `json:"ok"`     // false: it is missing or limited
	Needed bool   `json:"needed"` // without it nothing runs
	Detail string `json:"detail"` // what was found, and what to do about it
}

var (
	// ErrNotFound: the driver holds no such machine.
	ErrNotFound = errors.New("machine not found")
	// ErrStopped: the machine is there and does not run.
	ErrStopped = errors.New("machine is stopped")
)

// SetupError says that the image or the spec is at fault rather than the host:
// trying again elsewhere changes nothing, and a person should see Output.
type SetupError struct {
	Doing  string // in the gerund: "pulling ubuntu:24.04"
	Output string // what the failing part printed
	Err    error
}

func (e *SetupError) Error() string { return fmt.Sprintf("%s: %v", e.Doing, e.Err) }

// Unwrap gives the cause.
func (e *SetupError) Unwrap() error { return e.Err }
