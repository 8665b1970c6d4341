//go:build linux

package oci

import (
	"io/fs"
	"path"
	"slices"
	"testing"

	"github.com/errand-dev/errand/machine"
	"github.com/errand-dev/errand/machine/mount"
)

// TestChangesAreWhatWasWritten writes on a machine, keeps its disk, and writes
// again: each time the files since the base are shown, and no others.
func TestChangesAreWhatWasWritten(t *testing.T) {
	for _, engine := range []string{GVisor, Runc} {
		t.Run(engine, func(t *testing.T) {
			need(t, engine)
			d := testDriver(t)
			m := mustCreate(t, d, "m1", machine.Spec{Engine: engine})
			changes := func() map[string]string {
				t.Helper()
				if err := m.(machine.Hibernator).Hibernate(t.Context()); err != nil {
					t.Fatal(err)
				}
				found := map[string]string{}
				err := m.(machine.Changes).Changes(t.Context(), func(at string, written fs.FS) error {
					return fs.WalkDir(written, ".", func(name string, e fs.DirEntry, err error) error {
						if err == nil && e.Type().IsRegular() && path.Base(name)[0] == 'w' {
							b, err := fs.ReadFile(written, name)
							found[path.Join(at, name)] = string(b)
							return err
						}
						return err
					})
				})
				if err != nil {
					t.Fatal(err)
				}
				return found
			}
			run(t, m, "printf one > /root/w1; mkdir /opt/d; printf two > /opt/d/w2; ln -s /etc/shadow /root/w3")
			if got := changes(); len(got) != 2 || got["/root/w1"] != "one" || got["/opt/d/w2"] != "two" {
				t.Errorf("written are %v", got)
			}
			if err := m.(machine.Snapshotter).Snapshot(t.Context(), "aa-01"); err != nil {
				t.Fatal(err)
			}
			m = mustCreate(t, d, "m1", machine.Spec{Engine: engine})
			run(t, m, "printf three > /root/w4")
			if got := changes(); len(got) != 1 || got["/root/w4"] != "three" {
				t.Errorf("after the snapshot written are %v", got)
			}
			m = mustCreate(t, d, "m1", machine.Spec{Engine: engine})
			if got := run(t, m, "cat /root/w1 /root/w4"); got != "onethree" {
				t.Errorf("woken, the machine has %q", got)
			}
			points, err := mount.Under(d.run)
			if err != nil || slices.ContainsFunc(points, func(p string) bool { return path.Base(path.Dir(p)) == "look" }) {
				t.Errorf("still mounted are %v, %v", points, err)
			}
		})
	}
}
