//go:build linux

package oci

import (
	"context"
	"fmt"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/errand-dev/errand/guest/guesttest"
	"github.com/errand-dev/errand/image"
	"github.com/errand-dev/errand/machine"
	"github.com/errand-dev/errand/machine/cgroup"
	"github.com/errand-dev/errand/machine/machinetest"
	"github.com/errand-dev/errand/machine/mount"
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

// need ends a test that this host cannot run; under CI that is a failure.
func need(t *testing.T, engine string) {
	t.Helper()
	if testing.Short() {
		t.Skip("machines are not for -short")
	}
	guesttest.Root(t)
	guesttest.Program(t, "errand-guest")
	guesttest.Program(t, "runsc")
	if engine == Runc && (Options{}).withDefaults().Runc == "" {
		guesttest.Lacking(t, "this test needs runc in PATH")
	}
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
			return l.Kill(context.Background())
		},
		Processor: charged,
		Leftovers: leftovers,
	}
}

// charged reads the processor time of the machine's control group.
func charged(m machine.Machine) (time.Duration, error) {
	own := m.(*Machine)
	l, err := own.driver.loadLive(own.id)
	if err != nil {
		return 0, err
	}
	host := own.driver.cgroups
	if host.Version == 1 {
		data, err := os.ReadFile(filepath.Join(host.Root, "cpuacct", l.Cgroup, "cpuacct.usage"))
		if err != nil {
			return 0, err
		}
		nanoseconds, err := strconv.ParseInt(strings.TrimSpace(string(data)), 10, 64)
		return time.Duration(nanoseconds), err
	}
	data, err := os.ReadFile(filepath.Join(host.Root, l.Cgroup, "cpu.stat"))
	if err != nil {
		return 0, err
	}
	var microseconds int64
	_, err = fmt.Sscanf(string(data), "usage_usec %d", &microseconds)
	return time.Duration(microseconds) * time.Microsecond, err
}

func openIn(dir string) (*Driver, error) {
	images, err := openImages()
	if err != nil {
		return nil, err
	}
	guest, err := guesttest.Find("errand-guest")
	if err != nil {
		return nil, err
	}
	runsc, err := guesttest.Find("runsc")
	if err != nil {
		return nil, err
	}
	return New(Options{Dir: dir, Images: images, Guest: guest, Runsc: runsc})
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
		points, err := mount.Under(at)
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
	groups, err := filepath.Glob("/sys/fs/cgroup/*/" + cgroup.Parent + "/" + filepath.Base(d.run) + "-*")
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
