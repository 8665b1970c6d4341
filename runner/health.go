package runner

import (
	"context"
	"time"

	"github.com/errand-dev/errand"
	"github.com/errand-dev/errand/machine"
	"github.com/errand-dev/errand/store"
)

// Health is how the server stands.
type Health struct {
	Runs     map[errand.RunStatus]int `json:"runs"`     // that have not ended
	RunsMost int                      `json:"runsMost"` // how many may be under way at once
	Machines map[string]int           `json:"machines"` // by state
	Findings []machine.Finding        `json:"findings"` // what the driver found of its host
	Models   int                      `json:"models"`   // how many can be used
	Missing  string                   `json:"missing,omitempty"`
}

// Health looks at the server and its host. It changes nothing.
func (r *Runner) Health(ctx context.Context) (Health, error) {
	h := Health{RunsMost: r.Defaults.Runs, Machines: map[string]int{}, Models: len(r.Models.List(ctx)), Missing: r.Models.missing()}
	var err error
	if h.Runs, err = r.Store.OpenRuns(ctx); err != nil {
		return h, err
	}
	rows, err := r.Store.Machines(ctx)
	if err != nil {
		return h, err
	}
	for _, m := range rows {
		state := string(m.State)
		if m.State == store.MachineWanted {
			state = "running"
		}
		h.Machines[state]++
	}
	if i, ok := r.Driver.(machine.Inspector); ok {
		h.Findings = i.Inspect(ctx)
	}
	if r.Vault != nil {
		h.Findings = append(h.Findings, r.sealing(ctx))
	}
	return h, nil
}

// sealing says whether the key that seals secrets works.
func (r *Runner) sealing(ctx context.Context) machine.Finding {
	f := machine.Finding{Name: "secrets"}
	ctx, cancel := context.WithTimeout(ctx, 3*time.Second) // health is asked for often
	defer cancel()
	state, err := r.Vault.Key(ctx)
	switch {
	case err != nil:
		f.Detail = err.Error()
	case state.Error != "":
		f.Detail = state.Error
	default:
		f.OK, f.Detail = true, "sealed under the key "+state.Key
		if state.Version != "" {
			f.Detail += ", version " + state.Version
		}
	}
	return f
}
