//go:build linux

package oci

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"syscall"

	"github.com/errand-dev/errand/image"
	"github.com/errand-dev/errand/machine"
	"github.com/errand-dev/errand/machine/volume"
)

// ListSnapshots gives all snapshots, oldest first.
func (d *Driver) ListSnapshots(ctx context.Context) ([]machine.Snapshot, error) {
	keys, err := d.snapshotKeys()
	if err != nil {
		return nil, err
	}
	var list []machine.Snapshot
	for _, key := range keys {
		s, err := d.loadSnapshot(key)
		if isMissing(err) {
			continue // removed since it was listed, or hollow
		}
		if err != nil {
			return nil, err
		}
		layers, err := d.layersOf(s.base)
		if err != nil {
			return nil, fmt.Errorf("measuring snapshot %s: %w", key, err)
		}
		list = append(list, machine.Snapshot{Key: key, Created: s.Created, Image: s.Image, Layers: layers})
	}
	slices.SortFunc(list, func(a, b machine.Snapshot) int { return a.Created.Compare(b.Created) })
	return list, nil
}

// layersOf lists what b is made of, lowest first.
func (d *Driver) layersOf(b base) ([]machine.Layer, error) {
	var layers []machine.Layer
	for _, dir := range b.Layers {
		size, err := d.opts.Images.Size(dir)
		if err != nil && !errors.Is(err, fs.ErrNotExist) {
			return nil, err
		}
		layers = append(layers, machine.Layer{ID: filepath.Base(dir), Kind: machine.LayerImage, Size: size})
	}
	for _, tree := range b.Trees {
		layers = append(layers, machine.Layer{ID: tree, Kind: machine.LayerHost})
	}
	for _, disk := range b.Chain {
		layer, err := d.diskLayer(disk, true)
		if err != nil {
			return nil, err
		}
		layers = append(layers, layer)
	}
	return layers, nil
}

// sizeName is the file beside a frozen disk's plain directories that says what
// they take, so that they are measured once.
const sizeName = "size"

// diskLayer measures a disk. A file system of its own is one sparse file.
func (d *Driver) diskLayer(disk string, frozen bool) (machine.Layer, error) {
	layer := machine.Layer{ID: disk, Kind: machine.LayerDisk}
	if st, err := os.Stat(d.path("disks", disk, volume.FileName)); err == nil {
		layer.Size = allocated(st)
		return layer, nil
	}
	noted := d.path("disks", disk, sizeName)
	if text, err := os.ReadFile(noted); err == nil {
		if layer.Size, err = strconv.ParseInt(string(text), 10, 64); err == nil {
			return layer, nil
		}
		layer.Size = 0 // torn, by a version that wrote it in place: it is measured again
	}
	if !frozen {
		return layer, nil // it grows; to measure it is work in proportion to its size
	}
	err := filepath.WalkDir(d.path("disks", disk), func(_ string, e fs.DirEntry, err error) error {
		if err != nil {
			return err
		}
		st, err := e.Info()
		if err == nil {
			layer.Size += allocated(st)
		}
		return err
	})
	if err == nil {
		err = image.WriteFile(noted, strconv.AppendInt(nil, layer.Size, 10))
	}
	if errors.Is(err, fs.ErrNotExist) {
		return layer, nil // removed meanwhile
	}
	return layer, err
}

// Stored says what is kept here.
func (d *Driver) Stored(ctx context.Context) (machine.Stored, error) {
	s := machine.Stored{Reserve: d.opts.Reserve}
	var err error
	if s.Snapshots, err = d.ListSnapshots(ctx); err != nil {
		return s, err
	}
	if s.Machines, err = d.storedMachines(); err != nil {
		return s, err
	}
	images, err := d.opts.Images.List()
	if err != nil {
		return s, err
	}
	for _, img := range images {
		layers, err := d.layersOf(base{Layers: img.Layers})
		if err != nil {
			return s, fmt.Errorf("measuring image %s: %w", img.Reference, err)
		}
		s.Images = append(s.Images, machine.StoredImage{Reference: img.Reference, Used: img.Used, Layers: layers})
	}
	s.Free, err = image.Free(d.dir)
	return s, err
}

func (d *Driver) storedMachines() ([]machine.StoredMachine, error) {
	records, err := d.records()
	if err != nil {
		return nil, err
	}
	var all []machine.StoredMachine
	for _, r := range records {
		layers, err := d.layersOf(r.base)
		if err != nil {
			return nil, fmt.Errorf("measuring machine %s: %w", r.ID, err)
		}
		if r.Disk != "" {
			own, err := d.diskLayer(r.Disk, false)
			if err != nil {
				return nil, fmt.Errorf("measuring machine %s: %w", r.ID, err)
			}
			layers = append(layers, own)
		}
		all = append(all, machine.StoredMachine{ID: r.ID, From: r.From, Running: (&Machine{driver: d, id: r.ID}).running(), Layers: layers})
	}
	return all, nil
}

