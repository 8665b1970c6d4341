//go:build linux

package oci

import (
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"time"

	"github.com/errand-dev/errand"
	"github.com/errand-dev/errand/image"
	"github.com/errand-dev/errand/machine"
	"github.com/errand-dev/errand/machine/oci/archive"
	"github.com/errand-dev/errand/machine/volume"
)

// Labels of an exported image say what it was here.
const (
	labelSnapshot = "dev.errand.snapshot" // its key
	labelImage    = "dev.errand.image"    // what it stood on
)

// ExportSnapshot writes the snapshot as an OCI image.
func (d *Driver) ExportSnapshot(ctx context.Context, key machine.SnapshotKey, w io.Writer, o machine.Export) error {
	s, err := d.loadSnapshot(key)
	if err != nil {
		return err
	}
	if len(s.Trees) > 0 && !o.Host {
		return errand.Errorf(errand.Conflict, "host_base",
			"The snapshot stands on this host's own directories (%s), which an archive does not hold unless you say so: export it with the host's directories (--host), or build on an image.", strings.Join(s.Trees, ", "))
	}
	release := d.hold(s.base)
	defer release()
	open := &opened{driver: d}
	defer open.close()
	layers, err := open.layers(s.base)
	if err != nil {
		return fmt.Errorf("reading snapshot %s: %w", key, err)
	}
	img := archive.Image{
		Layers: layers, Env: s.Env, User: s.User, WorkingDir: s.WorkingDir, Created: s.Created, Name: o.Name,
		Labels: map[string]string{labelSnapshot: string(key), labelImage: s.Image},
	}
	if err := archive.Write(ctx, w, img, archive.Options{Temp: d.dir, Room: d.reserve, Progress: o.Progress}); err != nil {
		return fmt.Errorf("exporting snapshot %s: %w", key, err)
	}
	return nil
}

// opened holds the directories of what is exported.
type opened struct {
	driver *Driver
	roots  []*os.Root
}

func (o *opened) close() {
	for _, r := range o.roots {
		r.Close()
	}
}

func (o *opened) open(dir string) (*os.Root, error) {
	root, err := os.OpenRoot(dir)
	if err == nil {
		o.roots = append(o.roots, root)
	}
	return root, err
}

// layers gives the layers of an image made of b: the image's own, one of the
// host's directories where it stands on such, and one for each disk.
func (o *opened) layers(b base) ([]archive.Layer, error) {
	var layers []archive.Layer
	stacks := map[string][]*os.Root{} // by part
	for _, dir := range b.Layers {
		root, err := o.open(dir)
		if err != nil {
			return nil, err
		}
		stacks[rootPart] = append(stacks[rootPart], root)
		layers = append(layers, archive.Layer{Name: "image " + b.Image, Parts: []archive.Part{{At: ".", Stack: slices.Clone(stacks[rootPart])}}})
	}
	host := archive.Layer{Name: "the host's directories"}
	for _, p := range b.parts()[1:] {
		root, err := o.open(p.tree)
		if err != nil {
			return nil, err
		}
		stacks[p.name] = []*os.Root{root}
		host.Parts = append(host.Parts, archive.Part{At: strings.TrimPrefix(p.at, "/"), Stack: slices.Clone(stacks[p.name])})
	}
	if len(host.Parts) > 0 {
		layers = append(layers, host)
	}
	for _, disk := range b.Chain {
		layer, err := o.disk(b, disk, stacks)
		if err != nil {
			return nil, err
		}
		layers = append(layers, layer)
	}
	return layers, nil
}

// disk gives the layer of one disk and puts its directories on stacks.
func (o *opened) disk(b base, disk string, stacks map[string][]*os.Root) (archive.Layer, error) {
	layer := archive.Layer{Name: "disk " + disk}
	root, err := o.driver.openDisk(disk)
	if err != nil {
		return layer, err
	}
	defer root.Close()
	most := volume.Size(o.driver.opts.Limits.Disk)
	if st, err := os.Stat(o.driver.path("disks", disk, volume.FileName)); err == nil {
		most = st.Size()
	}
	var covered []string
	for _, tree := range b.Trees {
		covered = append(covered, filepath.Base(tree))
	}
	for _, p := range b.parts() {
		upper, err := root.OpenRoot(filepath.Join("upper", p.name))
		if errors.Is(err, fs.ErrNotExist) {
			continue // no machine came up on it
		}
		if err != nil {
			return layer, err
		}
		o.roots = append(o.roots, upper)
		stacks[p.name] = append(stacks[p.name], upper)
		part := archive.Part{At: strings.TrimPrefix(p.at, "/"), Stack: slices.Clone(stacks[p.name]), MaxFile: most}
		if p.tree == "" {
			part.At, part.Covered = ".", covered
		}
		layer.Parts = append(layer.Parts, part)
	}
	return layer, nil
}

// ImportSnapshot makes a snapshot of the image in an archive.
func (d *Driver) ImportSnapshot(ctx context.Context, key machine.SnapshotKey, archive io.Reader, progress func(string)) error {
	if err := d.newKey(key); err != nil {
		return err
	}
	img, release, err := d.opts.Images.ImportArchive(ctx, archive, progress)
	if err != nil {
		return err
	}
	defer release() // from here on the snapshot holds the layers
	return d.keepImage(key, img)
}

// KeepImage makes a snapshot of an image that has a name.
func (d *Driver) KeepImage(ctx context.Context, key machine.SnapshotKey, name string, progress func(string)) error {
	if err := d.newKey(key); err != nil {
		return err
	}
	img, err := d.opts.Images.Get(ctx, name, progress)
	if err != nil {
		return err
	}
	return d.keepImage(key, img)
}

func (d *Driver) newKey(key machine.SnapshotKey) error {
	if !keyPattern.MatchString(string(key)) {
		return fmt.Errorf("keeping snapshot: %q is no key: lower-case hex and dashes, at most 80", key)
	}
	_, err := d.loadSnapshot(key)
	switch {
	case err == nil:
		return errand.Errorf(errand.Conflict, "snapshot_exists", "There is a snapshot %s already. Remove it first.", key)
	case isMissing(err):
		return nil
	}
	return err
}

func (d *Driver) keepImage(key machine.SnapshotKey, img image.Image) error {
	d.refs.Lock()
	defer d.refs.Unlock()
	if err := d.newKey(key); err != nil {
		return err
	}
	b := baseOf(img)
	if err := d.standsLocked(b); err != nil {
		return errand.Errorf(errand.Unavailable, "image_swept", "The image was removed while the snapshot was made. Try again. (%w)", err)
	}
	return d.keepLocked(snapshot{base: b, Key: key, Created: time.Now().UTC()})
}

// keepLocked writes a snapshot's record, and sees to it that what it names
// gets to the host's disk.
func (d *Driver) keepLocked(s snapshot) error {
	s.Boot = image.Boot()
	if err := writeJSON(d.snapshotFile(s.Key), s); err != nil {
		return fmt.Errorf("keeping snapshot %s: %w", s.Key, err)
	}
	d.after.Go(func() { d.settle(s.Key, s.base) })
	return nil
}
