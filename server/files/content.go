package files

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"mime"
	"net/http"
	"path"
	"strings"
	"sync/atomic"
	"time"

	"github.com/errand-dev/errand"
	"github.com/errand-dev/errand/api"
	"github.com/errand-dev/errand/guest"
	"github.com/errand-dev/errand/guest/wire"
)

// disposition names a download.
func disposition(name string) string {
	if text := mime.FormatMediaType("attachment", map[string]string{"filename": strings.ToValidUTF8(name, "_")}); text != "" {
		return text
	}
	return "attachment"
}

// pictures are what a page may show; all else is bytes. None of them can hold what
// a browser would run.
var pictures = map[string]string{".png": "image/png", ".jpg": "image/jpeg", ".jpeg": "image/jpeg", ".gif": "image/gif", ".webp": "image/webp"}

func kindOf(name string) string {
	if kind := pictures[strings.ToLower(path.Ext(name))]; kind != "" {
		return kind
	}
	return "application/octet-stream"
}

// Download answers with a file as it is, or the ranges of it that are asked for.
func (f *Files) Download(w http.ResponseWriter, r *http.Request, p Place) error {
	return f.visit(r.Context(), p, func(line *guest.Line) error {
		first, stat, err := line.ReadFile(r.Context(), p.Root, p.Path, 0, 1)
		if err != nil {
			return err
		}
		if len(first) > 0 && stat.Size == 0 {
			return f.unsized(w, r, line, p)
		}
		header(w.Header(), path.Base(p.Path), kindOf(p.Path))
		w.Header().Set("ETag", `"`+wire.Tag(stat.Size, stat.ModTime)+`"`)
		content := &reader{ctx: r.Context(), line: line, place: p, stat: stat}
		http.ServeContent(w, r, "", stat.ModTime, content)
		if content.failed != nil && r.Context().Err() == nil {
			panic(http.ErrAbortHandler) // what arrived is not the whole
		}
		return nil
	})
}

// unsized answers with a file whose size nobody tells, as those of /proc: what of it
// can be read at once.
func (f *Files) unsized(w http.ResponseWriter, r *http.Request, line *guest.Line, p Place) error {
	data, _, err := line.ReadFile(r.Context(), p.Root, p.Path, 0, 0)
	if err != nil {
		return err
	}
	header(w.Header(), path.Base(p.Path), kindOf(p.Path))
	_, err = w.Write(data)
	return err
}

// reader reads a file of a machine piece by piece, and fails when it is another.
type reader struct {
	ctx    context.Context
	line   *guest.Line
	place  Place
	stat   guest.Stat
	at     int64
	piece  []byte
	failed error
}

func (r *reader) Seek(offset int64, whence int) (int64, error) {
	switch whence {
	case io.SeekCurrent:
		offset += r.at
	case io.SeekEnd:
		offset += r.stat.Size
	}
	if offset != r.at {
		r.at, r.piece = offset, nil
	}
	return offset, nil
}

func (r *reader) Read(p []byte) (int, error) {
	if r.at >= r.stat.Size {
		return 0, io.EOF
	}
	if len(r.piece) == 0 {
		const most = 1 << 20
		data, stat, err := r.line.ReadFile(r.ctx, r.place.Root, r.place.Path, r.at, most)
		if err == nil && (wire.Tag(stat.Size, stat.ModTime) != wire.Tag(r.stat.Size, r.stat.ModTime) || len(data) == 0) {
			err = errors.New("the file was changed while it was read")
		}
		if err != nil {
			r.failed = err
			return 0, err
		}
		r.piece = data
	}
	n := copy(p, r.piece)
	r.piece = r.piece[n:]
	r.at += int64(n)
	return n, nil
}

// Upload makes the request's body a file's content. With If-Match it does so only
// while that is as the caller knows it, with If-None-Match: * only if there is no
// such file: else it is a Conflict.
func (f *Files) Upload(r *http.Request, p Place) (api.File, error) {
	args := []string{"-most", fmt.Sprint(MaxUpload)}
	if match := strings.Trim(strings.TrimPrefix(r.Header.Get("If-Match"), "W/"), `"`); match != "" && match != "*" {
		args = append(args, "-match", match)
	} else if r.Header.Get("If-None-Match") == "*" {
		args = append(args, "-match", "-")
	}
	var out printed
	if err := f.take(r, p, &out, "put", args...); err != nil {
		return api.File{}, err
	}
	return f.stat(out.Bytes())
}

