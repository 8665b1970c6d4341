// Package guesttest finds what tests of machines stand on: the programs that
// `make build` makes, and a host that can run them.
//
// A test that lacks something is skipped with a sentence that says what it
// needs; under CI=true it fails, since there all of it is installed. The package
// starts nothing.
package guesttest

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"testing"
)

// Program gives the path that Find does. Without the program the test ends as
// Lacking says.
func Program(t testing.TB, name string) string {
	t.Helper()
	path, err := Find(name)
	if err != nil {
		Lacking(t, "%v", err)
	}
	return path
}

// Find gives the absolute path of a built program, from $ERRAND_BIN or the
// repository's bin.
func Find(name string) (string, error) {
	dir := os.Getenv("ERRAND_BIN")
	if dir == "" {
		top, err := root()
		if err != nil {
			return "", err
		}
		dir = filepath.Join(top, "bin")
	}
	path, err := filepath.Abs(filepath.Join(dir, name))
	if err != nil {
		return "", err
	}
	if _, err := os.Stat(path); err != nil {
		return "", fmt.Errorf("%s is missing: run make build", path)
	}
	return path, nil
}

// Root ends a test that is not run by root as Lacking says.
func Root(t testing.TB) {
	t.Helper()
	if os.Geteuid() != 0 {
		Lacking(t, "this test needs root")
	}
}

// Lacking skips a test for what the host lacks, and fails it under CI=true.
func Lacking(t testing.TB, format string, args ...any) {
	t.Helper()
	if os.Getenv("CI") == "true" {
		t.Fatalf(format, args...)
	}
	t.Skipf(format, args...)
}

// root gives the repository's own directory: the nearest one from the working
// directory up that holds go.mod.
func root() (string, error) {
	dir, err := os.Getwd()
	if err != nil {
		return "", err
	}
	for {
		if _, err := os.Stat(filepath.Join(dir, "go.mod")); err == nil {
			return dir, nil
		}
		up := filepath.Dir(dir)
		if up == dir {
			return "", errors.New("this test is not run within the repository")
		}
		dir = up
	}
}
