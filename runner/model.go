package runner

import (
	"context"
	"fmt"
	"slices"
	"strings"
	"sync"
	"time"

	"github.com/errand-dev/errand"
	"github.com/errand-dev/errand/llm"
)

// Provider is one provider of models, as cmd/errand sets it up.
type Provider struct {
	// Missing says what must be set before it can be used ("ANTHROPIC_API_KEY");
	// "" when it can.
	Missing string
	// Settings are what it is set up from.
	Settings []ProviderSetting
	// New makes the client for one of its models.
	New func(llm.Entry) llm.Model
	// List asks the provider for the ids of its models, for servers whose
	// models no catalog knows; nil where the catalog is enough.
	List func(context.Context) ([]string, error)
	// Unlisted is the entry for such a model, but for its id.
	Unlisted llm.Entry
}

// ProviderSetting is a variable of the server's environment.
type ProviderSetting struct {
	Name  string
	Set   bool
	Value string // as it may be shown; "" for a secret
}

// Models finds language models: in the catalog, and among those that a provider
// itself lists. It may be used from many goroutines.
type Models struct {
	Catalog   *llm.Catalog
	Providers map[string]Provider // by the name that entries have
	Default   string              // for agents that name none; "" is the first that can be used

	mu     sync.Mutex
	listed []llm.Entry
	until  time.Time     // so long listed is believed; zero before the first answer
	asking chan struct{} // closed when the request under way ends; nil where none is
}

const (
	// listFor is how long a provider's list is believed, and missedFor how long a
	// provider that did not answer is left alone.
	listFor   = time.Minute
	missedFor = 10 * time.Second
	// listWait is how long an answer is waited for.
	listWait = 5 * time.Second
)

// Model gives the client for a model id ("" is the default) and what is known
// of it. An unknown one, or one whose provider lacks a key, is an Invalid error
// that says what to do. It may ask a provider for its list, for a few seconds.
func (m *Models) Model(ctx context.Context, id string) (llm.Model, llm.Entry, error) {
	if id == "" {
		id = m.Default
	}
	if id == "" {
		all := m.List(ctx)
		if len(all) == 0 {
			return nil, llm.Entry{}, errand.Errorf(errand.Invalid, "invalid_model", "No model can be used yet: set %s for the server and start it again.", m.missing())
		}
		id = all[0].ID
	}
	entry, err := m.Catalog.Find(id)
	if err != nil {
		listed := m.unlisted(ctx)
		i := slices.IndexFunc(listed, func(e llm.Entry) bool { return e.ID == id })
		if i < 0 {
			return nil, llm.Entry{}, m.unknown(ctx, id)
		}
		entry = listed[i]
	}
	p, ok := m.Providers[entry.Provider]
	if !ok || p.New == nil {
		return nil, llm.Entry{}, errand.Errorf(errand.Invalid, "invalid_model", "Model '%s' is not available: this server knows no provider %q.", id, entry.Provider)
	}
	if p.Missing != "" {
		return nil, llm.Entry{}, errand.Errorf(errand.Invalid, "invalid_model", "Model '%s' is not available: set %s for the server and start it again.", id, p.Missing)
	}
	return p.New(entry), entry, nil
}

// unknown names the models that could be had instead.
func (m *Models) unknown(ctx context.Context, id string) error {
	var some []string
	for _, e := range m.List(ctx) {
		some = append(some, e.ID)
	}
	const most = 8
	choice := "none can be used yet: set " + m.missing() + " for the server"
	if n := len(some); n > 0 {
		choice = "choose one of " + strings.Join(some[:min(n, most)], ", ")
		if n > most {
			choice += fmt.Sprintf(" or %d more (errand models)", n-most)
		}
	}
	return errand.Errorf(errand.Invalid, "invalid_model", "Model '%.80s' is not available; %s.", id, choice)
}

func (m *Models) missing() string {
	var names []string
	for _, p := range m.Providers {
		if p.Missing != "" {
			names = append(names, p.Missing)
		}
	}
	slices.Sort(names)
	return strings.Join(names, " or ")
}

// List gives the models that can be used now, the default first.
func (m *Models) List(ctx context.Context) []llm.Entry {
	all := m.unlisted(ctx)
	for _, e := range m.Catalog.List() {
		if p, ok := m.Providers[e.Provider]; ok && p.Missing == "" {
			all = append(all, e)
		}
	}
	if i := slices.IndexFunc(all, func(e llm.Entry) bool { return e.ID == m.Default }); i > 0 {
		first := all[i]
		all = slices.Insert(slices.Delete(all, i, i+1), 0, first)
	}
	return all
}

// unlisted gives the models that only their providers know. They are asked now
// and then, by one caller at a time: others go on with what is known meanwhile,
// and where that is nothing yet they wait with it, or until ctx ends.
func (m *Models) unlisted(ctx context.Context) []llm.Entry {
	for {
		m.mu.Lock()
		known, asking, first := slices.Clone(m.listed), m.asking, m.until.IsZero()
		ask := asking == nil && !time.Now().Before(m.until)
		if ask {
			m.asking = make(chan struct{})
		}
		m.mu.Unlock()
		switch {
		case ask:
			return m.ask(ctx, known)
		case asking == nil || !first:
			return known
		}
		select {
		case <-asking:
		case <-ctx.Done():
			return known
		}
	}
}

// ask asks the providers for their models and keeps the answer. One that does not
// answer has those that were known.
func (m *Models) ask(ctx context.Context, known []llm.Entry) (listed []llm.Entry) {
	held := missedFor
	defer func() {
		m.mu.Lock()
		defer m.mu.Unlock()
		close(m.asking)
		m.asking = nil
		if ctx.Err() == nil { // else the caller went, which says nothing of the providers
			m.listed, m.until = slices.Clone(listed), time.Now().Add(held)
		}
	}()
	waiting, cancel := context.WithTimeout(ctx, listWait)
	defer cancel()
	missed := false
	for _, p := range m.Providers {
		if p.List == nil || p.Missing != "" {
			continue
		}
		ids, err := p.List(waiting)
		if err != nil {
			missed = true
			for _, e := range known {
				if e.Provider == p.Unlisted.Provider {
					listed = append(listed, e)
				}
			}
			continue
		}
		for _, id := range ids {
			if _, err := m.Catalog.Find(id); err == nil {
				continue
			}
			e := p.Unlisted
			e.ID = id
			listed = append(listed, e)
		}
	}
	if !missed {
		held = listFor
	}
	slices.SortFunc(listed, func(a, b llm.Entry) int { return strings.Compare(a.ID, b.ID) })
	return listed
}
