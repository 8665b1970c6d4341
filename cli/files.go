package cli

import (
	"archive/tar"
	"compress/gzip"
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path"
	"path/filepath"
	"regexp"
	"strings"
	"time"

	"github.com/spf13/cobra"

	"github.com/errand-dev/errand"
	"github.com/errand-dev/errand/api"
	"github.com/errand-dev/errand/client"
)

func (a *app) filesCommand() *cobra.Command {
	return &cobra.Command{
		Use: "files AGENT [PATH]", Short: "List a folder of an agent's machine", Args: usage(cobra.RangeArgs(1, 2)),
		Long: "List a folder of an agent's machine: /workspace, or a PATH below it; an absolute\nPATH is one of the whole machine. \"errand cp\" copies what is there.",
		RunE: func(cmd *cobra.Command, args []string) error {
			c, id, err := a.agentArg(cmd.Context(), args)
			if err != nil {
				return err
			}
			at := client.FileAt{Agent: id}
			if len(args) > 1 {
				at = fileAt(id, args[1])
			}
			all, err := allFiles(cmd.Context(), c, at)
			if err != nil {
				return err
			}
			if a.json {
				return a.printJSON(all)
			}
			var rows [][]string
			for _, f := range all {
				name := f.Name
				switch f.Kind {
				case api.FileFolder:
					name += "/"
				case api.FileLink:
					name += " → " + f.Link
				}
				rows = append(rows, []string{f.Mode, fmt.Sprint(f.SizeBytes), f.ModifiedAt.Local().Format(time.DateTime), printable(name)})
			}
			return table(a.out, rows)
		},
	}
}

func allFiles(ctx context.Context, c *client.Client, at client.FileAt) ([]api.File, error) {
	all := []api.File{}
	for cursor := ""; ; {
		page, err := c.Files(ctx, at, 1000, cursor)
		if err != nil {
			return nil, err
		}
		all = append(all, page.Items...)
		if cursor = page.NextCursor; cursor == "" {
			return all, nil
		}
	}
}

// fileAt says which file a path names: an absolute one is of the whole machine.
func fileAt(id errand.AgentID, name string) client.FileAt {
	if path.IsAbs(name) {
		return client.FileAt{Agent: id, Root: "/", Path: strings.TrimLeft(path.Clean(name), "/")}
	}
	return client.FileAt{Agent: id, Path: name}
}

// there is AGENT:PATH. One letter before the colon is a drive.
var there = regexp.MustCompile(`^([^/\\:]{2,}|@):(.*)$`)

func (a *app) copyCommand() *cobra.Command {
	return &cobra.Command{
		Use: "cp FROM TO", Short: "Copy files and folders to or from an agent's machine", Args: usage(cobra.ExactArgs(2)),
		Long: `Copy a file or a folder to an agent's machine or from there. One of FROM and TO is
AGENT:PATH, relative to /workspace unless it is absolute; "-" is standard input or
output. A folder goes with all that is in it, without .git. What is copied is not
redacted.`,
		Example: "errand cp latest:dist/app.tar.gz .\nerrand cp notes.md latest:docs/\nerrand cp fixtures latest:testdata",
		RunE: func(cmd *cobra.Command, args []string) error {
			from, to := there.FindStringSubmatch(args[0]), there.FindStringSubmatch(args[1])
			if (from == nil) == (to == nil) {
				return usageError("One of FROM and TO must be in a machine: AGENT:PATH")
			}
			side, get := from, true
			if from == nil {
				side, get = to, false
			}
			c, id, err := a.agentArg(cmd.Context(), side[1:2])
			if err != nil {
				return err
			}
			at := fileAt(id, side[2])
			if get {
				return a.copyFrom(cmd.Context(), c, at, args[1])
			}
			return a.copyTo(cmd.Context(), c, args[0], at)
		},
	}
}

// entryOf looks what stands at a place of the machine: nil for nothing.
func entryOf(ctx context.Context, c *client.Client, at client.FileAt) (*api.File, error) {
	name := strings.TrimSuffix(path.Clean("/"+at.Path), "/")
	if name == "" {
		return &api.File{Kind: api.FileFolder}, nil
	}
	above := at
	above.Path = strings.Trim(path.Dir(name), "/")
	all, err := allFiles(ctx, c, above)
	if errand.KindOf(err) == errand.NotFound {
		return nil, nil
	}
	for _, f := range all {
		if f.Name == path.Base(name) {
			return &f, err
		}
	}
	return nil, err
}

