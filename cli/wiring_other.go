//go:build !linux

package cli

// Wiring is empty where the server does not run.
type Wiring struct{}
