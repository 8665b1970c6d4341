package image

import (
	"errors"
	"os"
	"path/filepath"
)

// newPrefix begins the names of files that are being written.
const newPrefix = ".new-"

// WriteFile replaces the small file at path, or makes it. Whoever reads it, also
// after a kill or a power cut, finds all of what was there or all of data, never
// a part. It blocks until data is on the disk.
func WriteFile(path string, data []byte) error {
	tmp, err := os.CreateTemp(filepath.Dir(path), newPrefix)
	if err != nil {
		return err
	}
	defer os.Remove(tmp.Name())
	_, err = tmp.Write(data)
	if err := errors.Join(err, tmp.Sync(), tmp.Close()); err != nil {
		return err
	}
	return os.Rename(tmp.Name(), path)
}