// copyFrom brings a file or folder here.
func (a *app) copyFrom(ctx context.Context, c *client.Client, at client.FileAt, to string) error {
	what, err := entryOf(ctx, c, at)
	if err != nil {
		return err
	}
	folder := what != nil && what.Kind == api.FileFolder
	if to == "-" {
		if folder {
			return c.DownloadFolder(ctx, at, "tar", a.out)
		}
		return c.Download(ctx, at, a.out)
	}
	if stat, err := os.Stat(to); err == nil && stat.IsDir() && path.Base("/"+at.Path) != "/" {
		to = filepath.Join(to, path.Base("/"+at.Path))
	}
	if folder {
		return a.unpackHere(ctx, c, at, to)
	}
	return writeBeside(to, func(w io.Writer) error { return c.Download(ctx, at, w) })
}

// writeBeside writes a file of the person's whole, or not at all.
func writeBeside(to string, write func(io.Writer) error) error {
	f, err := os.CreateTemp(filepath.Dir(to), ".errand-")
	if err != nil {
		return errand.Errorf(errand.Invalid, "validation_error", "%s cannot be written: %w.", to, plainError(err))
	}
	defer os.Remove(f.Name())
	err = write(f)
	if err := errors.Join(err, f.Close()); err != nil {
		return err
	}
	mode := fs.FileMode(0o644)
	if was, err := os.Stat(to); err == nil {
		mode = was.Mode().Perm()
	}
	if err := os.Chmod(f.Name(), mode); err != nil {
		return err
	}
	return os.Rename(f.Name(), to)
}

// unpackHere brings a folder here. It comes from a machine, so it is opened below
// its own folder and nowhere else.
func (a *app) unpackHere(ctx context.Context, c *client.Client, at client.FileAt, to string) error {
	if err := os.MkdirAll(to, 0o755); err != nil {
		return errand.Errorf(errand.Invalid, "validation_error", "%s cannot be made: %w.", to, plainError(err))
	}
	root, err := os.OpenRoot(to)
	if err != nil {
		return err
	}
	defer root.Close()
	r, w := io.Pipe()
	done := make(chan error, 1)
	go func() {
		err := c.DownloadFolder(ctx, at, "tar.gz", w)
		w.CloseWithError(err)
		done <- err
	}()
	err = unpackInto(root, r)
	r.CloseWithError(err) // nil: what is left is not needed
	if came := <-done; came != nil && err == nil {
		return came
	}
	return err
}

func unpackInto(root *os.Root, r io.Reader) error {
	z, err := gzip.NewReader(r)
	if err != nil {
		return err
	}
	for t := tar.NewReader(z); ; {
		h, err := t.Next()
		if errors.Is(err, io.EOF) {
			_, err = io.Copy(io.Discard, r)
			return err
		}
		if err != nil {
			return err
		}
		if err := unpackOne(root, h, t); err != nil {
			return fmt.Errorf("writing %q: %w", h.Name, err)
		}
	}
}

func unpackOne(root *os.Root, h *tar.Header, content io.Reader) error {
	name := filepath.FromSlash(path.Clean(h.Name))
	if !filepath.IsLocal(name) {
		return errors.New("it leads outside of the folder")
	}
	if h.Typeflag == tar.TypeDir {
		return root.MkdirAll(name, 0o755)
	}
	if err := root.MkdirAll(filepath.Dir(name), 0o755); err != nil {
		return err
	}
	if err := root.Remove(name); err != nil && !errors.Is(err, fs.ErrNotExist) {
		return err
	}
	switch h.Typeflag {
	case tar.TypeSymlink:
		return root.Symlink(filepath.FromSlash(h.Linkname), name)
	case tar.TypeReg:
		f, err := root.OpenFile(name, os.O_WRONLY|os.O_CREATE|os.O_EXCL, fs.FileMode(h.Mode).Perm()|0o600)
		if err != nil {
			return err
		}
		_, err = io.Copy(f, content)
		return errors.Join(err, f.Close())
	}
	return nil
}

