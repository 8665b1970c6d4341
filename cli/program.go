package cli

import (
	"context"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"

	"github.com/errand-dev/errand/dockerfile"
	"github.com/errand-dev/errand/machine/buildkit/solver"
)

// beside finds a program that is shipped with this one: beside it or in PATH; ""
// if it is in neither.
func beside(name string) string {
	if runtime.GOOS == "windows" {
		name += ".exe"
	}
	if self, err := os.Executable(); err == nil {
		path := filepath.Join(filepath.Dir(self), name)
		if st, err := os.Stat(path); err == nil && st.Mode().IsRegular() {
			return path
		}
	}
	path, err := exec.LookPath(name)
	if err != nil {
		return ""
	}
	return path
}

// linter gives BuildKit's linter, or nil where it is not installed. What it is
// asked ends with ctx.
func linter(ctx context.Context) dockerfile.Linter {
	path := beside("errand-buildkit")
	if path == "" {
		return nil
	}
	return func(text []byte) ([]dockerfile.Finding, error) { return solver.Program(path).Lint(ctx, text) }
}