// Unpack puts the archive that is the request's body (tar, tar.gz or zip) into a
// folder: all of its entries, or none.
func (f *Files) Unpack(r *http.Request, p Place) (api.Unpacked, error) {
	var out printed
	var done api.Unpacked
	if err := f.take(r, p, &out, "unpack", "-most", fmt.Sprint(MaxUpload)); err != nil {
		return done, err
	}
	if err := json.Unmarshal(out.Bytes(), &done); err != nil {
		return done, errand.Errorf(errand.Unavailable, "machine_failed", "The machine does not say what became of the archive.")
	}
	return done, nil
}

// cutOff is how long the machine has to take back what was cut off.
const cutOff = 30 * time.Second

// take hands the request's body to the program, which is told whether it came
// whole. A body that is cut off ends the program by itself: it leaves nothing.
func (f *Files) take(r *http.Request, p Place, out io.Writer, what string, args ...string) error {
	if r.ContentLength > MaxUpload {
		return errand.Errorf(errand.TooLarge, "file_too_large", "At most %d GiB are taken at once; %d bytes were sent.", MaxUpload>>30, r.ContentLength)
	}
	ctx, cancel := context.WithCancel(context.WithoutCancel(r.Context()))
	defer cancel()
	defer context.AfterFunc(r.Context(), func() { time.AfterFunc(cutOff, cancel) })()
	in := &marked{body: r.Body}
	err := f.program(ctx, p, in, out, what, args...)
	cause := in.failure.Load()
	if err != nil && cause == nil {
		const most = 64 << 20 // many clients read no answer before they have sent all
		_, _ = io.CopyN(io.Discard, r.Body, most)
	}
	if cause != nil && err != nil {
		return errand.Errorf(errand.Invalid, "validation_error", "The upload was cut off: %w. Nothing was changed.", *cause)
	}
	return err
}

// marked is a body with the mark that it is whole at its end.
type marked struct {
	body    io.Reader
	ended   bool
	failure atomic.Pointer[error]
}

func (m *marked) Read(p []byte) (int, error) {
	if m.ended || len(p) == 0 {
		return 0, io.EOF
	}
	n, err := m.body.Read(p)
	if err == nil {
		return n, nil
	}
	if !errors.Is(err, io.EOF) {
		m.ended = true
		m.failure.Store(&err)
		return n, nil // its end comes without the mark
	}
	if n == len(p) {
		return n, nil // the mark goes next
	}
	m.ended = true
	p[n] = wire.Whole
	return n + 1, nil
}

// Pack answers with a folder, or a file, as an archive.
func (f *Files) Pack(w http.ResponseWriter, r *http.Request, p Place, format string) error {
	kinds := map[string]string{"": "application/gzip", "tar.gz": "application/gzip", "tar": "application/x-tar", "zip": "application/zip"}
	kind, ok := kinds[format]
	if !ok {
		return errand.Errorf(errand.Invalid, "validation_error", "format is tar.gz, tar or zip, not %.20q.", format)
	}
	if format == "" {
		format = "tar.gz"
	}
	name := path.Base(p.Path)
	if name == "." || name == "/" {
		name = path.Base(p.Root)
	}
	if name == "/" {
		name = "machine"
	}
	out := &begun{w: w, start: func() { header(w.Header(), name+"."+format, kind) }}
	err := f.program(r.Context(), p, nil, out, "pack", "-format", format)
	if err != nil && out.yes {
		panic(http.ErrAbortHandler) // what arrived is not the whole
	}
	return err
}

// begun sends the headers before the first byte.
type begun struct {
	w     io.Writer
	start func()
	yes   bool
}

func (b *begun) Write(p []byte) (int, error) {
	if !b.yes {
		b.yes = true
		b.start()
	}
	return b.w.Write(p)
}