// records reads what is known of all machines, as it is on the disk.
func (d *Driver) records() ([]record, error) {
	handles, err := d.List(context.Background())
	if err != nil {
		return nil, err
	}
	var all []record
	for _, h := range handles {
		data, err := os.ReadFile(filepath.Join(d.machineDir(h.ID), "machine.json"))
		if errors.Is(err, fs.ErrNotExist) {
			continue
		}
		var r record
		if err := errors.Join(err, json.Unmarshal(data, &r)); err != nil {
			return nil, fmt.Errorf("reading what machine %s needs: %w", h.ID, err)
		}
		all = append(all, r)
	}
	return all, nil
}

func allocated(st fs.FileInfo) int64 {
	if sys, ok := st.Sys().(*syscall.Stat_t); ok {
		return sys.Blocks * 512
	}
	return 0
}

// RemoveImage forgets an image; its layers go with the next sweep in which
// nothing stands on them.
func (d *Driver) RemoveImage(ctx context.Context, reference string) error {
	return d.opts.Images.Remove(reference)
}

// RemoveSnapshot forgets key; its disks go when nothing stands on them.
func (d *Driver) RemoveSnapshot(ctx context.Context, key machine.SnapshotKey) error {
	if !keyPattern.MatchString(string(key)) {
		return nil
	}
	d.refs.Lock() // against who reads the record to write it anew
	err := os.Remove(d.snapshotFile(key))
	d.refs.Unlock()
	if err != nil && !errors.Is(err, fs.ErrNotExist) {
		return fmt.Errorf("removing snapshot %s: %w", key, err)
	}
	_, err = d.sweepDisks()
	return err
}

// Sweep removes the disks and the images' layers that nothing leads to.
func (d *Driver) Sweep(ctx context.Context) ([]machine.Layer, error) {
	gone, err := d.sweepDisks()
	if err != nil {
		return gone, err
	}
	d.refs.Lock()
	defer d.refs.Unlock()
	needed, err := d.needed()
	if err != nil {
		return gone, err
	}
	layers, err := d.opts.Images.Sweep(func(dir string) bool { return needed[dir] })
	for _, l := range layers {
		gone = append(gone, machine.Layer{ID: l.Name, Kind: machine.LayerImage, Size: l.Size})
	}
	return gone, err
}

// sweepDisks removes the disks that no machine and no snapshot names.
func (d *Driver) sweepDisks() ([]machine.Layer, error) {
	d.refs.Lock()
	defer d.refs.Unlock()
	needed, err := d.needed()
	if err != nil {
		return nil, err
	}
	entries, err := os.ReadDir(d.path("disks"))
	if err != nil {
		return nil, fmt.Errorf("sweeping disks: %w", err)
	}
	if err := d.cool(func(disk string) bool { return needed[disk] }); err != nil {
		return nil, fmt.Errorf("sweeping disks: %w", err)
	}
	var gone []machine.Layer
	for _, e := range entries {
		if needed[e.Name()] {
			continue
		}
		layer, err := d.diskLayer(e.Name(), false)
		if err == nil {
			err = d.discard(d.path("disks", e.Name()))
		}
		if err != nil {
			return gone, fmt.Errorf("sweeping disks: %w", err)
		}
		gone = append(gone, layer)
	}
	return gone, nil
}

// needed gives the disks and the images' layers that somebody stands on or
// reads. The caller holds refs.
func (d *Driver) needed() (map[string]bool, error) {
	needed := map[string]bool{}
	for name := range d.holds {
		needed[name] = true
	}
	need := func(b base) {
		for _, name := range slices.Concat(b.Layers, b.Chain) {
			needed[name] = true
		}
	}
	records, err := d.records()
	if err != nil {
		return nil, err
	}
	for _, r := range records {
		need(r.base)
		needed[r.Disk] = true
		if r.Freeze != nil {
			needed[r.Freeze.Next] = true
		}
	}
	keys, err := d.snapshotKeys()
	if err != nil {
		return nil, err
	}
	for _, key := range keys {
		s, err := d.loadSnapshot(key)
		if isMissing(err) {
			continue // of another boot, and hollow
		}
		if err != nil {
			return nil, err
		}
		need(s.base)
	}
	return needed, nil
}
