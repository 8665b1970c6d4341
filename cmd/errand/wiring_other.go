//go:build !linux

package main

import "github.com/errand-dev/errand/cli"

// wiring is empty: servers run on Linux.
func wiring() cli.Wiring { return cli.Wiring{} }
