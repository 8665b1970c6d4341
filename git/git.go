// Package git keeps local mirrors of repositories, gives machines a checkout
// that costs nothing in proportion to history, and carries an agent's pushes to
// the real remote without ever showing it a credential.
//
// Three ideas. A mirror is one bare repository per URL; a machine sees it
// read-only and borrows its objects through git's alternates, so a checkout
// writes the files and little else. What is done in a machine (Mirror.Checkout,
// SettleScript, PushScript) takes git and plain POSIX sh, and can be killed at
// any point and done again. The broker is git's own smart HTTP,
// spoken to the machine: it reads which refs a push changes before anything
// else is done, lets only the agent's branch through, and then pushes with the
// real git and the server's credential.
//
// Everything is done by the git program, 2.31 or newer; this package knows
// packet lines and the names of refs, no objects. It does not know forges, pull
// requests or machines, and it never decides what an agent's branch is called
// on its own.
package git

import (
	"cmp"
	"context"
	"fmt"
	"log/slog"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"time"

	"golang.org/x/sync/semaphore"

	"github.com/errand-dev/errand"
)

// Credential is what opens a remote. The zero value is none: then git's own
// configuration on the server (credential helpers, ssh agent) is all there is.
type Credential struct {
	User     string // for http(s); "" with a Password means "x-access-token"
	Password string // password or token, for http(s)
	SSHKey   string // path of a private key on the server, for ssh
	// KnownHosts is a file of host keys to trust instead of the server user's
	// own; "" leaves that to ssh's configuration.
	KnownHosts string
}

// Options are the settings of Mirrors. Only Dir must be set.
type Options struct {
	// Dir holds everything; it is made if missing. One process at a time.
	Dir string
	// Log is told what no caller is there to hear of; nil discards.
	Log *slog.Logger
	// Credential gives what opens a clean URL. It may be called from many
	// goroutines. Nil means that there are none.
	Credential func(url string) (Credential, bool)
	// Timeout bounds one exchange with a remote (a clone, an update, a push).
	// Zero is 15 minutes.
	Timeout time.Duration
	// Wait bounds how long a machine's fetch or push waits for its mirror to be
	// updated before it is served from what is there. Zero is 15 seconds.
	Wait time.Duration
	// MaxPush bounds one push in bytes. Zero is 2 GiB.
	MaxPush int64
}

// Mirrors is all repositories that the server knows. Its methods may be called
// from many goroutines.
type Mirrors struct {
	options Options
	log     *slog.Logger

	ctx    context.Context // ends with Close; bounds updates, which outlive their callers
	cancel context.CancelFunc
	work   sync.WaitGroup

	fetches *semaphore.Weighted // by machines, at once
	stall   time.Duration       // stallLimit

	mu      sync.Mutex
	updates map[string]*updates    // by mirror name
	agents  map[string]*sync.Mutex // by agent and mirror name: one push at a time
}

// New opens the mirrors under o.Dir, ends programs that an earlier process left
// running there, and removes what it left half done. It fails when there is no usable git program. Close it.
func New(o Options) (*Mirrors, error) {
	if err := checkProgram(); err != nil {
		return nil, err
	}
	o.Timeout = cmp.Or(o.Timeout, 15*time.Minute)
	o.Wait = cmp.Or(o.Wait, 15*time.Second)
	o.MaxPush = cmp.Or(o.MaxPush, 2<<30)
	dir, err := filepath.Abs(o.Dir)
	if err != nil {
		return nil, fmt.Errorf("opening mirrors: %w", err)
	}
	o.Dir = dir
	m := &Mirrors{
		options: o,
		log:     cmp.Or(o.Log, slog.New(slog.DiscardHandler)),
		updates: map[string]*updates{},
		agents:  map[string]*sync.Mutex{},
		fetches: semaphore.NewWeighted(fetchesOfAll()),
		stall:   stallLimit,
	}
	for _, sub := range []string{"mirrors", "agents", "carried", "empty"} {
		if err := os.MkdirAll(filepath.Join(dir, sub), 0o755); err != nil {
			return nil, fmt.Errorf("opening mirrors: %w", err)
		}
	}
	if err := m.endStrays(); err != nil {
		return nil, fmt.Errorf("ending what an earlier server's git had started: %w", err)
	}
	for _, half := range []string{"mirrors/new-*", "agents/*/*/quarantine"} {
		left, err := filepath.Glob(filepath.Join(dir, half))
		if err != nil {
			return nil, fmt.Errorf("opening mirrors: %w", err)
		}
		for _, l := range left {
			if err := os.RemoveAll(l); err != nil {
				return nil, fmt.Errorf("removing what is half done: %w", err)
			}
		}
	}
	if err := m.sweepCarried(true); err != nil {
		return nil, err
	}
	m.ctx, m.cancel = context.WithCancel(context.Background())
	return m, nil
}

// Close ends updates and pushes that are under way and waits for them.
func (m *Mirrors) Close() error {
	m.cancel()
	m.work.Wait()
	return nil
}

// Forget removes what the agent pushed from the server. What reached the remote
// stays there. To forget again is no error.
func (m *Mirrors) Forget(ctx context.Context, agent errand.AgentID) error {
	dir, err := m.agentDir(agent)
	if err != nil {
		return err
	}
	if err := os.RemoveAll(dir); err != nil {
		return fmt.Errorf("removing the repositories of %s: %w", agent, err)
	}
	m.mu.Lock()
	defer m.mu.Unlock()
	for key := range m.agents {
		if strings.HasPrefix(key, string(agent)+"/") {
			delete(m.agents, key)
		}
	}
	return nil
}

func (m *Mirrors) mirrorDir(url string) string {
	return filepath.Join(m.options.Dir, "mirrors", Name(url))
}

// agentDir holds one bare repository per URL. The id was parsed before it
// became a path.
func (m *Mirrors) agentDir(agent errand.AgentID) (string, error) {
	id, err := errand.ParseAgentID(string(agent))
	if err != nil {
		return "", err
	}
	return filepath.Join(m.options.Dir, "agents", string(id)), nil
}
