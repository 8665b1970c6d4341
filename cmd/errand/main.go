// Command errand is the server, its command line and everything beside them in
// one program. It only wires: which drivers of machines and which providers of
// models there are stands here, and package cli says what can be done.
package main

import (
	"context"
	"os"
	"runtime/debug"

	"github.com/errand-dev/errand/cli"
)

func main() {
	os.Exit(cli.Main(context.Background(), cli.Options{Version: version(), Args: os.Args[1:], Wiring: wiring()}))
}

// version is the module's, or the commit that this was built from.
func version() string {
	build, ok := debug.ReadBuildInfo()
	if !ok {
		return "unknown"
	}
	if v := build.Main.Version; v != "" && v != "(devel)" {
		return v
	}
	for _, s := range build.Settings {
		if s.Key == "vcs.revision" && len(s.Value) >= 12 {
			return "devel-" + s.Value[:12]
		}
	}
	return "devel"
}
