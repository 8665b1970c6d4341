package git

import (
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
	"time"

	"github.com/errand-dev/errand"
)

// CarriedRef is the one ref that a person's git pushes to Carry.
const CarriedRef = "refs/errand/carried"

// carriedFor is how long what was carried waits for an agent that starts from it.
const carriedFor = 7 * 24 * time.Hour

// Carried tells a person's git what the mirror of url has, brought up to date, as
// git's receive-pack does. Errors are those of Fetch; nothing is written then.
func (m *Mirrors) Carried(ctx context.Context, url string, w io.Writer) error {
	r, err := m.Fetch(ctx, url)
	if err != nil {
		return err
	}
	return advertisePush(ctx, w, r)
}

// Carry takes what a person's git pushes after Carried: one commit that the remote
// need not have, under CarriedRef. git checks every object, and that nothing is
// missing. The commit then waits, apart from the mirror, for FetchCarried, a week
// at most. Nothing is scanned for secrets: what a person sends in is the person's.
// w gets git's report.
//
// What git finds wrong is an Invalid error, too much for the server TooLarge or
// Unavailable; nothing is kept then, nor after a kill.
func (m *Mirrors) Carry(ctx context.Context, url string, body io.Reader, w io.Writer) error {
	r, err := m.Open(ctx, url)
	if err != nil {
		return err
	}
	// git reads no answer before it has sent all.
	defer io.CopyN(io.Discard, body, m.options.MaxPush)
	p, err := readProposal(body)
	if err != nil {
		return errand.Errorf(errand.Invalid, "validation_error", "This is no push: %w", err)
	}
	if p.count != 1 || p.changes[0].ref != CarriedRef || p.changes[0].deletes() {
		return errand.Errorf(errand.Invalid, "validation_error", "Only one commit is taken, pushed to %s.", CarriedRef)
	}
	most, err := m.room()
	if err != nil {
		return err
	}
	if most <= 0 {
		return errand.Errorf(errand.Unavailable, "disk_full", "The server's disk is full. Try again when there is room on it.")
	}
	if err := m.sweepCarried(false); err != nil {
		return err
	}
	b := &broker{mirrors: m, mirror: r}
	if err := b.keepCarried(ctx, p, body, most); err != nil {
		return err
	}
	b.answer(w, p, verdict{unpack: "ok"})
	return nil
}

func (m *Mirrors) carriedDir(url, commit string) string {
	return filepath.Join(m.options.Dir, "carried", Name(url), commit)
}

// keepCarried makes a repository of the pack, beside its place until it is whole.
func (b *broker) keepCarried(ctx context.Context, p proposal, pack io.Reader, most int64) (err error) {
	to := b.mirrors.carriedDir(b.mirror.url, p.changes[0].new)
	if err := os.MkdirAll(filepath.Dir(to), 0o700); err != nil {
		return fmt.Errorf("taking what is carried: %w", err)
	}
	half, err := os.MkdirTemp(filepath.Dir(to), "new-")
	if err != nil {
		return fmt.Errorf("taking what is carried: %w", err)
	}
	defer func() { err = errors.Join(err, os.RemoveAll(half)) }()
	if err := b.borrow(ctx, half); err != nil {
		return err
	}
	q, err := isolate(half)
	if err != nil {
		return err
	}
	why, err := b.take(ctx, half, p, CarriedRef, pack, most, q)
	if err != nil {
		return err
	}
	if why != "" {
		return errand.Errorf(errand.Invalid, "carry_refused", "git does not take what was sent: %s", clipReason(why))
	}
	if err := q.release(half); err != nil {
		return err
	}
	if err := q.drop(); err != nil {
		return err
	}
	if err := os.RemoveAll(to); err != nil { // the same, carried before
		return fmt.Errorf("taking what is carried: %w", err)
	}
	return os.Rename(half, to)
}

// FetchCarried is Fetch that also takes into the mirror what was carried for it
// under a commit's full id, if anything was. That bears no name there: who knows
// the id can start from it, and nobody is told of it.
func (m *Mirrors) FetchCarried(ctx context.Context, url, commit string) (*Mirror, error) {
	if len(commit) != 40 && len(commit) != 64 || !hexID.MatchString(commit) {
		commit = ""
	}
	return m.fetch(ctx, url, strings.ToLower(commit))
}

// takeUp brings what was carried under a commit's id into the mirror. Done again
// after a kill it ends the same.
func (r *Mirror) takeUp(ctx context.Context, commit string) error {
	dir := r.mirrors.carriedDir(r.url, commit)
	if _, err := os.Stat(dir); errors.Is(err, fs.ErrNotExist) {
		return nil
	}
	_, _, err := r.mirrors.run(ctx, command{dir: r.dir, args: []string{
		"fetch", "--quiet", "--no-tags", "--no-write-fetch-head", "--no-auto-maintenance", "--", dir, CarriedRef}})
	if err != nil {
		return fmt.Errorf("taking up what was carried to %s: %w", r.url, err)
	}
	if err := os.RemoveAll(dir); err != nil {
		return fmt.Errorf("removing what was carried: %w", err)
	}
	return nil
}

// sweepCarried removes what no agent has started from in time, and, when no other
// request can be at it, what is half done.
func (m *Mirrors) sweepCarried(alone bool) error {
	all, err := filepath.Glob(filepath.Join(m.options.Dir, "carried", "*", "*"))
	if err != nil {
		return err
	}
	for _, dir := range all {
		stat, err := os.Stat(dir)
		if errors.Is(err, fs.ErrNotExist) {
			continue // taken up meanwhile
		}
		half := strings.HasPrefix(filepath.Base(dir), "new-")
		if err == nil && (half && alone || time.Since(stat.ModTime()) > carriedFor) {
			err = os.RemoveAll(dir)
		}
		if err != nil {
			return fmt.Errorf("removing what was carried: %w", err)
		}
	}
	return nil
}
