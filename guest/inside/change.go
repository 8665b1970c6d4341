package inside

import (
	"bytes"
	"cmp"
	"errors"
	"io"
	"io/fs"
	"os"

	"github.com/errand-dev/errand/guest/wire"
)

const (
	maxEdited  = 16 << 20  // bytes of a file that is edited or moved
	maxShown   = 256 << 10 // bytes of a file's content in a result
	maxAll     = 4 << 20   // of all of them together
	maxChanges = 2000
)

// draft is a file as it will be when all changes are done.
type draft struct {
	name   string
	was    fs.FileInfo // nil where there is no file
	exists bool
	data   []byte
	large  bool // data was not read: the file is over maxEdited
	dirty  bool
	mode   fs.FileMode // of a new file
	like   fs.FileInfo // where a new file was moved from
}

// drafts are the files that a change names, by name, and in the order in which
// they were first named.
type drafts struct {
	root  *os.Root
	files map[string]*draft
	order []*draft
	shown int64 // bytes of contents in results so far
}

// change does all of changes or none. It works on drafts first, so that what
// cannot be done is known before a file is touched.
func change(r *os.Root, changes []wire.FileChange) (wire.ChangeResult, error) {
	if len(changes) > maxChanges {
		return wire.ChangeResult{}, faultf(wire.CodeTooLarge, "%d changes at once; at most %d are allowed", len(changes), maxChanges)
	}
	d := &drafts{root: r, files: map[string]*draft{}}
	var result wire.ChangeResult
	for _, c := range changes {
		file, err := d.do(c)
		if err != nil {
			return wire.ChangeResult{}, err
		}
		result.Files = append(result.Files, file)
	}
	return result, d.commit()
}

// do does one change to its draft.
func (d *drafts) do(c wire.FileChange) (wire.FileResult, error) {
	f, err := d.open(c.Path, c.Kind == wire.ChangeDelete)
	if err != nil {
		return wire.FileResult{}, err
	}
	before := *f
	result := wire.FileResult{Path: f.name, Existed: f.exists}
	after := f
	switch c.Kind {
	case wire.ChangeCreate, wire.ChangeWrite:
		err = f.write(c)
	case wire.ChangeEdit:
		result.Matches, err = f.edit(c.Edits)
	case wire.ChangeDelete:
		err = f.remove()
	case wire.ChangeMove:
		if result.Matches, err = f.edit(c.Edits); err == nil {
			result.From = f.name
			after, err = d.move(f, c.To)
			result.Path = c.To
		}
	default:
		err = faultf(wire.CodeInvalid, "%q is not a kind of change", c.Kind)
	}
	if err != nil {
		return wire.FileResult{}, err
	}
	result.Exists = after.exists
	result.Mode = after.fileMode()
	d.show(&result, &before, after)
	return result, nil
}

// open finds the draft of a file, or begins it.
func (d *drafts) open(name string, asLink bool) (*draft, error) {
	name, err := relative(name)
	if err != nil {
		return nil, err
	}
	var stat fs.FileInfo
	if asLink {
		// What is removed is the link, not the file that it points to.
		if name, err = physical(d.root, name, false); err != nil {
			return nil, err
		}
		if stat, err = d.root.Lstat(name); errors.Is(err, fs.ErrNotExist) {
			stat, err = nil, nil
		}
	} else {
		name, stat, err = resolve(d.root, name)
	}
	if err != nil {
		return nil, err
	}
	if f := d.files[name]; f != nil {
		return f, nil
	}
	f := &draft{name: name, was: stat, exists: stat != nil}
	if err := f.load(d.root); err != nil {
		return nil, err
	}
	d.files[name] = f
	d.order = append(d.order, f)
	return f, nil
}

// load reads the file's content.
func (f *draft) load(r *os.Root) error {
	if !f.exists || f.was.Mode()&fs.ModeSymlink != 0 {
		return nil
	}
	if !f.was.Mode().IsRegular() {
		return faultf(wire.CodeInvalid, "%s is %s, not a regular file", f.name, kindOf(f.was.Mode()))
	}
	if f.large = f.was.Size() > maxEdited; f.large {
		return nil
	}
	file, _, err := openFile(r, f.name)
	if err != nil {
		return err
	}
	defer file.Close()
	f.data, err = io.ReadAll(io.LimitReader(file, maxEdited+1))
	if len(f.data) > maxEdited {
		f.data, f.large = nil, true
	}
	return err
}

func (f *draft) fileMode() fs.FileMode {
	switch like := cmp.Or(f.was, f.like); {
	case like != nil:
		return like.Mode()
	case f.mode != 0:
		return f.mode.Perm()
	}
	return newMode
}

func (f *draft) write(c wire.FileChange) error {
	if c.Kind == wire.ChangeCreate && f.exists {
		return faultf(wire.CodeExist, "%s exists already", f.name)
	}
	f.data, f.exists, f.large, f.dirty, f.mode = c.Data, true, false, true, c.Mode
	return nil
}

