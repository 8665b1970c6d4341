package llm

import (
	_ "embed"
	"encoding/json"
	"fmt"
	"os"
	"slices"
	"strings"

	"github.com/tailscale/hujson"

	"github.com/errand-dev/errand"
)

// Dialect is the form in which a provider is spoken to.
type Dialect string

const (
	Messages  Dialect = "anthropic-messages" // package anthropic
	Responses Dialect = "openai-responses"   // openai.NewResponses
	Chat      Dialect = "openai-chat"        // openai.NewChat
)

// Entry is one model of the catalog.
type Entry struct {
	ID       string  `json:"id"`       // as people name it, and the provider unless Wire is set
	Provider string  `json:"provider"` // whose key and base URL: "anthropic", "openai"
	Dialect  Dialect `json:"dialect"`
	// Wire is the provider's own name for the model; "" is ID.
	Wire        string   `json:"wire,omitempty"`
	DisplayName string   `json:"displayName"`
	Aliases     []string `json:"aliases,omitempty"` // other names that find it
	// Window is how many tokens of conversation and answer fit together.
	Window    int    `json:"window"`
	MaxOutput int    `json:"maxOutput"` // tokens of one answer
	Prices    Prices `json:"prices"`
	// Thinking says how the model is told to think: "" not at all, "budget" by a
	// number of tokens, "adaptive" (Anthropic) or "effort" (OpenAI) by a word.
	Thinking   string      `json:"thinking,omitempty"`
	Parameters []Parameter `json:"parameters,omitempty"`
	// Hidden entries are found by name and left out of lists.
	Hidden bool `json:"hidden,omitempty"`
}

// Name gives the provider's own name for the model.
func (e Entry) Name() string {
	if e.Wire != "" {
		return e.Wire
	}
	return e.ID
}

// Prices are in US dollars per million tokens, as of a date.
type Prices struct {
	Date       string  `json:"date"` // "2026-11-20"
	Input      float64 `json:"input"`
	Output     float64 `json:"output"`
	CacheRead  float64 `json:"cacheRead"`
	CacheWrite float64 `json:"cacheWrite"`
	// Long holds for a whole request that has more input than its Over.
	Long *LongPrices `json:"long,omitempty"`
}

// LongPrices are what a request with much input costs, in the unit of Prices.
type LongPrices struct {
	Over       int64   `json:"over"` // tokens of input of every kind
	Input      float64 `json:"input"`
	Output     float64 `json:"output"`
	CacheRead  float64 `json:"cacheRead"`
	CacheWrite float64 `json:"cacheWrite"`
}

// Cost gives what one request cost, in US dollars. It is wrong for a sum of
// requests where Long is set: add costs, not counts.
func (p Prices) Cost(u errand.Usage) float64 {
	if p.Long != nil && u.Input+u.CacheRead+u.CacheWrite > p.Long.Over {
		p.Input, p.Output, p.CacheRead, p.CacheWrite = p.Long.Input, p.Long.Output, p.Long.CacheRead, p.Long.CacheWrite
	}
	return (float64(u.Input)*p.Input + float64(u.Output)*p.Output +
		float64(u.CacheRead)*p.CacheRead + float64(u.CacheWrite)*p.CacheWrite) / 1e6
}

// Parameter is something a person may set for an agent's model.
type Parameter struct {
	ID          string   `json:"id"` // "effort"
	DisplayName string   `json:"displayName"`
	Values      []string `json:"values"`
	Default     string   `json:"default"`
}

// Catalog is the models that can be named, in the order in which lists show
// them. It does not change once made and is safe for use by many goroutines.
type Catalog struct {
	entries []Entry
	byName  map[string]int
}

//go:embed catalog.json
var embedded []byte

// NewCatalog returns the built-in catalog.
func NewCatalog() *Catalog {
	entries, err := parseEntries(embedded)
	if err != nil {
		panic("the built-in catalog is broken: " + err.Error()) // a bug: a test reads it
	}
	return (&Catalog{}).With(entries...)
}