// copyTo sends a file or folder to the machine.
func (a *app) copyTo(ctx context.Context, c *client.Client, from string, at client.FileAt) error {
	into, err := entryOf(ctx, c, at)
	if err != nil {
		return err
	}
	if from == "-" {
		_, err := c.Upload(ctx, at, a.in, "")
		return err
	}
	stat, err := os.Stat(from)
	if err != nil {
		return errand.Errorf(errand.NotFound, "not_found", "%s cannot be read: %w.", from, plainError(err))
	}
	if into != nil && into.Kind == api.FileFolder || strings.HasSuffix(at.Path, "/") {
		abs, err := filepath.Abs(from)
		if err != nil {
			return err
		}
		at.Path = path.Join(at.Path, filepath.Base(abs))
	}
	if stat.IsDir() {
		r, w := io.Pipe()
		go func() { w.CloseWithError(packFolder(w, from)) }()
		_, err := c.UploadFolder(ctx, at, r)
		r.Close()
		return err
	}
	f, err := os.Open(from)
	if err != nil {
		return errand.Errorf(errand.NotFound, "not_found", "%s cannot be read: %w.", from, plainError(err))
	}
	defer f.Close()
	_, err = c.Upload(ctx, at, f, "")
	return err
}

// packFolder writes a folder as a tar.gz, without .git.
func packFolder(w io.Writer, dir string) error {
	z := gzip.NewWriter(w)
	t := tar.NewWriter(z)
	err := filepath.WalkDir(dir, func(name string, d fs.DirEntry, err error) error {
		if err != nil {
			return err
		}
		if d.Name() == ".git" && name != dir {
			if d.IsDir() {
				return fs.SkipDir
			}
			return nil
		}
		rel, err := filepath.Rel(dir, name)
		if err != nil || rel == "." {
			return err
		}
		return packOne(t, name, filepath.ToSlash(rel), d)
	})
	return errors.Join(err, t.Close(), z.Close())
}

func packOne(t *tar.Writer, name, as string, d fs.DirEntry) error {
	stat, err := d.Info()
	if err != nil {
		return err
	}
	link := ""
	switch mode := stat.Mode(); {
	case mode&fs.ModeSymlink != 0:
		if link, err = os.Readlink(name); err != nil {
			return err
		}
	case !mode.IsRegular() && !mode.IsDir():
		return nil
	}
	h, err := tar.FileInfoHeader(stat, filepath.ToSlash(link))
	if err != nil {
		return err
	}
	if h.Name = as; stat.IsDir() {
		h.Name += "/"
	}
	h.Uid, h.Gid, h.Uname, h.Gname = 0, 0, "", ""
	if err := t.WriteHeader(h); err != nil || !stat.Mode().IsRegular() {
		return err
	}
	f, err := os.Open(name)
	if err != nil {
		return err
	}
	defer f.Close()
	_, err = io.CopyN(t, f, h.Size)
	return err
}

func (a *app) artifactsCommand() *cobra.Command {
	return &cobra.Command{
		Use: "artifacts AGENT [PATH]", Short: "List what an agent left for people, or print a link to it", Args: usage(cobra.RangeArgs(1, 2)),
		Long: "List what an agent left for people. With a PATH, print a link by which anybody who\nreaches the server downloads that for 15 minutes.",
		RunE: func(cmd *cobra.Command, args []string) error {
			c, id, err := a.agentArg(cmd.Context(), args)
			if err != nil {
				return err
			}
			if len(args) > 1 {
				const folder = "artifacts/" // as they are listed; who types may leave it out
				link, err := c.ArtifactLink(cmd.Context(), id, folder+strings.TrimPrefix(args[1], folder))
				if err != nil {
					return err
				}
				if a.json {
					return a.printJSON(link)
				}
				fmt.Fprintln(a.out, link.URL)
				return nil
			}
			all, err := c.Artifacts(cmd.Context(), id)
			if err != nil {
				return err
			}
			if a.json {
				return a.printJSON(all.Items)
			}
			var rows [][]string
			for _, f := range all.Items {
				rows = append(rows, []string{fmt.Sprint(f.SizeBytes), ago(f.UpdatedAt, time.Now()), printable(f.Path)})
			}
			return table(a.out, rows)
		},
	}
}
