package survey

import (
	"io/fs"
)

// Tree is a repository's files. Paths are slash-separated, from its root.
type Tree struct {
	Files []string // regular files, in a fixed order
	// Read gives a file's content; NotFound (or fs.ErrNotExist) for what is not
	// there, TooLarge for what it will not read. Other errors end the look.
	Read func(path string) ([]byte, error)
}

// FromFS gives the tree below the root of fsys, without .git.
func FromFS(fsys fs.FS) (Tree, error) {
	t := Tree{Read: func(path string) ([]byte, error) { return fs.ReadFile(fsys, path) }}
	err := fs.WalkDir(fsys, ".", func(p string, d fs.DirEntry, err error) error {
		switch {
		case err != nil:
			return err
		case d.IsDir() && d.Name() == ".git":
			return fs.SkipDir
		case d.Type().IsRegular():
			t.Files = append(t.Files, p)
		}
		return nil
	})
	return t, err
}
