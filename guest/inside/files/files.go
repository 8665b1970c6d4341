// Package files is what the guest's program does with files for the server beyond
// what the line itself offers: contents of any size, folders as archives, and what
// changes. Each call is one process, as the user that the server names, with the
// content on its standard input or output.
//
// Two ideas. A path is looked up within a root and leaves it by no link, as in all
// of the guest's calls. And what comes in is put beside its place until it is
// whole, which its last byte says: an input that was cut off, or an archive with
// one bad entry, changes nothing.
//
// It keeps nothing and serves nobody by itself.
package files

import (
	"context"
	"crypto/rand"
	"encoding/json"
	"errors"
	"flag"
	"fmt"
	"io"
	"io/fs"
	"os"
	"os/signal"
	"path"
	"strings"
	"sync"
	"syscall"
	"time"

	"golang.org/x/sys/unix"

	"github.com/errand-dev/errand/guest/inside"
	"github.com/errand-dev/errand/guest/wire"
)

// call is one call of the program.
type call struct {
	ctx    context.Context
	root   *os.Root
	dir    string // root's own
	path   string // of the file
	to     string
	format string
	match  string
	most   int64 // bytes
	force  bool
	poll   bool
	in     io.Reader
	out    io.Writer
	idle   *time.Timer // fires when no input has come for too long; nil: never

	mu     sync.Mutex
	staged string // what abandon removes; "" for nothing
}

// maxIdle is how long an input may say nothing: the server that sent it may have
// been killed, and nobody closes it then.
const maxIdle = 2 * time.Minute

// stage notes what is to go if the call is ended, and "" when it stays.
func (c *call) stage(name string) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.staged = name
}

// abandon takes back what is half done. A read of the input cannot be interrupted,
// so the process ends here.
func (c *call) abandon() {
	c.mu.Lock() // for good: nothing is renamed any more
	if c.staged != "" {
		c.root.RemoveAll(c.staged)
	}
	os.Exit(1)
}

// settle makes what was staged stay.
func (c *call) settle(do func() error) error {
	c.mu.Lock()
	defer c.mu.Unlock()
	err := do()
	if err == nil {
		c.staged = ""
	}
	return err
}

// Main runs one call. What went wrong is said on standard error, as a wire.Fault
// alone on a line, and ends the process with code 1.
//
//	files put|pack|unpack|remove|move|folder|watch -root DIR -path PATH …
func Main(args []string, in io.Reader, out io.Writer) error {
	if len(args) == 0 {
		return errors.New("say put, pack, unpack, remove, move, folder or watch")
	}
	ctx, stop := signal.NotifyContext(context.Background(), unix.SIGTERM, unix.SIGINT, unix.SIGHUP)
	defer stop()
	unix.Umask(0o022)
	c := &call{ctx: ctx, in: in, out: out}
	c.idle = time.AfterFunc(maxIdle, c.abandon)
	defer c.idle.Stop()
	defer context.AfterFunc(ctx, c.abandon)()
	flags := flag.NewFlagSet("files", flag.ContinueOnError)
	flags.StringVar(&c.dir, "root", "/", "the directory that no path leaves")
	flags.StringVar(&c.path, "path", ".", "the file, relative to root")
	flags.StringVar(&c.to, "to", "", "where it is moved")
	flags.StringVar(&c.format, "format", "tar.gz", "of an archive: tar, tar.gz or zip")
	flags.StringVar(&c.match, "match", "", "the tag that the file must have, - for none at all")
	flags.Int64Var(&c.most, "most", 1<<30, "how many bytes are taken")
	flags.BoolVar(&c.force, "force", false, "replace what is there")
	flags.BoolVar(&c.poll, "poll", false, "watch without the system's help")
	if err := flags.Parse(args[1:]); err != nil {
		return err
	}
	err := c.run(args[0])
	if err == nil {
		return nil
	}
	text, jsonErr := json.Marshal(inside.Fault(err))
	if jsonErr != nil {
		return jsonErr
	}
	fmt.Fprintf(os.Stderr, "%s\n", text)
	os.Exit(1)
	return nil
}

func (c *call) run(what string) (err error) {
	does := map[string]func() error{
		"put": c.put, "pack": c.pack, "unpack": c.unpack, "remove": c.remove, "move": c.move, "folder": c.folder, "watch": c.watch,
	}
	do := does[what]
	if do == nil {
		return refuse(wire.CodeInvalid, "there is no %q", what)
	}
	if c.root, err = os.OpenRoot(c.dir); err != nil {
		return err
	}
	defer c.root.Close()
	return do()
}

func refuse(code, format string, args ...any) error {
	return &wire.Fault{Code: code, Message: fmt.Sprintf(format, args...)}
}

// whole gives what comes before the last byte, and fails at an end without it.
type whole struct {
	ctx  context.Context
	in   io.Reader
	idle *time.Timer
	left int64 // bytes that are still taken
	held bool  // last was read and not given yet
	last byte
	end  bool
}

