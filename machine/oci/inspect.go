//go:build linux

package oci

import (
	"context"

	"github.com/errand-dev/errand/machine"
)

// Inspect says what works on this host.
func (d *Driver) Inspect(ctx context.Context) []machine.Finding {
	return nil
}
