package setup

import (
	"context"

	"github.com/errand-dev/errand"
)

// Send gives the model its prompt, as work does.
func (s *Setups) Send(ctx context.Context, setup *errand.Setup) (errand.RunID, error) {
	return s.send(ctx, setup)
}
