package image

import (
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"syscall"
	"time"

	"github.com/google/go-containerregistry/pkg/name"
	"golang.org/x/sys/unix"
)

// An image that was taken in is a manifest in manifests/, whose date is that of
// its last use; it holds on to its layers. A layer that no manifest names, and
// nobody stands on, is swept: it is renamed out of sight at once, so that it is
// there whole or not at all, and removed then. What a pull under way has found
// or made is pinned from before it looks until its manifest is written, and a
// store that another process has open is not swept.

// Kept is an image that the store holds.
type Kept struct {
	Reference string    // with its digest, or "host"
	Layers    []string  // as in Image
	Used      time.Time // when it was last asked for
}

// List gives all images that can be had without a registry.
func (s *Store) List() ([]Kept, error) {
	entries, err := os.ReadDir(s.path("manifests"))
	if err != nil {
		return nil, fmt.Errorf("listing images: %w", err)
	}
	var all []Kept
	for _, e := range entries {
		if filepath.Ext(e.Name()) != ".json" {
			continue
		}
		file := s.path("manifests", e.Name())
		m, used, err := readManifest(file)
		if errors.Is(err, fs.ErrNotExist) {
			continue // removed since it was listed
		}
		if err != nil {
			return nil, fmt.Errorf("listing images: reading %s: %w", file, err)
		}
		k := Kept{Reference: m.Reference, Used: used}
		for _, layer := range m.Layers {
			k.Layers = append(k.Layers, s.path("layers", layer))
		}
		all = append(all, k)
	}
	return all, nil
}

func readManifest(file string) (manifest, time.Time, error) {
	var m manifest
	data, err := os.ReadFile(file)
	if err != nil {
		return m, time.Time{}, err
	}
	st, err := os.Stat(file)
	if err != nil {
		return m, time.Time{}, err
	}
	return m, st.ModTime(), json.Unmarshal(data, &m)
}

// touch notes that an image is used now.
func touch(file string) {
	now := time.Now()
	_ = os.Chtimes(file, now, now) // an image that was just removed is found out by who stands on it
}

// Remove forgets the image of a resolved reference, as List gives it. Its layers
// stay until they are swept. That there is none is no error.
func (s *Store) Remove(reference string) error {
	files, err := filepath.Glob(s.path("manifests", hostPrefix+"*.json"))
	if err != nil {
		return err
	}
	if reference != Host {
		digest, err := name.NewDigest(reference)
		if err != nil {
			return nil
		}
		files = []string{s.manifestFile(digest)}
	}
	for _, file := range files {
		if err := os.Remove(file); err != nil && !errors.Is(err, fs.ErrNotExist) {
			return fmt.Errorf("removing image %s: %w", reference, err)
		}
	}
	return nil
}

// Layer is one layer that was swept.
type Layer struct {
	Name string // of its directory
	Size int64  // bytes on the disk
}

// Sweep removes the layers that neither an image of the store names nor needed,
// which is asked by their directories, and gives them. It does nothing while
// another process has the store open. It can be killed at any moment.
func (s *Store) Sweep(needed func(dir string) bool) ([]Layer, error) {
	s.pinMu.Lock()
	defer s.pinMu.Unlock()
	alone, err := s.alone()
	if err != nil || !alone {
		return nil, err
	}
	defer s.notAlone()
	named, err := s.namedLayers()
	if err != nil {
		return nil, err
	}
	entries, err := os.ReadDir(s.path("layers"))
	if err != nil {
		return nil, fmt.Errorf("sweeping layers: %w", err)
	}
	var gone []Layer
	for _, e := range entries {
		dir := s.path("layers", e.Name())
		if !e.IsDir() || named[e.Name()] || s.pins[e.Name()] > 0 || needed(dir) {
			continue
		}
		size, err := s.Size(dir)
		if err == nil {
			err = s.discard(dir)
		}
		if err != nil {
			return gone, fmt.Errorf("sweeping layer %s: %w", e.Name(), err)
		}
		gone = append(gone, Layer{Name: e.Name(), Size: size})
	}
	return gone, errors.Join(s.sweepNotes(), s.sweepTags(), s.sweepTorn())
}

func (s *Store) namedLayers() (map[string]bool, error) {
	images, err := s.List()
	if err != nil {
		return nil, err
	}
	named := map[string]bool{}
	for _, img := range images {
		for _, dir := range img.Layers {
			named[filepath.Base(dir)] = true
		}
	}
	return named, nil
}

// discard takes a layer out of sight and removes it behind the call. What is
// left of it when we are killed goes as other partial layers do.
func (s *Store) discard(dir string) error {
	p, err := s.newPartial()
	if err != nil {
		return err
	}
	if err := os.Rename(dir, filepath.Join(p.home, "gone")); err != nil {
		p.discard()
		return err
	}
	s.after.Go(p.discard)
	return nil
}

