package environment

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"strings"

	"github.com/google/uuid"

	"github.com/errand-dev/errand/guest"
	"github.com/errand-dev/errand/machine"
)

// stage is how far a disk is.
type stage string

const (
	stageNew       stage = ""          // fresh from an image
	stageInstalled stage = "installed" // install has ended well; this is what a snapshot holds
	stageReady     stage = "ready"     // an agent works on it
)

// state is what Prepare writes on a machine's disk. A machine can forge it, so
// it decides only what is done in that machine: what is told of it elsewhere,
// the key of its disk above all, comes from other sources.
type state struct {
	Stage stage               `json:"stage"`
	Key   machine.SnapshotKey `json:"key,omitempty"`  // of the disk that install left
	Boot  string              `json:"boot,omitempty"` // the life in which start and terminals have run
	// Machine is whose disk it is once it is ready: a kept disk may have been
	// another's.
	Machine machine.ID `json:"machine,omitempty"`
	// Notes are what start and terminals left to say in that life.
	Notes []string `json:"notes,omitempty"`
	// DiskNotes are what there is to say of the disk, in all its lives.
	DiskNotes []string `json:"diskNotes,omitempty"`
}

const (
	stateFile = "var/lib/errand/environment.json"
	maxState  = 64 << 10 // bytes
)

// readState gives the state of the machine's disk. One that cannot be read is
// that of a fresh disk.
func readState(ctx context.Context, line *guest.Line) (state, error) {
	data, _, err := line.ReadFile(ctx, "/", stateFile, 0, maxState)
	if errors.Is(err, fs.ErrNotExist) {
		return state{}, nil
	}
	if err != nil {
		return state{}, fmt.Errorf("reading how far the machine is: %w", err)
	}
	var s state
	if json.Unmarshal(data, &s) != nil || s.Stage != stageInstalled && s.Stage != stageReady {
		return state{}, nil
	}
	return s, nil
}

// write puts the state on the machine's disk.
func (s state) write(ctx context.Context, line *guest.Line) error {
	data, err := json.Marshal(s)
	if err != nil {
		return err
	}
	op := newID("state")
	if _, err := line.WriteFile(ctx, op, "/", stateFile, data, 0o600); err != nil {
		return fmt.Errorf("noting how far the machine is: %w", err)
	}
	return line.Forget(ctx, op)
}

// newID makes an id under which the guest knows something that Prepare does.
// purpose is how it is found again.
func newID(purpose string) string { return idPrefix(purpose) + uuid.NewString() }

func idPrefix(purpose string) string { return "environment." + purpose + "." }

// Hangs says whether a command of that id in a machine, which has not ended, is
// one that Prepare waits for to its end: install, or a part of the checkout. It
// may be killed when nobody prepares; the next Prepare runs it anew.
func Hangs(id string) bool {
	return strings.HasPrefix(id, idPrefix("install")) || strings.HasPrefix(id, idPrefix(checkoutPurpose))
}
