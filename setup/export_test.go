package setup

import (
	"context"

	"github.com/errand-dev/errand"
)

// Send gives the model its prompt, as work does.
func (s *Setups) Send(ctx context.Context, setup *errand.Setup) (errand.RunID, error) {
	return s.send(ctx, setup)
}

// Enter is what Delete does first.
func (s *Setups) Enter(ctx context.Context, id errand.SetupID) (leave func(), err error) {
	return s.enter(ctx, id)
}
