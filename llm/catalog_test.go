package llm_test

import (
	"errors"
	"math"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/errand-dev/errand"
	"github.com/errand-dev/errand/llm"
)

func TestCatalog(t *testing.T) {
	c := llm.NewCatalog()
	names := map[string]string{}
	for _, e := range c.List() {
		for _, name := range append([]string{e.ID}, e.Aliases...) {
			if other, taken := names[name]; taken {
				t.Errorf("%q names both %s and %s", name, other, e.ID)
			}
			names[name] = e.ID
		}
		if e.DisplayName == "" || e.MaxOutput == 0 {
			t.Errorf("%s lacks a display name or a bound of its output", e.ID)
		}
		p := e.Prices
		if _, err := time.Parse(time.DateOnly, p.Date); err != nil {
			t.Errorf("%s: prices have no date: %v", e.ID, err)
		}
		// Data sets are known to swap these two.
		if !(p.CacheRead < p.Input && p.Input <= p.CacheWrite && p.CacheWrite < p.Output) {
			t.Errorf("%s: prices are out of order: %+v", e.ID, p)
		}
	}
	for _, name := range []string{"claude-opus-5-5", "OPUS", "gpt-6.2-sol", "scripted", "scripted-chat"} {
		if _, err := c.Find(name); err != nil {
			t.Errorf("finding %s: %v", name, err)
		}
	}
	if _, listed := names["scripted"]; listed {
		t.Error("the scripted model is in the list")
	}
}

func TestUnknownModel(t *testing.T) {
	_, err := llm.NewCatalog().Find("nope")
	var e *errand.Error
	if !errors.As(err, &e) || e.Kind != errand.Invalid || e.Code != "invalid_model" {
		t.Fatalf("error is %#v", err)
	}
	if !strings.Contains(e.Message, "Model 'nope' is not available") || !strings.Contains(e.Message, "claude-opus-5-5") {
		t.Errorf("message is %q", e.Message)
	}
}

func TestOpenCatalog(t *testing.T) {
	path := filepath.Join(t.TempDir(), "models.json")
	write := func(text string) {
		if err := os.WriteFile(path, []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	write(`{"models": [
		{"id": "local", "provider": "openai", "dialect": "openai-chat", "wire": "qwen3:8b", "window": 32768, "aliases": ["opus"]}, // ours
		{"id": "gpt-5", "provider": "openai", "dialect": "openai-responses", "window": 1000, "prices": {"input": 1}},
	]}`)
	c, err := llm.OpenCatalog(path)
	if err != nil {
		t.Fatal(err)
	}
	if e, err := c.Find("opus"); err != nil || e.ID != "local" || e.Name() != "qwen3:8b" {
		t.Errorf("opus is %+v (%v)", e, err)
	}
	if e, err := c.Find("gpt-5"); err != nil || e.Window != 1000 || e.Name() != "gpt-5" {
		t.Errorf("gpt-5 is %+v (%v)", e, err)
	}
	if e, _ := llm.NewCatalog().Find("gpt-5"); e.Window == 1000 {
		t.Error("the built-in catalog was changed")
	}
	for text, says := range map[string]string{
		`{"models": [{"id": "x"}]}`:               "no provider",
		`{"models": [{"id":"x","provider":"y"}]}`: "dialect",
		`{"models": [}`:                           "models.json",
		`{"models": [{"id":"x","provider":"y","dialect":"openai-chat"}]}`: "window",
	} {
		write(text)
		if _, err := llm.OpenCatalog(path); err == nil || !strings.Contains(err.Error(), says) {
			t.Errorf("%s: error is %v and does not say %q", text, err, says)
		}
	}
}

func TestCost(t *testing.T) {
	p := llm.Prices{Input: 2, Output: 10, CacheRead: 0.2, CacheWrite: 2.5, Long: &llm.LongPrices{Over: 1_000_000, Input: 4, Output: 15, CacheRead: 0.4, CacheWrite: 5}}
	tests := []struct {
		usage errand.Usage
		want  float64
	}{
		{errand.Usage{}, 0},
		{errand.Usage{Input: 100_000, Output: 10_000, CacheRead: 500_000, CacheWrite: 100_000}, 0.2 + 0.1 + 0.1 + 0.25},
		{errand.Usage{Input: 500_001, Output: 10_000, CacheRead: 500_000}, 2.000004 + 0.15 + 0.2},
	}
	for _, tt := range tests {
		if got := p.Cost(tt.usage); math.Abs(got-tt.want) > 1e-9 {
			t.Errorf("%+v costs %v, want %v", tt.usage, got, tt.want)
		}
	}
}
