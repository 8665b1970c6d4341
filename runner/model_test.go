package runner_test

import (
	"context"
	"errors"
	"testing"
	"testing/synctest"
	"time"

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
