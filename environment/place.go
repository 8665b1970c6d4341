package environment

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"path"
	"strings"

	"github.com/errand-dev/errand/git"
	"github.com/errand-dev/errand/guest"
)

// Place is a machine over its line, as git makes a checkout in it.
type Place struct{ line *guest.Line }

// NewPlace gives the machine at the other end of line.
func NewPlace(line *guest.Line) Place { return Place{line} }

// Exists implements git.Place.
func (p Place) Exists(ctx context.Context, name string) (bool, error) {
	_, err := p.line.Stat(ctx, path.Dir(name), path.Base(name))
	if errors.Is(err, fs.ErrNotExist) {
		return false, nil
	}
	return err == nil, err
}

// Read implements git.Place.
func (p Place) Read(ctx context.Context, name string) ([]byte, error) {
	data, _, err := p.line.ReadFile(ctx, path.Dir(name), path.Base(name), 0, 64<<10)
	if errors.Is(err, fs.ErrNotExist) {
		return nil, nil
	}
	return data, err
}

// Write implements git.Place.
func (p Place) Write(ctx context.Context, dir string, files []git.File) error {
	err := p.write(ctx, dir, "", files)
	if errors.Is(err, fs.ErrNotExist) {
		err = p.write(ctx, "/", strings.TrimPrefix(dir, "/"), files) // makes dir
	}
	if err != nil {
		return fmt.Errorf("writing files in the machine: %w", err)
	}
	return nil
}

// write puts files below dir, which is there, and below there.
func (p Place) write(ctx context.Context, dir, below string, files []git.File) error {
	changes := make([]guest.FileChange, len(files))
	for i, f := range files {
		changes[i] = guest.FileChange{Kind: guest.ChangeWrite, Path: path.Join(below, f.Path), Data: []byte(f.Data), Mode: 0o644}
		if f.Executable {
			changes[i].Mode = 0o755
		}
	}
	op := newID("write")
	_, err := p.line.Change(ctx, op, dir, changes)
	return errors.Join(err, p.line.Forget(ctx, op))
}

// checkoutPurpose is that of the commands that git runs for a checkout.
const checkoutPurpose = "checkout"

// Run implements git.Place.
func (p Place) Run(ctx context.Context, c git.Command) (string, int, error) {
	known, err := latest(ctx, p.line, checkoutPurpose)
	if err != nil {
		return "", 0, err
	}
	if known != nil {
		if _, err := p.line.Rejoin(ctx, known.ID, known.End, nil); err != nil && !errors.Is(err, guest.ErrUnknown) {
			return "", 0, err
		}
		if err := p.line.Forget(ctx, known.ID); err != nil {
			return "", 0, err
		}
	}
	var output []byte
	id := newID(checkoutPurpose)
	exit, err := p.line.Run(ctx, guest.Command{ID: id, Args: c.Args, Dir: c.Dir, User: c.User, Env: c.Env, Limit: checkoutLimit},
		func(o guest.Output) {
			output = append(output, o.Data...)
			output = output[max(0, len(output)-maxError):]
		})
	if errors.Is(err, guest.ErrNotStarted) {
		return err.Error(), 127, nil
	}
	if err != nil {
		return "", 0, fmt.Errorf("running %s in the machine: %w", path.Base(c.Args[0]), err)
	}
	if exit.TimedOut {
		exit.Code = max(exit.Code, 1)
	}
	return string(output), exit.Code, p.line.Forget(ctx, id)
}
