package environment

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"time"

	"github.com/errand-dev/errand"
	"github.com/errand-dev/errand/git"
)

// checkoutLimit bounds each program of a checkout. git takes as long as writing
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
		return outcome{note: fmt.Sprintf("%s at %.12s", c.Branch, c.Commit)}, w.checkOut(ctx, c)
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
	return w.checkOut(ctx, c)
}

// checkOut has git make a checkout in the machine, and records what people should
// know of it.
func (w *work) checkOut(ctx context.Context, c git.Checkout) error {
	notices, err := w.Mirror.Checkout(ctx, c, NewPlace(w.line))
	if failed := new(git.CheckoutError); errors.As(err, &failed) {
		return checkoutFailed(failed.Output, failed.Code)
	}
	if notices = strings.TrimSpace(strings.ToValidUTF8(notices, "")); err != nil || notices == "" {
		return err
	}
	return w.Record(ctx, warning(notices))
}

func (w *work) makeRoot(ctx context.Context) error {
	script := "mkdir -p " + Root
	if w.env.User != "" {
		script += " && chown '" + strings.ReplaceAll(w.env.User, "'", "") + "' " + Root
	}
	out, code, err := NewPlace(w.line).Run(ctx, git.Command{Args: []string{"/bin/sh", "-c", script}, Dir: "/"})
	if err == nil && code != 0 {
		err = checkoutFailed(out, code)
	}
	return err
}

// checkoutFailed is the error of a program of ours that ended badly.
func checkoutFailed(output string, code int) error {
	e := errand.Errorf(errand.Internal, "checkout_failed", "The checkout in the machine ended with exit code %d. Its output is below; send a follow-up to try again.", code)
	if code == 127 {
		e = errand.Errorf(errand.Invalid, "checkout_failed", "The checkout in the machine needs a program that its image lacks. Its output says which; choose an image with git.")
	}
	e.Output, e.ExitCode = strings.ToValidUTF8(output, ""), &code
	return e
}
