//go:build linux

package oci

import (
	"context"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/errand-dev/errand/image"
	"github.com/errand-dev/errand/machine"
	"github.com/errand-dev/errand/machine/machinetest"
)

func TestMain(m *testing.M) {
	machinetest.Main(subject(GVisor), subject(Runc))
	os.Exit(runTests(m))
}

// imagesVar names the directory of images that all tests of this program and
// the processes it kills share, so that the host image is read once.
const imagesVar = "ERRAND_TEST_IMAGES"

func runTests(m *testing.M) int {
	dir, err := os.MkdirTemp("", "errand-images-")
	if err != nil {
		fmt.Fprintln(os.Stderr, err)
		return 1
	}
	defer os.RemoveAll(dir)
	os.Setenv(imagesVar, dir)
	return m.Run()
}

func openImages() (*image.Store, error) {
	return image.Open(image.Options{Dir: os.Getenv(imagesVar)})
}

func TestGVisor(t *testing.T) { contract(t, GVisor) }
func TestRunc(t *testing.T)   { contract(t, Runc) }

func contract(t *testing.T, engine string) {
	need(t, engine)
	machinetest.Test(t, subject(engine))
}

// built gives the path of a program that `make build` makes.
func built(name string) string {
	for _, dir := range []string{os.Getenv("ERRAND_BIN"), "../../bin"} {
		path, err := filepath.Abs(filepath.Join(dir, name))
		if _, statErr := os.Stat(path); dir != "" && err == nil && statErr == nil {
			return path
		}
	}
	return ""
}

// need ends a test that this host cannot run; under CI that is a failure.
func need(t *testing.T, engine string) {
	t.Helper()
	missing := ""
	switch {
	case testing.Short():
		t.Skip("machines are not for -short")
	case os.Geteuid() != 0:
		missing = "root"
	case built("errand-guest") == "":
		missing = "bin/errand-guest: run make build"
	case engine == GVisor && built("runsc") == "":
		missing = "bin/runsc: run make build"
	case engine == Runc && (Options{}).withDefaults().Runc == "":
		missing = "runc in PATH"
	}
	if missing == "" {
		return
	}
	if os.Getenv("CI") == "true" {
		t.Fatalf("this test needs %s", missing)
	}
	t.Skipf("this test needs %s", missing)
}

func subject(engine string) machinetest.Subject {
	return machinetest.Subject{
		Name: engine,
		Open: func(dir string) (machinetest.Driver, error) { return openIn(dir) },
		Spec: machine.Spec{Engine: engine},
		KillOutside: func(m machine.Machine) error {
			own := m.(*Machine)
			l, err := own.driver.loadLive(own.id)
			if err != nil {
				return err
			}
			return kill(context.Background(), l.PID, l.StartTime)
		},
		Leftovers: leftovers,
	}
}

func openIn(dir string) (*Driver, error) {
	images, err := openImages()
	if err != nil {
		return nil, err
	}
	return New(Options{Dir: dir, Images: images, Guest: built("errand-guest"), Runsc: built("runsc")})
}

// leftovers looks for mounts, processes and cgroups that name dir's machines.
func leftovers(dir string) ([]string, error) {
	images, err := openImages()
	if err != nil {
		return nil, err
	}
	d, err := New(Options{Dir: dir, Images: images, Guest: "/bin/true"})
	if err != nil {
		return nil, err
	}
	defer d.Close()
	var left []string
	for _, at := range []string{d.run, d.dir} {
		points, err := mountsUnder(at)
		if err != nil {
			return nil, err
		}
		left = append(left, points...)
	}
	commands, err := filepath.Glob("/proc/[0-9]*/cmdline")
	if err != nil {
		return nil, err
	}
	for _, file := range commands {
		line, err := os.ReadFile(file)
		if err == nil && (strings.Contains(string(line), d.run) || strings.Contains(string(line), d.dir)) && !strings.Contains(file, fmt.Sprint("/", os.Getpid(), "/")) {
			left = append(left, strings.ReplaceAll(string(line), "\x00", " "))
		}
	}
	groups, err := filepath.Glob("/sys/fs/cgroup/*/" + cgroupParent + "/" + filepath.Base(d.run) + "-*")
	if err != nil {
		return nil, err
	}
	for _, sub := range []string{"machines", "disks", "trash", "locks"} {
		entries, err := os.ReadDir(d.path(sub))
		if err != nil && !os.IsNotExist(err) {
			return nil, err
		}
		for _, e := range entries {
			left = append(left, d.path(sub, e.Name()))
		}
	}
	loops, err := filepath.Glob("/sys/block/loop*/loop/backing_file")
	if err != nil {
		return nil, err
	}
	for _, file := range loops {
		if name, err := os.ReadFile(file); err == nil && strings.Contains(string(name), d.dir) {
			left = append(left, file+": "+string(name))
		}
	}
	return append(left, groups...), nil
}
