// Package editor opens an editor for browsers in an agent's machine: code-server
// or openvscode-server, which are VS Code.
//
// One that the machine's image has is taken; else code-server's own release is
// put into the home directory of the environment's user, over the machine's way
// out and under its rules. It runs in a terminal, where people see what it says,
// on the machine's loopback and without a password: who may look is decided where
// its port is shown, by package preview.
//
// Nothing is kept here: what runs is found again by its terminal's name.
package editor

import (
	"bytes"
	"context"
	_ "embed"
	"errors"
	"fmt"
	"path"
	"strings"
	"time"

	"github.com/errand-dev/errand"
	"github.com/errand-dev/errand/guest"
	"github.com/errand-dev/errand/runner"
)

const (
	// Port is where editors listen.
	Port = 13337
	// Terminal is the name of the one that they run in.
	Terminal = "editor"
)

// installLimit is how long the download may take.
const installLimit = 10 * time.Minute

// maxSaid bounds what is kept of what a script says, in bytes.
const maxSaid = 8 << 10

var (
	//go:embed find.sh
	findScript string
	//go:embed install.sh
	installScript string
)

// Editors open editors.
type Editors struct {
	Runner *runner.Runner
}

// Open has an editor run in the agent's machine, waking it where it sleeps, and
// returns when it was started, which is a moment before it listens. It blocks for
// minutes where it installs one. Where there is none and none can be had it is an
// Unavailable error.
func (e *Editors) Open(ctx context.Context, caller errand.Caller, id errand.AgentID) error {
	program, found, err := e.find(ctx, caller, id)
	if err != nil {
		return err
	}
	if !found {
		if err := e.install(ctx, caller, id); err != nil {
			return err
		}
		if program, found, err = e.find(ctx, caller, id); err != nil {
			return err
		} else if !found {
			return errors.New("the editor that was installed is not found")
		}
	}
	return e.Runner.OpenTerminal(ctx, caller, id, Terminal, command(program))
}

// find gives the path of an editor in the machine, as it says.
func (e *Editors) find(ctx context.Context, caller errand.Caller, id errand.AgentID) (program string, found bool, err error) {
	program, code, err := e.run(ctx, caller, id, findScript, time.Minute)
	return program, code == 0 && program != "", err
}

func (e *Editors) install(ctx context.Context, caller errand.Caller, id errand.AgentID) error {
	said, code, err := e.run(ctx, caller, id, installScript, installLimit)
	if err != nil || code == 0 {
		return err
	}
	refused := errand.Errorf(errand.Unavailable, "no_editor", "There is no editor in the machine of agent %s, and code-server could not be downloaded into it. Put code-server into the environment's image or install, or let machines reach github.com and release-assets.githubusercontent.com.", id)
	refused.Output, refused.ExitCode = said, &code
	return refused
}

// command gives the line that starts an editor for the repository.
func command(program string) string {
	quoted := "'" + strings.ReplaceAll(program, "'", `'\''`) + "'"
	if path.Base(program) == "openvscode-server" {
		return fmt.Sprintf("exec %s --host 127.0.0.1 --port %d --without-connection-token --telemetry-level off --default-folder /workspace", quoted, Port)
	}
	return fmt.Sprintf("exec %s --bind-addr 127.0.0.1:%d --auth none --disable-telemetry --disable-update-check --disable-workspace-trust --disable-getting-started-override /workspace", quoted, Port)
}

// run runs a script in the machine as the environment's user, and gives what it
// said, without spaces around it, and its exit code.
func (e *Editors) run(ctx context.Context, caller errand.Caller, id errand.AgentID, script string, limit time.Duration) (said string, code int, err error) {
	var all []byte
	exit, err := e.Runner.Exec(ctx, caller, id, runner.ExecRequest{Args: []string{"sh", "-c", script}, Limit: limit}, func(o guest.Output) {
		all = append(all, o.Data...)
		all = all[max(len(all)-maxSaid, 0):]
	})
	if exit.Unknown && err == nil {
		err = guest.ErrRebooted
	}
	return string(bytes.TrimSpace(bytes.ToValidUTF8(all, nil))), exit.Code, err
}