func (f *draft) remove() error {
	if !f.exists {
		return faultf(wire.CodeNotExist, "%s does not exist", f.name)
	}
	f.data, f.exists, f.dirty = nil, false, true
	return nil
}

// edit does edits one after the other and says how many places they replaced.
func (f *draft) edit(edits []wire.Edit) (matches int, err error) {
	switch {
	case !f.exists:
		return 0, faultf(wire.CodeNotExist, "%s does not exist", f.name)
	case f.large:
		return 0, faultf(wire.CodeTooLarge, "%s is larger than the %d bytes that can be edited", f.name, maxEdited)
	}
	data := f.data
	for i, e := range edits {
		old := []byte(e.Old)
		n := 0
		if len(old) > 0 {
			n = bytes.Count(data, old)
		}
		switch {
		case len(old) == 0:
			return 0, faultf(wire.CodeMismatch, "edit %d of %d in %s has no old text", i+1, len(edits), f.name)
		case n == 0:
			return 0, faultf(wire.CodeMismatch, "edit %d of %d in %s: the old text is not in the file", i+1, len(edits), f.name)
		case n > 1 && !e.All:
			return 0, faultf(wire.CodeMismatch, "edit %d of %d in %s: the old text is there %d times; make it unique, or replace all", i+1, len(edits), f.name, n)
		}
		if grown := len(data) + n*(len(e.New)-len(old)); grown > maxEdited {
			return 0, faultf(wire.CodeTooLarge, "edit %d of %d makes %s larger than %d bytes", i+1, len(edits), f.name, maxEdited)
		}
		data = bytes.ReplaceAll(data, old, []byte(e.New))
		matches += n
	}
	f.data = data
	f.dirty = f.dirty || matches > 0
	return matches, nil
}

// move makes to what f is, and removes f.
func (d *drafts) move(f *draft, to string) (*draft, error) {
	target, err := d.open(to, false)
	if err != nil {
		return nil, err
	}
	if target.exists {
		return nil, faultf(wire.CodeExist, "%s exists already", to)
	}
	target.data, target.exists, target.dirty = f.data, true, true
	target.like = cmp.Or(f.was, f.like)
	target.mode = f.mode
	return target, f.remove()
}

// show puts contents into a result where they are small enough.
func (d *drafts) show(result *wire.FileResult, before, after *draft) {
	size := int64(len(before.data) + len(after.data))
	if before.large || after.large || len(before.data) > maxShown || len(after.data) > maxShown || d.shown+size > maxAll {
		result.Truncated = true
		return
	}
	d.shown += size
	result.Before, result.After = before.data, after.data
}

// commit makes the files what the drafts are. Where one cannot be written none
// is; where one cannot be put into its place those before it are put back.
func (d *drafts) commit() error {
	w := newWriter(d.root)
	defer w.clean()
	var places []*place
	for _, f := range d.order {
		if !f.dirty || !f.exists && f.was == nil {
			continue
		}
		p := &place{root: d.root, writer: w, draft: f}
		if f.exists {
			var err error
			if p.staged, err = w.stage(f.name, f.data, cmp.Or(f.was, f.like), f.mode); err != nil {
				return err
			}
		}
		places = append(places, p)
	}
	for i, p := range places {
		if err := p.put(); err != nil {
			for j := i; j >= 0; j-- {
				places[j].putBack()
			}
			return err
		}
	}
	for _, p := range places {
		p.settle()
	}
	w.keep()
	return nil
}

// place is where a draft goes to.
type place struct {
	root   *os.Root
	writer *writer
	draft  *draft
	staged string // the new file; "" to remove the one there
	backup string // the file of before; "" while there is none
	done   bool
}

// put renames the new file over the old one, of which a second name is kept.
func (p *place) put() error {
	name := p.draft.name
	if p.draft.was != nil {
		backup := beside(name)
		if p.staged == "" {
			if err := p.root.Rename(name, backup); err != nil {
				return err
			}
			p.backup = backup
			return nil
		}
		err := p.root.Link(name, backup)
		if err != nil {
			// A file system without hard links.
			err = p.root.Rename(name, backup)
		}
		if err != nil {
			return err
		}
		p.backup = backup
	}
	if err := p.writer.place(p.staged, name); err != nil {
		return err
	}
	p.done = true
	return nil
}

// putBack undoes put, as far as it came.
func (p *place) putBack() {
	switch {
	case p.backup != "":
		p.root.Rename(p.backup, p.draft.name)
		// Where both names are the same file, rename leaves both.
		p.root.Remove(p.backup)
	case p.done:
		p.root.Remove(p.draft.name)
	}
}

// settle removes the file of before.
func (p *place) settle() {
	if p.backup != "" {
		p.root.Remove(p.backup)
	}
}
