package runner

import (
	"context"
	"crypto/hmac"
	"crypto/rand"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"strings"

	"github.com/errand-dev/errand"
	"github.com/errand-dev/errand/build"
	"github.com/errand-dev/errand/environment"
	"github.com/errand-dev/errand/git"
	"github.com/errand-dev/errand/journal"
	"github.com/errand-dev/errand/secret"
	"github.com/errand-dev/errand/vault"
)

// trusted is what a place holds of its agent's secrets.
type trusted struct {
	known  bool           // they were opened; false: nobody can tell what a push contains
	finder *secret.Finder // what no push and no kept disk may contain; nil: nothing
	hidden []string       // what the redactor was told
}

// unlock opens the secrets that hold for the agent and sees to it that they are
// taken out of all that its machine says, before any machine has them.
func (r *Runner) unlock(ctx context.Context, p *place, s *setup) error {
	f := vault.For{Agent: s.agent.ID, Caller: s.agent.Caller, Environment: s.agent.Environment, Build: s.resolved.File.Build != nil}
	for _, repo := range s.agent.Repositories {
		f.Repositories = append(f.Repositories, repo.URL)
	}
	opened, err := r.Vault.Open(ctx, f)
	if err != nil {
		return err
	}
	s.opened = opened
	r.hide(p, trusted{known: true, finder: secret.NewFinder(opened.Guarded), hidden: opened.Hidden})
	return nil
}

// unlockFor unlocks the secrets that the agent's machine is about to be given, and
// puts on record that it is.
func (r *Runner) unlockFor(ctx context.Context, p *place, s *setup, run errand.RunID) error {
	return vault.Unchanged(func() error {
		if err := r.unlock(ctx, p, s); err != nil {
			return err
		}
		return r.recordUses(ctx, s.agent.ID, run, s.opened.Uses)
	})
}

// hide puts t in the place of what the place held of secrets. The values of
// earlier that the machine may have are in t too.
func (r *Runner) hide(p *place, t trusted) {
	r.Redactor.Add(t.hidden...)
	p.mu.Lock()
	before := p.trusted
	p.trusted = t
	p.mu.Unlock()
	r.Redactor.Remove(before.hidden...)
}

// recordUses puts on record what the agent's machine is about to be given, once
// for each run.
func (r *Runner) recordUses(ctx context.Context, agent errand.AgentID, run errand.RunID, uses []errand.SecretUse) error {
	if len(uses) == 0 {
		return nil
	}
	for i := range uses {
		uses[i].Agent, uses[i].Run = agent, run
	}
	_, err := r.Journal.Decide(ctx, func(t *journal.Tx) error {
		fresh, err := t.PutSecretUses(uses)
		if err != nil || len(fresh) == 0 {
			return err
		}
		return t.Tell(agent, run, errand.Fact{Kind: errand.EventSecretsUsed, Data: errand.SecretsUsed{Secrets: fresh}})
	})
	return err
}

// knowsSecrets says whether the agent's secrets were opened, so that they are
// taken out of what its machine says.
func (p *place) knowsSecrets() bool {
	p.mu.Lock()
	defer p.mu.Unlock()
	return p.trusted.known
}

// finder gives what finds the agent's secrets; nil: there are none.
func (p *place) finder() *secret.Finder {
	p.mu.Lock()
	defer p.mu.Unlock()
	return p.trusted.finder
}

// guard gives what looks through the pushes of a place's machine.
func (p *place) guard() (*git.Guard, error) {
	p.mu.Lock()
	t := p.trusted
	p.mu.Unlock()
	switch {
	case !t.known:
		return nil, errors.New("the server cannot open this agent's secrets now, so it cannot see whether one is in the push; try again later")
	case t.finder == nil:
		return nil, nil
	}
	find := func(stream io.Reader) ([]git.Found, error) {
		found, err := t.finder.Find(stream)
		var all []git.Found
		for _, f := range found {
			all = append(all, git.Found(f))
		}
		return all, err
	}
	return &git.Guard{Find: find, Hide: t.finder.Hide}, nil
}

// keyed gives what stands for the variables in the key of an install: never
// their values, and nothing from which one who has the key could try values out.
func (r *Runner) keyed(o vault.Opened) []environment.KeyPart {
	parts := build.Keyed(o)
	if len(o.Given) > 0 {
		mac := hmac.New(sha256.New, r.digestKey)
		fmt.Fprint(mac, strings.Join(o.Given, "\x00"))
		parts = append(parts, environment.KeyPart{Name: environment.VariablesPart, Value: hex.EncodeToString(mac.Sum(nil))})
	}
	return parts
}

// openDigestKey reads the key of the digests in install keys, or makes it. One
// that is lost costs no more than new installs.
func openDigestKey(path string) ([]byte, error) {
	key, err := os.ReadFile(path)
	if err == nil && len(key) == 32 {
		return key, nil
	}
	if err != nil && !errors.Is(err, fs.ErrNotExist) {
		return nil, fmt.Errorf("reading %s: %w", path, err)
	}
	key = make([]byte, 32)
	if _, err := rand.Read(key); err != nil {
		return nil, fmt.Errorf("making %s: %w", path, err)
	}
	tmp := path + ".new"
	if err := os.WriteFile(tmp, key, 0o600); err != nil {
		return nil, fmt.Errorf("making %s: %w", path, err)
	}
	if err := os.Rename(tmp, path); err != nil {
		return nil, fmt.Errorf("making %s: %w", path, err)
	}
	return key, nil
}

// digestKeyFile is where openDigestKey keeps it, in the data directory.
func digestKeyFile(dir string) string { return filepath.Join(dir, "digest.key") }
