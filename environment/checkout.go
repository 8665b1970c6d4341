package environment

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"time"

	"github.com/errand-dev/errand"
	"github.com/errand-dev/errand/git"
	"github.com/errand-dev/errand/guest"
)

// checkoutLimit bounds the scripts of this file. They take as long as writing
// the files of the tree.
const checkoutLimit = 15 * time.Minute

// checkout puts the agent's branch into the machine. From here on the disk is
// the agent's: it is noted before the first file changes.
func (w *work) checkout(ctx context.Context) error {
	if w.ready() && w.state.Boot == w.line.Hello().Boot {
		return w.skip(ctx, "the machine is ready already", errand.PhaseCheckout, errand.PhaseStart, errand.PhaseTerminals)
	}
	return w.phase(ctx, errand.PhaseCheckout, "", func(ctx context.Context) (outcome, error) {
		if !w.ready() {
			w.state.Stage, w.state.Machine, w.state.DiskNotes = stageReady, w.Machine, w.disk.Notes
			if err := w.state.write(ctx, w.line); err != nil {
				return outcome{}, err
			}
		}
		if w.Mirror == nil {
			return outcome{note: "no repository"}, w.makeRoot(ctx)
		}
		c := w.Checkout
		c.User = w.env.User
		return outcome{note: fmt.Sprintf("%s at %.12s", c.Branch, c.Commit)}, w.script(ctx, "checkout", git.CheckoutScript(c))
	})
}

// checkoutBase puts the base commit into the machine, without what is the
// agent's own: the disk is for others too.
func (w *work) checkoutBase(ctx context.Context) error {
	if w.Mirror == nil {
		return w.makeRoot(ctx)
	}
	c := w.Checkout
	c.User, c.Branch, c.BaseBranch, c.CoAuthor = w.env.User, "", "", git.Person{}
	return w.script(ctx, "checkout", git.CheckoutScript(c))
}

func (w *work) makeRoot(ctx context.Context) error {
	script := "mkdir -p " + Root
	if w.env.User != "" {
		script += " && chown '" + strings.ReplaceAll(w.env.User, "'", "") + "' " + Root
	}
	return w.script(ctx, "checkout", script)
}

// script runs a script of ours as root and wants it to succeed. One of the same
// purpose that a killed server left running is waited for first.
func (w *work) script(ctx context.Context, purpose, text string) error {
	known, err := w.latest(ctx, purpose)
	if err != nil {
		return err
	}
	if known != nil {
		if _, err := w.line.Rejoin(ctx, known.ID, known.End, nil); err != nil && !errors.Is(err, guest.ErrUnknown) {
			return err
		}
		if err := w.line.Forget(ctx, known.ID); err != nil {
			return err
		}
	}
	var output []byte
	id := newID(purpose)
	exit, err := w.line.Run(ctx, guest.Command{ID: id, Args: []string{"/bin/sh", "-c", text}, Dir: "/", Limit: checkoutLimit},
		func(o guest.Output) {
			output = append(output, o.Data...)
			output = output[max(0, len(output)-maxError):]
		})
	if err != nil {
		return fmt.Errorf("running the %s in the machine: %w", purpose, err)
	}
	if err := w.line.Forget(ctx, id); err != nil {
		return err
	}
	if exit.Code == 0 && !exit.TimedOut {
		return nil
	}
	e := errand.Errorf(errand.Internal, purpose+"_failed", "The %s in the machine ended with exit code %d. Its output is below; send a follow-up to try again.", purpose, exit.Code)
	if exit.Code == 127 {
		e = errand.Errorf(errand.Invalid, purpose+"_failed", "The %s in the machine needs a program that its image lacks. Its output says which; choose an image with git.", purpose)
	}
	e.Output, e.ExitCode = strings.ToValidUTF8(string(output), ""), &exit.Code
	return e
}
