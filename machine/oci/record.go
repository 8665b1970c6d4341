//go:build linux

package oci

import (
	"crypto/rand"
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
	"time"

	"github.com/errand-dev/errand"
	"github.com/errand-dev/errand/image"
	"github.com/errand-dev/errand/machine"
)

// base is what a disk stands on: an image, and the frozen disks of snapshots
// above it. It never changes once written.
type base struct {
	Image      string   `json:"image"`                // resolved
	Layers     []string `json:"layers"`               // directories of the image's root, lowest first
	Trees      []string `json:"trees,omitempty"`      // host directories that stand at their own path
	Chain      []string `json:"chain,omitempty"`      // frozen disks, lowest first
	Env        []string `json:"env,omitempty"`        // the image's
	WorkingDir string   `json:"workingDir,omitempty"` // the image's
	User       string   `json:"user,omitempty"`       // the image's
}

func baseOf(img image.Image) base {
	return base{Image: img.Reference, Layers: img.Layers, Trees: img.Trees, Env: img.Env, WorkingDir: img.WorkingDir, User: img.User}
}

// record is what is known of a machine whether it runs or not; it is the file
// machines/<id>/machine.json. What is known only of a running one is in live.
type record struct {
	base
	ID      machine.ID          `json:"id"`
	Engine  string              `json:"engine"`
	Created time.Time           `json:"created"`
	From    machine.SnapshotKey `json:"from,omitempty"`
	Ready   bool                `json:"ready"` // what it stands on is known
	Disk    string              `json:"disk"`  // the writable disk
	Limits  errand.Limits       `json:"limits"`
	// Unbounded says why the disk's limit is not enforced; "" if it is.
	Unbounded string          `json:"unbounded,omitempty"`
	Env       []string        `json:"specEnv,omitempty"`
	Hostname  string          `json:"hostname,omitempty"`
	Mounts    []machine.Mount `json:"mounts,omitempty"`
	// Freeze is a snapshot that was begun: the next to load the record ends it.
	Freeze *freeze `json:"freeze,omitempty"`
}

// freeze is the decision to keep the disk under Key and go on with Next.
type freeze struct {
	Key  machine.SnapshotKey `json:"key"`
	Next string              `json:"next"` // the machine's disk afterwards
}

// wake takes over what a woken machine takes from a new spec.
func (r *record) wake(spec machine.Spec, def errand.Limits) {
	r.Limits = spec.Limits.Or(def)
	r.Env = spec.Env
	r.Mounts = spec.Mounts
	if spec.Hostname != "" {
		r.Hostname = spec.Hostname
	}
	if r.Hostname == "" {
		r.Hostname = string(r.ID)
	}
}

func newDiskID() string { return strings.ToLower(rand.Text()[:16]) }

func (d *Driver) machineDir(id machine.ID) string { return d.path("machines", string(id)) }

// save writes the record. A machine is listed from its first save on.
func (d *Driver) save(r *record) error {
	dir := d.machineDir(r.ID)
	if err := os.MkdirAll(dir, 0o700); err != nil {
		return fmt.Errorf("saving machine %s: %w", r.ID, err)
	}
	if err := writeJSON(filepath.Join(dir, "machine.json"), r); err != nil {
		return fmt.Errorf("saving machine %s: %w", r.ID, err)
	}
	return nil
}

// load reads the record and finishes a snapshot that was cut off. A machine
// that was killed before its first save has a directory and no record: it is
// as good as new.
func (d *Driver) load(id machine.ID) (*record, error) {
	data, err := os.ReadFile(filepath.Join(d.machineDir(id), "machine.json"))
	if errors.Is(err, fs.ErrNotExist) {
		return nil, machine.ErrNotFound
	}
	if err != nil {
		return nil, fmt.Errorf("loading machine %s: %w", id, err)
	}
	var r record
	if err := json.Unmarshal(data, &r); err != nil {
		return nil, fmt.Errorf("loading machine %s: %w", id, err)
	}
	if r.Freeze != nil {
		if err := d.finishFreeze(&r); err != nil {
			return nil, err
		}
	}
	return &r, nil
}

// mkdirs makes directories that may be there.
func mkdirs(mode os.FileMode, dirs ...string) error {
	for _, dir := range dirs {
		if err := os.MkdirAll(dir, mode); err != nil {
			return err
		}
	}
	return nil
}
