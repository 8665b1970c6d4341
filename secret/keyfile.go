package secret

import (
	"bytes"
	"context"
	"encoding/base64"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"strconv"
	"sync"

	"github.com/tink-crypto/tink-go/v2/aead"
	"github.com/tink-crypto/tink-go/v2/insecurecleartextkeyset"
	"github.com/tink-crypto/tink-go/v2/keyset"

	"github.com/errand-dev/errand"
)

// KeyFile is a key-encryption key in a file: a Tink keyset (AES-256-GCM), mode
// 0600. Its primary key wraps; the older ones of the set still unwrap. The file
// is read at each use, so that one that was restored is taken at once and no
// key stays in memory. It may be used from many goroutines, by one process.
type KeyFile struct {
	path string
	// unused says whether nothing is sealed under the file yet, so that it may
	// be made.
	unused func(context.Context) (bool, error)

	mu sync.Mutex // held while the file is made or changed
}

// OpenKeyFile gives the key in the file at path, which need not be there yet:
// the first Wrap makes it, if unused says that nothing is sealed under it. A
// file that is gone although something is, or that cannot be read as a key, is
// an error of code key_lost at each use; it is never replaced.
func OpenKeyFile(path string, unused func(context.Context) (bool, error)) *KeyFile {
	return &KeyFile{path: path, unused: unused}
}

// KEK gives the key for an Envelope, under the name that its records carry.
func (f *KeyFile) KEK(name string) *KEK {
	return &KEK{Name: name, Wrap: f.wrap, Unwrap: f.unwrap, Rotate: f.Rotate, Version: f.version}
}

func (f *KeyFile) wrap(ctx context.Context, key []byte) ([]byte, string, error) {
	handle, err := f.readOrMake(ctx)
	if err != nil {
		return nil, "", err
	}
	a, err := aead.New(handle)
	if err != nil {
		return nil, "", fmt.Errorf("using the key file %s: %w", f.path, err)
	}
	wrapped, err := a.Encrypt(key, []byte(wrapping))
	return wrapped, primary(handle), err
}

// wrapping is bound to each wrapped data key, so that it is not taken for a
// value that was sealed under the file itself.
const wrapping = "errand data key"

func (f *KeyFile) unwrap(_ context.Context, wrapped []byte, version string) ([]byte, error) {
	handle, err := f.read()
	if err != nil {
		return nil, err
	}
	a, err := aead.New(handle)
	if err != nil {
		return nil, fmt.Errorf("using the key file %s: %w", f.path, err)
	}
	key, err := a.Decrypt(wrapped, []byte(wrapping))
	if err != nil {
		return nil, lost("The key file %s does not hold the key %s that sealed this: it was replaced. Restore the file from a backup.", f.path, version)
	}
	return key, nil
}

func (f *KeyFile) version(ctx context.Context) (string, error) {
	handle, err := f.readOrMake(ctx)
	if err != nil {
		return "", err
	}
	return primary(handle), nil
}

// Rotate puts a new key into the file, under which everything is wrapped from
// now on, and gives its version. The earlier ones stay for reading.
func (f *KeyFile) Rotate(ctx context.Context) (string, error) {
	if _, err := f.readOrMake(ctx); err != nil {
		return "", err
	}
	f.mu.Lock()
	defer f.mu.Unlock()
	handle, err := f.read()
	if err != nil {
		return "", err
	}
	m := keyset.NewManagerFromHandle(handle)
	id, err := m.Add(aead.AES256GCMKeyTemplate())
	if err == nil {
		err = m.SetPrimary(id)
	}
	if err == nil {
		handle, err = m.Handle()
	}
	if err == nil {
		err = f.write(handle, os.Rename)
	}
	if err != nil {
		return "", fmt.Errorf("rotating the key file %s: %w", f.path, err)
	}
	return primary(handle), nil
}

// OpenOld opens a value that was sealed under the file itself, before values
// had data keys of their own.
func (f *KeyFile) OpenOld(sealed, about string) ([]byte, error) {
	handle, err := f.read()
	if err != nil {
		return nil, err
	}
	raw, err := base64.StdEncoding.DecodeString(sealed)
	if err != nil {
		return nil, fmt.Errorf("unsealing %s: %w", about, err)
	}
	a, err := aead.New(handle)
	if err != nil {
		return nil, fmt.Errorf("using the key file %s: %w", f.path, err)
	}
	value, err := a.Decrypt(raw, []byte(about))
	if err != nil {
		return nil, lost("The key file %s does not hold the key that sealed the %s: it was replaced. Restore the file from a backup.", f.path, about)
	}
	return value, nil
}

func lost(format string, args ...any) error {
	return errand.Errorf(errand.Unavailable, "key_lost", format, args...)
}

func (f *KeyFile) read() (*keyset.Handle, error) {
	raw, err := os.ReadFile(f.path)
	if errors.Is(err, fs.ErrNotExist) {
		return nil, lost("The key file %s is gone, and secrets are sealed under it. Restore it from a backup. If there is none, remove those secrets (errand secret ls, errand secret rm) and the agents that were given them or variables of their own (errand rm), and set them anew; nothing was overwritten. (%w)", f.path, err)
	}
	if err != nil {
		return nil, fmt.Errorf("reading the key file %s: %w", f.path, err)
	}
	handle, err := insecurecleartextkeyset.Read(keyset.NewJSONReader(bytes.NewReader(raw)))
	if err != nil {
		return nil, lost("The key file %s cannot be read as a key (%w). Restore it from a backup; it was left as it is.", f.path, err)
	}
	return handle, nil
}

func (f *KeyFile) readOrMake(ctx context.Context) (*keyset.Handle, error) {
	f.mu.Lock()
	defer f.mu.Unlock()
	if _, err := os.Stat(f.path); !errors.Is(err, fs.ErrNotExist) {
		return f.read()
	}
	unused, err := f.unused(ctx)
	if err != nil {
		return nil, fmt.Errorf("making the key file %s: %w", f.path, err)
	}
	if !unused {
		return f.read() // says that it is gone
	}
	handle, err := keyset.NewHandle(aead.AES256GCMKeyTemplate())
	if err == nil {
		err = f.write(handle, os.Link) // Link replaces nothing
	}
	if err != nil {
		return nil, fmt.Errorf("making the key file %s: %w", f.path, err)
	}
	return handle, nil
}

// write puts the keyset into the file, whole or not at all: a torn key file
// would be a lost key.
func (f *KeyFile) write(handle *keyset.Handle, place func(from, to string) error) error {
	var b bytes.Buffer
	if err := insecurecleartextkeyset.Write(handle, keyset.NewJSONWriter(&b)); err != nil {
		return err
	}
	tmp, err := os.CreateTemp(filepath.Dir(f.path), ".key-*")
	if err != nil {
		return err
	}
	defer os.Remove(tmp.Name())
	if _, err := tmp.Write(b.Bytes()); err != nil {
		return errors.Join(err, tmp.Close())
	}
	if err := errors.Join(tmp.Sync(), tmp.Close()); err != nil {
		return err
	}
	if err := place(tmp.Name(), f.path); err != nil {
		return err
	}
	dir, err := os.Open(filepath.Dir(f.path))
	if err != nil {
		return err
	}
	return errors.Join(dir.Sync(), dir.Close())
}

func primary(handle *keyset.Handle) string {
	return strconv.FormatUint(uint64(handle.KeysetInfo().GetPrimaryKeyId()), 10)
}
