// Package files lets people look at and change the files of agents' machines:
// browse, view, edit, download, upload, also folders as archives, watch for
// changes, and take what an agent left for them.
//
// All of it is done in the machine, over the guest's line or by the guest's own
// program as the environment's user, within one root that no path leaves: neither
// by "..", nor by a link. The host opens no file that a machine names. A machine
// that sleeps is woken, and stays awake for as long as a call takes.
//
// What is shown as text, and names, have passed the redactor. What is downloaded is
// the file as it is, as by ssh: programs go on to use it.
//
// Routes and forms are package server's; it serves nobody by itself.
package files

import (
	"bytes"
	"cmp"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"net/http"
	"path"
	"slices"
	"strings"
	"time"
	"unicode/utf8"

	"github.com/errand-dev/errand"
	"github.com/errand-dev/errand/api"
	"github.com/errand-dev/errand/guest"
	"github.com/errand-dev/errand/guest/wire"
	"github.com/errand-dev/errand/presence"
	"github.com/errand-dev/errand/runner"
)

// Bounds of one call, in bytes.
const (
	MaxUpload = 2 << 30 // of a file's content or an archive, and of what is in that
	maxText   = 1 << 20 // of a file that is shown
)

// callLimit is how long one call in a machine may take.
const callLimit = time.Hour

// Roots that paths can be relative to.
const (
	Workspace = "/workspace"
	Machine   = "/"
)

// Files is the way to all agents' files. It may be used from many goroutines.
type Files struct {
	Runner *runner.Runner
	Links  *Links
	URL    string // how people reach the server
}

// Place is a file or folder in an agent's machine.
type Place struct {
	Who   errand.Caller
	Agent errand.AgentID
	Root  string // Workspace, or Machine
	Path  string // relative to it; "" is the root itself
}

// At makes a Place of what a request says. A path that is absolute is taken if it
// is below the root.
func (f *Files) At(ctx context.Context, who errand.Caller, agent, root, name string) (Place, error) {
	id, err := errand.ParseAgentID(agent)
	if err != nil {
		return Place{}, err
	}
	if _, err := f.Runner.Agent(ctx, who, id); err != nil {
		return Place{}, err
	}
	p := Place{Who: who, Agent: id, Root: cmp.Or(root, Workspace), Path: name}
	if p.Root != Workspace && p.Root != Machine {
		return p, errand.Errorf(errand.Invalid, "validation_error", "root is %s or %s, not %.80q.", Workspace, Machine, root)
	}
	if p.Path == p.Root || strings.HasPrefix(p.Path, strings.TrimSuffix(p.Root, "/")+"/") {
		p.Path = strings.TrimLeft(strings.TrimPrefix(p.Path, p.Root), "/")
	}
	if strings.Contains(p.Path, "\x00") || len(p.Path) > 4096 {
		return p, errand.Errorf(errand.Invalid, "validation_error", "That is no path.")
	}
	return p, p.inside(p.Path)
}

// inside refuses what leaves the root by its text alone; links are the guest's to
// see.
func (p Place) inside(name string) error {
	if path.IsAbs(name) || name != "" && slices.Contains(strings.Split(name, "/"), "..") {
		return errand.Errorf(errand.Invalid, "path_outside", "The path %.200q leaves %s. Paths are relative to it; root=/ is for the rest of the machine.", name, p.Root)
	}
	return nil
}

// failed makes an error for people of what the guest says.
func (p Place) failed(err error) error {
	var already *errand.Error
	name := cmp.Or(p.Path, p.Root)
	switch {
	case err == nil || errors.As(err, &already):
		return err
	case errors.Is(err, fs.ErrNotExist):
		return errand.Errorf(errand.NotFound, "file_not_found", "There is no %.200q in the machine.", name)
	case errors.Is(err, guest.ErrOutside):
		return errand.Errorf(errand.Invalid, "path_outside", "The path leaves %s, or goes through a link that does: %w.", p.Root, err)
	case errors.Is(err, guest.ErrMismatch):
		return errand.Errorf(errand.Conflict, "file_changed", "Nothing was written: %w. Look at it as it is now.", err)
	case errors.Is(err, fs.ErrExist):
		return errand.Errorf(errand.Conflict, "file_exists", "Nothing was changed: %w.", err)
	case errors.Is(err, fs.ErrPermission):
		return errand.Errorf(errand.Forbidden, "permission_denied", "The machine does not let its user do that with %.200q.", name)
	case errors.Is(err, guest.ErrTooLarge):
		return errand.Errorf(errand.TooLarge, "file_too_large", "Nothing was changed: %w.", err)
	case errors.Is(err, fs.ErrInvalid):
		return errand.Errorf(errand.Invalid, "validation_error", "That cannot be done: %w.", err)
	case errors.Is(err, guest.ErrRebooted), errors.Is(err, guest.ErrClosed):
		return errand.Errorf(errand.Unavailable, "machine_restarted", "The machine was restarted meanwhile. Try again.")
	}
	return err
}

