package files

import (
	"encoding/binary"
	"encoding/json"
	"io"
	"maps"
	"os"
	"path"
	"slices"
	"strings"
	"time"

	"golang.org/x/sys/unix"

	"github.com/errand-dev/errand/guest/inside"
	"github.com/errand-dev/errand/guest/wire"
)

// Bounds of a watch.
const (
	maxWatched = 4096 // folders; what is deeper is not seen
	maxPaths   = 200  // of one line; with more, all counts as changed
	gather     = 150 * time.Millisecond
	pollEvery  = 2 * time.Second
)

// Changes is one line that watch prints: what changed since the line before.
type Changes struct {
	Paths []string `json:"paths"`
	// All: more changed than is listed.
	All bool `json:"all,omitempty"`
}

// skipped are folders that nobody watches: too much goes on there.
var skipped = map[string]bool{".git": true, "node_modules": true}

// watch prints what changes below a folder, until its input ends. The first line,
// without a path, says that it watches.
func (c *call) watch() error {
	name, err := inside.Physical(c.root, c.path, true)
	if err != nil {
		return err
	}
	if c.idle != nil {
		c.idle.Stop() // nothing is to come
	}
	stop := make(chan error, 1)
	go func() {
		_, err := io.Copy(io.Discard, c.in)
		stop <- err
	}()
	changed := make(chan string, 1024)
	w, err := newInotify(c.root, name)
	if err != nil || c.poll {
		if w != nil {
			w.file.Close()
		}
		go c.pollAll(c.seen(name), name, changed)
	} else {
		defer w.file.Close()
		go w.read(changed)
	}
	return c.tell(changed, stop)
}

// tell gathers what changed and prints it.
func (c *call) tell(changed <-chan string, stop <-chan error) error {
	out := json.NewEncoder(c.out)
	if err := out.Encode(Changes{Paths: []string{}}); err != nil {
		return err
	}
	paths := map[string]bool{}
	var due <-chan time.Time
	for {
		select {
		case p, ok := <-changed:
			if !ok {
				return nil // the folder is gone
			}
			if len(paths) <= maxPaths {
				paths[p] = true
			}
			if due == nil {
				due = time.After(gather)
			}
		case <-due:
			line := Changes{Paths: slices.Sorted(maps.Keys(paths)), All: len(paths) > maxPaths || paths[""]}
			if line.All {
				line.Paths = []string{}
			}
			if err := out.Encode(line); err != nil {
				return err
			}
			clear(paths)
			due = nil
		case err := <-stop:
			return err
		case <-c.ctx.Done():
			return nil
		}
	}
}

// inotify is the system's own way to tell.
type inotify struct {
	root *os.Root
	file *os.File
	fd   int
	dirs map[int32]string
}

const watched = unix.IN_CREATE | unix.IN_DELETE | unix.IN_MODIFY | unix.IN_ATTRIB | unix.IN_CLOSE_WRITE | unix.IN_MOVED_FROM | unix.IN_MOVED_TO | unix.IN_DELETE_SELF | unix.IN_ONLYDIR | unix.IN_DONT_FOLLOW

func newInotify(root *os.Root, dir string) (*inotify, error) {
	fd, err := unix.InotifyInit1(unix.IN_CLOEXEC | unix.IN_NONBLOCK)
	if err != nil {
		return nil, err
	}
	w := &inotify{root: root, file: os.NewFile(uintptr(fd), "inotify"), fd: fd, dirs: map[int32]string{}}
	if err := w.add(dir); err != nil {
		w.file.Close()
		return nil, err
	}
	w.below(dir)
	return w, nil
}

func (w *inotify) add(dir string) error {
	id, err := unix.InotifyAddWatch(w.fd, path.Join(w.root.Name(), dir), watched)
	if err == nil {
		w.dirs[int32(id)] = dir
	}
	return err
}

// below watches the folders below dir, those that can be.
func (w *inotify) below(dir string) {
	entries, err := readDir(w.root, dir)
	if err != nil {
		return // it went meanwhile, or is not to be read
	}
	for _, e := range entries {
		if len(w.dirs) >= maxWatched {
			return
		}
		if name := path.Join(dir, e.Name()); e.IsDir() && !skipped[e.Name()] && w.add(name) == nil {
			w.below(name)
		}
	}
}

// read passes on what the system tells, until the first folder is gone.
func (w *inotify) read(changed chan<- string) {
	defer close(changed)
	buf := make([]byte, 64<<10)
	for {
		n, err := w.file.Read(buf)
		if err != nil {
			return
		}
		for b := buf[:n]; len(b) >= unix.SizeofInotifyEvent; {
			id, mask := int32(binary.NativeEndian.Uint32(b)), binary.NativeEndian.Uint32(b[4:])
			size := int(binary.NativeEndian.Uint32(b[12:]))
			if len(b) < unix.SizeofInotifyEvent+size {
				break
			}
			name := strings.TrimRight(string(b[unix.SizeofInotifyEvent:unix.SizeofInotifyEvent+size]), "\x00")
			b = b[unix.SizeofInotifyEvent+size:]
			w.event(id, mask, name, changed)
			if len(w.dirs) == 0 {
				return
			}
		}
	}
}

func (w *inotify) event(id int32, mask uint32, name string, changed chan<- string) {
	dir, known := w.dirs[id]
	switch {
	case mask&unix.IN_Q_OVERFLOW != 0:
		changed <- ""
		return
	case mask&unix.IN_IGNORED != 0:
		delete(w.dirs, id)
		return
	case !known || skipped[name] || strings.HasPrefix(name, ".errand-"):
		return
	}
	at := path.Join(dir, name)
	changed <- at
	if mask&unix.IN_ISDIR != 0 && mask&(unix.IN_CREATE|unix.IN_MOVED_TO) != 0 && len(w.dirs) < maxWatched && w.add(at) == nil {
		w.below(at)
		entries, err := readDir(w.root, at)
		if err != nil {
			return // it went meanwhile, which is told by itself
		}
		for _, e := range entries { // made before it was watched
			changed <- path.Join(at, e.Name())
		}
	}
}

// pollAll compares what there is with what there was, again and again. was is from
// before anybody is told that there is somebody who looks.
func (c *call) pollAll(was map[string]string, dir string, changed chan<- string) {
	defer close(changed)
	tick := time.NewTicker(pollEvery)
	defer tick.Stop()
	for {
		select {
		case <-tick.C:
		case <-c.ctx.Done():
			return
		}
		if _, err := c.root.Stat(dir); err != nil {
			return
		}
		is := c.seen(dir)
		for name, tag := range is {
			if was[name] != tag {
				changed <- name
			}
		}
		for name := range was {
			if _, ok := is[name]; !ok {
				changed <- name
			}
		}
		was = is
	}
}

// seen gives a tag of each file below dir, in as many folders as are watched.
func (c *call) seen(dir string) map[string]string {
	all, folders := map[string]string{}, 0
	var look func(string)
	look = func(dir string) {
		if folders++; folders > maxWatched {
			return
		}
		entries, err := readDir(c.root, dir)
		if err != nil {
			return // as if it were empty: it went meanwhile, or is not to be read
		}
		for _, e := range entries {
			if skipped[e.Name()] || strings.HasPrefix(e.Name(), ".errand-") {
				continue
			}
			name := path.Join(dir, e.Name())
			stat, err := e.Info()
			if err != nil {
				continue
			}
			if e.IsDir() {
				all[name] = stat.Mode().String()
				look(name)
				continue
			}
			all[name] = wire.Tag(stat.Size(), stat.ModTime())
		}
	}
	look(dir)
	return all
}