func (w *whole) Read(p []byte) (int, error) {
	for len(p) > 0 {
		if err := w.ctx.Err(); err != nil {
			return 0, err
		}
		if w.end {
			if !w.held || w.last != wire.Whole {
				return 0, refuse(wire.CodeInvalid, "it was cut off")
			}
			return 0, io.EOF
		}
		n, err := w.in.Read(p)
		if w.idle != nil {
			w.idle.Reset(maxIdle)
		}
		if err != nil && !errors.Is(err, io.EOF) {
			return 0, err
		}
		w.end = err != nil
		if n == 0 {
			continue
		}
		// One byte is always held back: it may be the last.
		last := p[n-1]
		given := n - 1
		if w.held {
			copy(p[1:], p[:n-1])
			p[0], given = w.last, n
		}
		w.held, w.last = true, last
		if w.left -= int64(given); w.left < 0 {
			return 0, refuse(wire.CodeTooLarge, "it has more bytes than are taken")
		}
		if given > 0 {
			return given, nil
		}
	}
	return 0, nil
}

func (c *call) input() *whole { return &whole{ctx: c.ctx, in: c.in, idle: c.idle, left: c.most} }

// parents makes the folder that name is to be in.
func (c *call) parents(name string) error {
	dir := path.Dir(name)
	err := c.root.MkdirAll(dir, 0o755)
	if stat, e := c.root.Stat(dir); e == nil && !stat.IsDir() {
		return refuse(wire.CodeInvalid, "%s is not a folder", dir)
	}
	return err
}

// beside gives a fresh name in the same folder.
func beside(name string) string { return path.Join(path.Dir(name), ".errand-"+rand.Text()) }

// put makes the input a file's content, by renaming, and prints what it is then.
func (c *call) put() (err error) {
	name, err := inside.Physical(c.root, c.path, true)
	if err != nil {
		return err
	}
	mode := fs.FileMode(0o644)
	was, err := c.root.Lstat(name)
	switch {
	case errors.Is(err, fs.ErrNotExist) || errors.Is(err, syscall.ENOTDIR):
	case err != nil:
		return err
	case !was.Mode().IsRegular():
		return refuse(wire.CodeInvalid, "%s is not a regular file", name)
	default:
		mode = was.Mode().Perm()
	}
	if err := c.matches(name); err != nil {
		return err
	}
	if err := c.parents(name); err != nil {
		return err
	}
	staged := beside(name)
	c.stage(staged)
	f, err := c.root.OpenFile(staged, os.O_WRONLY|os.O_CREATE|os.O_EXCL, 0o600)
	if err != nil {
		return err
	}
	defer func() {
		if err != nil {
			c.root.Remove(staged)
		}
	}()
	_, err = io.Copy(f, c.input())
	if err == nil {
		err = f.Chmod(mode)
	}
	if err := errors.Join(err, f.Close()); err != nil {
		return err
	}
	if err := c.matches(name); err != nil { // it took a while
		return err
	}
	if err := c.settle(func() error { return c.root.Rename(staged, name) }); err != nil {
		return err
	}
	return c.say(name)
}

// matches refuses to replace what is not as the caller knows it.
func (c *call) matches(name string) error {
	if c.match == "" {
		return nil
	}
	stat, err := c.root.Lstat(name)
	switch {
	case errors.Is(err, fs.ErrNotExist):
		if c.match == "-" {
			return nil
		}
		return refuse(wire.CodeMismatch, "%s is gone", name)
	case err != nil:
		return err
	case c.match == "-":
		return refuse(wire.CodeMismatch, "%s is there already", name)
	case wire.Tag(stat.Size(), stat.ModTime()) != c.match:
		return refuse(wire.CodeMismatch, "%s was changed meanwhile", name)
	}
	return nil
}

// say prints what a file is now.
func (c *call) say(name string) error {
	stat, err := c.root.Lstat(name)
	if err != nil {
		return err
	}
	return json.NewEncoder(c.out).Encode(wire.Stat{Path: name, Size: stat.Size(), Mode: stat.Mode(), ModTime: stat.ModTime().UTC()})
}

// own is Physical of what may not be the root itself.
func (c *call) own(name string, followLast bool) (string, error) {
	at, err := inside.Physical(c.root, name, followLast)
	if err == nil && at == "." {
		err = refuse(wire.CodeInvalid, "that is the folder itself")
	}
	return at, err
}

// remove removes a file, or a folder with all that is in it. Of a link it removes
// the link.
func (c *call) remove() error {
	name, err := c.own(c.path, false)
	if err != nil {
		return err
	}
	if _, err := c.root.Lstat(name); err != nil {
		return err
	}
	return c.root.RemoveAll(name)
}

// move renames a file or folder, over a file only with force.
func (c *call) move() error {
	from, err := c.own(c.path, false)
	if err != nil {
		return err
	}
	to, err := c.own(c.to, false)
	if err != nil {
		return err
	}
	if to == from || strings.HasPrefix(to, from+"/") {
		return refuse(wire.CodeInvalid, "%s cannot be moved into itself", from)
	}
	if _, err := c.root.Lstat(from); err != nil {
		return err
	}
	if _, err := c.root.Lstat(to); err == nil && !c.force {
		return refuse(wire.CodeExist, "%s is there already", to)
	}
	if err := c.parents(to); err != nil {
		return err
	}
	if err := c.root.Rename(from, to); err != nil {
		return err
	}
	return c.say(to)
}

// folder makes a folder and those above it.
func (c *call) folder() error {
	name, err := c.own(c.path, true)
	if err != nil {
		return err
	}
	if err := c.root.MkdirAll(name, 0o755); err != nil {
		return err
	}
	return c.say(name)
}

// readDir gives the entries of a folder in root, in no order.
func readDir(root *os.Root, dir string) ([]fs.DirEntry, error) {
	f, err := root.Open(dir)
	if err != nil {
		return nil, err
	}
	defer f.Close()
	return f.ReadDir(-1)
}