// visit calls do with the line to the machine.
func (f *Files) visit(ctx context.Context, p Place, do func(*guest.Line) error) error {
	line, leave, err := f.Runner.Visit(ctx, p.Who, p.Agent)
	if err != nil {
		return p.failed(err)
	}
	defer leave()
	return p.failed(do(line))
}

// FromStat gives a file as it is shown.
func (f *Files) fromStat(s guest.Stat) api.File {
	out := api.File{
		Path: f.Runner.Redactor.String(strings.TrimPrefix(s.Path, "./")), SizeBytes: s.Size, Mode: s.Mode.String(),
		ModifiedAt: s.ModTime, Link: f.Runner.Redactor.String(s.Link), Kind: api.FileOther,
	}
	out.Name = path.Base(out.Path)
	switch {
	case s.Mode.IsDir():
		out.Kind = api.FileFolder
	case s.Mode&fs.ModeSymlink != 0:
		out.Kind = api.FileLink
	case s.Mode.IsRegular():
		out.Kind, out.Tag = api.FileRegular, wire.Tag(s.Size, s.ModTime)
	}
	return out
}

// mostListed is how many entries of a folder can be listed.
const mostListed = 20_000

// List gives one page of a folder, folders first. The cursor is the last entry of
// the page before.
func (f *Files) List(ctx context.Context, p Place, limit int, cursor string) (api.Files, error) {
	out := api.Files{Items: []api.File{}}
	var all guest.Listing
	err := f.visit(ctx, p, func(line *guest.Line) (err error) {
		all, err = line.List(ctx, p.Root, p.Path, guest.ListOptions{Depth: 1, Limit: mostListed, Ignored: true})
		return err
	})
	if err != nil {
		return out, err
	}
	order := func(folder bool, name string) string {
		if folder {
			return "0" + name
		}
		return "1" + name
	}
	key := func(s guest.Stat) string { return order(s.Mode.IsDir(), path.Base(s.Path)) }
	slices.SortFunc(all.Entries, func(a, b guest.Stat) int { return cmp.Compare(key(a), key(b)) })
	out.Truncated = all.Truncated
	for _, s := range all.Entries {
		switch k := key(s); {
		case k <= cursor:
		case len(out.Items) == limit:
			last := out.Items[limit-1]
			out.NextCursor = order(last.Kind == api.FileFolder, last.Name)
			return out, nil
		default:
			out.Items = append(out.Items, f.fromStat(s))
		}
	}
	return out, nil
}

// Text gives a file for people to read, without secrets, at most a MiB of it.
func (f *Files) Text(ctx context.Context, p Place) (api.FileText, error) {
	var data []byte
	var stat guest.Stat
	err := f.visit(ctx, p, func(line *guest.Line) (err error) {
		data, stat, err = line.ReadFile(ctx, p.Root, p.Path, 0, maxText)
		return err
	})
	if err != nil {
		return api.FileText{}, err
	}
	out := api.FileText{File: f.fromStat(stat), Truncated: stat.Size > int64(len(data))}
	if out.Truncated { // not in the middle of a character
		for cut := 0; cut < utf8.UTFMax && len(data) > 0 && !utf8.Valid(data); cut++ {
			data = data[:len(data)-1]
		}
	}
	if out.Binary = bytes.IndexByte(data, 0) >= 0 || !utf8.Valid(data); out.Binary {
		return out, nil
	}
	out.Text = f.Runner.Redactor.String(string(data))
	out.Redacted = out.Text != string(data)
	return out, nil
}