// sweepNotes removes the small files beside layers that are there no more.
func (s *Store) sweepNotes() error {
	for _, suffix := range []string{unsynced, sizeNote} {
		notes, err := filepath.Glob(s.path("layers", "*"+suffix))
		if err != nil {
			return err
		}
		for _, note := range notes {
			layer := strings.TrimSuffix(note, suffix)
			if s.pins[filepath.Base(layer)] > 0 {
				continue // it is about to appear
			}
			if _, err := os.Lstat(layer); errors.Is(err, fs.ErrNotExist) {
				os.Remove(note)
			}
		}
	}
	return nil
}

// sweepTags removes the tags of images that are there no more.
func (s *Store) sweepTags() error {
	entries, err := os.ReadDir(s.path("tags"))
	if err != nil {
		return fmt.Errorf("sweeping tags: %w", err)
	}
	for _, e := range entries {
		file := s.path("tags", e.Name())
		tag := strings.LastIndex(e.Name(), "=")
		if tag < 0 {
			continue // of no tag
		}
		digest, err := os.ReadFile(file)
		if err == nil {
			_, err = os.Lstat(s.path("manifests", e.Name()[:tag]+fileName("@"+string(digest))+".json"))
		}
		if errors.Is(err, fs.ErrNotExist) {
			err = os.Remove(file)
		}
		if err != nil && !errors.Is(err, fs.ErrNotExist) {
			return fmt.Errorf("sweeping tags: %w", err)
		}
	}
	return nil
}

// tornFor is how old what WriteFile leaves when it is killed must be to be known
// from what it is writing.
const tornFor = time.Hour

// sweepTorn removes the files that a killed process had begun to write.
func (s *Store) sweepTorn() error {
	for _, dir := range []string{"layers", "manifests", "tags"} {
		files, err := filepath.Glob(s.path(dir, newPrefix+"*"))
		if err != nil {
			return err
		}
		for _, file := range files {
			if st, err := os.Lstat(file); err == nil && time.Since(st.ModTime()) > tornFor {
				os.Remove(file)
			}
		}
	}
	return nil
}

// pin keeps a layer from being swept, there or not yet.
func (s *Store) pin(layers ...string) (unpin func()) {
	layers = slices.Clone(layers)
	count := func(by int) {
		s.pinMu.Lock()
		defer s.pinMu.Unlock()
		for _, layer := range layers {
			if s.pins[layer] += by; s.pins[layer] == 0 {
				delete(s.pins, layer)
			}
		}
	}
	count(1)
	return func() { count(-1) }
}

// enter notes that this process has the store open.
func (s *Store) enter() (err error) {
	if s.open, err = os.OpenFile(s.path("open"), os.O_CREATE|os.O_RDWR, 0o600); err != nil {
		return err
	}
	return unix.Flock(int(s.open.Fd()), unix.LOCK_SH)
}

// alone says whether no other process has the store open, and keeps others out
// until notAlone. Two stores of one process are as two processes.
func (s *Store) alone() (bool, error) {
	err := unix.Flock(int(s.open.Fd()), unix.LOCK_EX|unix.LOCK_NB)
	if errors.Is(err, unix.EWOULDBLOCK) {
		// The change of a lock is not one step: ours may be lost.
		return false, unix.Flock(int(s.open.Fd()), unix.LOCK_SH)
	}
	return err == nil, err
}

func (s *Store) notAlone() {
	if err := unix.Flock(int(s.open.Fd()), unix.LOCK_SH); err != nil {
		s.opts.Log.Warn("opening image store to others", "err", err)
	}
}

// sizeNote ends the name of the file that says what a layer takes on the disk.
const sizeNote = ".size"

// Size gives how many bytes a layer takes on the disk, by its directory. It is
// measured once; layers do not change.
func (s *Store) Size(dir string) (int64, error) {
	if text, err := os.ReadFile(dir + sizeNote); err == nil {
		if size, err := strconv.ParseInt(string(text), 10, 64); err == nil {
			return size, nil
		}
	}
	var size int64
	seen := map[uint64]bool{} // files with several names
	err := filepath.WalkDir(dir, func(_ string, e fs.DirEntry, err error) error {
		if err != nil {
			return err
		}
		st, err := e.Info()
		if err != nil {
			return err
		}
		sys, ok := st.Sys().(*syscall.Stat_t)
		if !ok || sys.Nlink > 1 && !e.IsDir() && seen[sys.Ino] {
			return nil
		}
		if sys.Nlink > 1 && !e.IsDir() {
			seen[sys.Ino] = true
		}
		size += sys.Blocks * 512
		return nil
	})
	if err != nil {
		return 0, fmt.Errorf("measuring layer: %w", err)
	}
	return size, WriteFile(dir+sizeNote, strconv.AppendInt(nil, size, 10))
}
