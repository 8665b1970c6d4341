// Command errand-buildkit is BuildKit's client and linter for Errand, which starts
// it for each build of a Dockerfile and speaks with it over standard input and
// output; it is no command for people. It only wires.
package main

import (
	"fmt"
	"os"

	"github.com/errand-dev/errand/machine/buildkit/solver"
	"github.com/errand-dev/errand/machine/buildkit/solver/inside"
)

func main() {
	if st, err := os.Stdin.Stat(); err != nil || st.Mode()&os.ModeCharDevice != 0 {
		fmt.Fprintln(os.Stderr, "errand-buildkit is started by errand, which speaks with it. Build an environment with: errand build start ENVIRONMENT")
		os.Exit(2)
	}
	if err := solver.Serve(os.Stdin, os.Stdout, inside.Do); err != nil {
		fmt.Fprintln(os.Stderr, err)
		os.Exit(1)
	}
}
