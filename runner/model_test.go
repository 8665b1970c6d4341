package runner_test

import (
	"context"
	"encoding/json"
	"errors"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/errand-dev/errand"
	"github.com/errand-dev/errand/llm"
	"github.com/errand-dev/errand/runner"
)

// TestListedModelsStay asks for a model again when its provider does not answer:
// a run that goes on must not lose its model over that.
func TestListedModelsStay(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var down error
		m := &runner.Models{Catalog: llm.NewCatalog(), Providers: map[string]runner.Provider{"local": {
			New:      func(llm.Entry) llm.Model { return nil },
			List:     func(context.Context) ([]string, error) { return []string{"tiny"}, down },
			Unlisted: llm.Entry{Provider: "local"},
		}}}
		for range 3 {
			if _, e, err := m.Model(t.Context(), "tiny"); err != nil || e.ID != "tiny" {
				t.Errorf("the model is %+v, %v (the provider says %v)", e, err, down)
			}
			down = errors.New("out for lunch")
			time.Sleep(2 * time.Minute)
		}
	})
}

// A run works with the model of its own prompt or of one before it, whatever was
// chosen since.
func TestModelOfRun(t *testing.T) {
	var events []errand.Event
	add := func(run errand.RunID, kind errand.EventKind, data any) {
		raw, err := json.Marshal(data)
		if err != nil {
			t.Fatal(err)
		}
		events = append(events, errand.Event{Seq: errand.Seq(len(events) + 1), Run: run, Kind: kind, Data: raw})
	}
	add("", errand.EventAgentCreated, errand.AgentCreated{Agent: errand.Agent{Settings: errand.Settings{Model: errand.Model{ID: "one"}}}})
	add("run-1", errand.EventRunQueued, errand.RunQueuedData{})
	add("run-2", errand.EventRunQueued, errand.RunQueuedData{Model: &errand.Model{ID: "two", Params: map[string]string{"effort": "low"}}})
	add("run-3", errand.EventRunQueued, errand.RunQueuedData{})
	add("run-4", errand.EventRunQueued, errand.RunQueuedData{Model: &errand.Model{ID: "four"}})
	for run, want := range map[errand.RunID]string{"run-1": "one", "run-2": "two low", "run-3": "two low", "run-4": "four"} {
		m, err := runner.ModelOf(events, run)
		if got := strings.TrimSpace(m.ID + " " + m.Params["effort"]); err != nil || got != want {
			t.Errorf("%s works with %q, %v; want %q", run, got, err, want)
		}
	}
}

// A provider that does not answer holds up those who ask first, together and not
// one after another, and then nobody for a while.
func TestSilentProvider(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		asked, silent := 0, true
		m := &runner.Models{Catalog: llm.NewCatalog(), Providers: map[string]runner.Provider{"local": {
			New: func(llm.Entry) llm.Model { return nil },
			List: func(ctx context.Context) ([]string, error) {
				asked++
				if silent {
					<-ctx.Done()
					return nil, ctx.Err()
				}
				return []string{"tiny"}, nil
			},
			Unlisted: llm.Entry{Provider: "local"},
		}}}
		begin := time.Now()
		var all sync.WaitGroup
		for range 5 {
			all.Go(func() { m.List(t.Context()) })
		}
		all.Go(func() { // does not wait longer than it wants to
			ctx, cancel := context.WithTimeout(t.Context(), time.Second)
			defer cancel()
			m.List(ctx)
			if took := time.Since(begin); took > time.Second {
				t.Errorf("a caller with a second of time waited %s", took)
			}
		})
		all.Wait()
		m.List(t.Context())
		if took := time.Since(begin); took > 7*time.Second || asked > 2 {
			t.Errorf("seven lists took %s and asked %d times", took, asked)
		}
		silent = false
		time.Sleep(15 * time.Second)
		if got := m.List(t.Context()); len(got) != 1 || got[0].ID != "tiny" {
			t.Errorf("of a provider that answers again there are %+v", got)
		}
		// While it is asked anew, others have its list.
		time.Sleep(2 * time.Minute)
		silent = true
		all.Go(func() { m.List(t.Context()) })
		synctest.Wait()
		begin = time.Now()
		if got := m.List(t.Context()); len(got) != 1 || time.Since(begin) > 0 {
			t.Errorf("meanwhile there are %+v after %s", got, time.Since(begin))
		}
		all.Wait()
	})
}
