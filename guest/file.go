package guest

import (
	"context"
	"fmt"
	"io/fs"

	"github.com/errand-dev/errand/guest/wire"
)

// MaxRead is the most that ReadFile gives at once, and MaxWrite the most that
// WriteFile takes, and Change in all its texts, in bytes.
const (
	MaxRead  = 4 << 20
	MaxWrite = 64 << 20
)

// In all calls on files, root is an absolute directory in the machine and path
// is relative to it, "" or "." being root itself. A path that leaves root, by
// "..", by being absolute or by a symbolic link, is ErrOutside. A symbolic link
// that is absolute counts as leaving, wherever it points. The guest acts as
// root; what it creates belongs to the owner of the directory that it is in.

// ReadFile gives up to limit bytes of a regular file from offset on, and what
// the file is. A limit of 0, or over MaxRead, is MaxRead; Stat.Size says
// whether there is more. A file that does not exist is fs.ErrNotExist, one that
// is not regular fs.ErrInvalid.
func (l *Line) ReadFile(ctx context.Context, root, path string, offset, limit int64) ([]byte, Stat, error) {
	var stat Stat
	p := wire.Read{Path: wire.Path{Root: root, Path: path}, Offset: offset, Limit: limit}
	data, err := l.call(ctx, wire.MethodRead, p, nil, &stat)
	return data, stat, err
}

// Stat says what path is. Where its last element is a symbolic link, that is
// the link itself.
func (l *Line) Stat(ctx context.Context, root, path string) (Stat, error) {
	var stat Stat
	_, err := l.call(ctx, wire.MethodStat, wire.Path{Root: root, Path: path}, nil, &stat)
	return stat, err
}

// List gives the entries below a directory. It follows no symbolic links.
func (l *Line) List(ctx context.Context, root, path string, opts ListOptions) (Listing, error) {
	var listing Listing
	p := wire.List{Path: wire.Path{Root: root, Path: path}, ListOptions: opts}
	_, err := l.call(ctx, wire.MethodList, p, nil, &listing)
	return listing, err
}

// Search looks for lines that match a regular expression in the files below
// root. It follows no symbolic links. A bad pattern is fs.ErrInvalid.
func (l *Line) Search(ctx context.Context, root string, opts SearchOptions) (SearchResult, error) {
	var result SearchResult
	_, err := l.call(ctx, wire.MethodSearch, wire.Search{Root: root, SearchOptions: opts}, nil, &result)
	return result, err
}

// WriteFile makes data the whole content of path, by renaming a new file over
// it, so that no reader sees half of it. Parents are made. A file that exists
// keeps its mode and owner; a new one gets mode, 0 being 0644. Where path is a
// symbolic link that stays inside root, the file that it points to is written.
//
// op is an id as that of a command: asking again gives the first result again,
// error or not, and changes nothing, until Forget.
func (l *Line) WriteFile(ctx context.Context, op, root, path string, data []byte, mode fs.FileMode) (Stat, error) {
	var stat Stat
	if err := fits(wire.MethodWrite, len(data)); err != nil {
		return Stat{}, err
	}
	if data == nil {
		data = []byte{}
	}
	p := wire.Write{Op: op, Path: wire.Path{Root: root, Path: path}, Mode: mode}
	_, err := l.call(ctx, wire.MethodWrite, p, data, &stat)
	return stat, err
}

// Change does all of changes, in order, or none of them: a later one sees what
// an earlier one did, and where one cannot be done no file is touched. (A guest
// that is killed in the middle of the last step, the renames, may leave some of
// them done.) An edit that does not match is ErrMismatch, and its text names
// file, edit and number of matches. Files over 16 MiB are not edited.
//
// op is as for WriteFile.
func (l *Line) Change(ctx context.Context, op, root string, changes []FileChange) (ChangeResult, error) {
	var result ChangeResult
	size := 0
	for _, c := range changes {
		size += len(c.Data)
		for _, e := range c.Edits {
			size += len(e.Old) + len(e.New)
		}
	}
	if err := fits(wire.MethodChange, size); err != nil {
		return ChangeResult{}, err
	}
	p := wire.Change{Op: op, Root: root, Changes: changes}
	_, err := l.call(ctx, wire.MethodChange, p, nil, &result)
	return result, err
}

// fits refuses what is too much for one request.
func fits(m wire.Method, size int) error {
	if size <= MaxWrite {
		return nil
	}
	return refusal(m, &wire.Fault{
		Code:    wire.CodeTooLarge,
		Message: fmt.Sprintf("%d bytes cannot be written at once; at most %d can", size, MaxWrite),
	})
}