// OpenCatalog returns the built-in catalog with the entries of a file put over
// it: the same form as catalog.json, comments allowed. An entry with a known id
// takes that one's place; others are added. Errors say what in the file is wrong.
func OpenCatalog(path string) (*Catalog, error) {
	text, err := os.ReadFile(path)
	if err != nil {
		return nil, fmt.Errorf("reading model catalog: %w", err)
	}
	entries, err := parseEntries(text)
	if err != nil {
		return nil, errand.Errorf(errand.Invalid, "invalid_catalog", "The model catalog %s cannot be used: %w. Correct the file or leave it out.", path, err)
	}
	return NewCatalog().With(entries...), nil
}

// With returns a catalog with entries put over c's: same id in the same place,
// others at the end. An entry's id and aliases win over older ones.
func (c *Catalog) With(entries ...Entry) *Catalog {
	next := &Catalog{entries: slices.Clone(c.entries), byName: map[string]int{}}
	for _, e := range entries {
		if i := slices.IndexFunc(next.entries, func(old Entry) bool { return old.ID == e.ID }); i >= 0 {
			next.entries[i] = e
			continue
		}
		next.entries = append(next.entries, e)
	}
	for i, e := range next.entries {
		for _, alias := range e.Aliases {
			next.byName[strings.ToLower(alias)] = i
		}
	}
	for i, e := range next.entries {
		next.byName[strings.ToLower(e.ID)] = i
	}
	return next
}

// Find returns the model of that id or alias, in either case of letters. An
// unknown one is an Invalid error, code "invalid_model", that names some models.
func (c *Catalog) Find(id string) (Entry, error) {
	if i, ok := c.byName[strings.ToLower(id)]; ok {
		return c.entries[i], nil
	}
	var some []string
	for _, e := range c.List() {
		some = append(some, e.ID)
	}
	list := "none is set up"
	if n := len(some); n > 0 {
		list = strings.Join(some[:min(n, 6)], ", ")
		if n > 6 {
			list += fmt.Sprintf(" and %d more", n-6)
		}
	}
	if len(id) > 80 {
		id = id[:80] + "…"
	}
	return Entry{}, errand.Errorf(errand.Invalid, "invalid_model", "Model '%s' is not available. Choose one of: %s.", id, list)
}

// List returns the entries that are not hidden, in order. The slice is the
// caller's own; what its entries point to is not to be changed.
func (c *Catalog) List() []Entry {
	return slices.DeleteFunc(slices.Clone(c.entries), func(e Entry) bool { return e.Hidden })
}

// parseEntries reads a catalog's text and checks each entry.
func parseEntries(text []byte) ([]Entry, error) {
	plain, err := hujson.Standardize(slices.Clone(text))
	if err != nil {
		return nil, err
	}
	var file struct {
		Models []Entry `json:"models"`
	}
	if err := json.Unmarshal(plain, &file); err != nil {
		return nil, err
	}
	for i, e := range file.Models {
		if err := e.check(); err != nil {
			return nil, fmt.Errorf("model %d (%q): %w", i+1, e.ID, err)
		}
	}
	return file.Models, nil
}

// check says what makes an entry unusable.
func (e Entry) check() error {
	switch {
	case e.ID == "":
		return fmt.Errorf("it has no id")
	case e.Provider == "":
		return fmt.Errorf("it has no provider")
	case e.Dialect != Messages && e.Dialect != Responses && e.Dialect != Chat:
		return fmt.Errorf("its dialect is %q; it must be %s, %s or %s", e.Dialect, Messages, Responses, Chat)
	case e.Window <= 0:
		return fmt.Errorf("its window must be a number of tokens above zero")
	case e.MaxOutput < 0 || e.MaxOutput > e.Window:
		return fmt.Errorf("its maxOutput must be between 0 and its window")
	case !slices.Contains([]string{"", "budget", "adaptive", "effort"}, e.Thinking):
		return fmt.Errorf("its thinking is %q; it must be budget, adaptive, effort or left out", e.Thinking)
	case min(e.Prices.Input, e.Prices.Output, e.Prices.CacheRead, e.Prices.CacheWrite) < 0:
		return fmt.Errorf("its prices must not be below zero")
	}
	return nil
}