// program runs one call of the guest's own program for files.
func (f *Files) program(ctx context.Context, p Place, in io.Reader, out io.Writer, what string, args ...string) error {
	ctx, cancel := context.WithCancelCause(ctx)
	defer cancel(nil)
	var said bytes.Buffer
	args = append([]string{"files", what, "-root", p.Root, "-path", cmp.Or(p.Path, ".")}, args...)
	exit, err := f.Runner.Exec(ctx, p.Who, p.Agent, runner.ExecRequest{As: runner.ExecOwn, Args: args, Dir: "/", Stdin: in, Whole: true, Limit: callLimit}, func(o guest.Output) {
		if o.Stderr {
			if said.Len() < 64<<10 {
				said.Write(o.Data)
			}
		} else if _, err := out.Write(o.Data); err != nil {
			cancel(err)
		}
	})
	switch {
	case err != nil && context.Cause(ctx) != nil:
		return context.Cause(ctx)
	case err != nil:
		return p.failed(err)
	case exit.Unknown:
		return p.failed(guest.ErrRebooted)
	case exit.TimedOut:
		return errand.Errorf(errand.Unavailable, "timed_out", "It took more than %v and was ended.", callLimit)
	case exit.Code != 0:
		return p.failed(fault(said.Bytes()))
	}
	return nil
}

// fault reads what the program says last.
func fault(said []byte) error {
	lines := bytes.Split(bytes.TrimSpace(said), []byte("\n"))
	var f wire.Fault
	if json.Unmarshal(lines[len(lines)-1], &f) != nil || f.Message == "" {
		return errand.Errorf(errand.Unavailable, "machine_failed", "The machine could not do it. Its guest says: %.500s", said)
	}
	f.Message = strings.ToValidUTF8(f.Message[:min(len(f.Message), 2000)], "")
	return &guest.Error{Method: "files", Code: f.Code, Message: f.Message}
}

// stat reads what the program prints of the file it has changed.
func (f *Files) stat(printed []byte) (api.File, error) {
	var s guest.Stat
	if err := json.Unmarshal(printed, &s); err != nil {
		return api.File{}, errand.Errorf(errand.Unavailable, "machine_failed", "The machine does not say what became of the file.")
	}
	return f.fromStat(s), nil
}

// printed keeps what the program says of one file.
type printed struct{ bytes.Buffer }

func (b *printed) Write(p []byte) (int, error) {
	if b.Len()+len(p) > 64<<10 {
		return 0, errors.New("the machine says too much")
	}
	return b.Buffer.Write(p)
}

// Move gives a file or folder another name.
func (f *Files) Move(ctx context.Context, p Place, to string, replace bool) (api.File, error) {
	if err := p.inside(to); err != nil {
		return api.File{}, err
	}
	args := []string{"-to", to}
	if replace {
		args = append(args, "-force")
	}
	var out printed
	if err := f.program(ctx, p, nil, &out, "move", args...); err != nil {
		return api.File{}, err
	}
	return f.stat(out.Bytes())
}

// Folder makes a folder, and those above it.
func (f *Files) Folder(ctx context.Context, p Place) (api.File, error) {
	var out printed
	if err := f.program(ctx, p, nil, &out, "folder"); err != nil {
		return api.File{}, err
	}
	return f.stat(out.Bytes())
}

// Remove removes a file, or a folder with all that is in it.
func (f *Files) Remove(ctx context.Context, p Place) error {
	return f.program(ctx, p, nil, io.Discard, "remove")
}

// Watch calls each with what changes below a folder until ctx ends or each fails.
// The machine stays awake meanwhile, and whoever watches is seen at the agent.
func (f *Files) Watch(ctx context.Context, p Place, each func(api.FileChanges) error) error {
	defer f.Runner.Rooms.Enter(p.Agent, presence.Person{Caller: p.Who, Doing: presence.Files}).Leave()
	in, end := io.Pipe()
	defer end.Close()
	lines := &lines{each: func(text []byte) error {
		var c api.FileChanges
		if err := json.Unmarshal(text, &c); err != nil {
			return fmt.Errorf("reading what changed: %w", err)
		}
		for i := range c.Paths {
			c.Paths[i] = f.Runner.Redactor.String(c.Paths[i])
		}
		return each(c)
	}}
	return f.program(ctx, p, in, lines, "watch")
}

// lines hands on whole lines.
type lines struct {
	each func([]byte) error
	part []byte
}

func (l *lines) Write(p []byte) (int, error) {
	l.part = append(l.part, p...)
	for {
		line, rest, ok := bytes.Cut(l.part, []byte("\n"))
		if !ok {
			break
		}
		if err := l.each(line); err != nil {
			return 0, err
		}
		l.part = rest
	}
	if len(l.part) > 1<<20 {
		return 0, errors.New("a line that does not end")
	}
	return len(p), nil
}

// header says that what follows is a download, and nothing that a browser would
// run.
func header(h http.Header, name, kind string) {
	h.Set("Content-Type", kind)
	h.Set("X-Content-Type-Options", "nosniff")
	h.Set("Content-Security-Policy", "default-src 'none'; frame-ancestors 'none'; sandbox")
	h.Set("Content-Disposition", disposition(name))
}
