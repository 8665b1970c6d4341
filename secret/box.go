package secret

import (
	"bytes"
	"encoding/base64"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"

	"github.com/tink-crypto/tink-go/v2/aead"
	"github.com/tink-crypto/tink-go/v2/insecurecleartextkeyset"
	"github.com/tink-crypto/tink-go/v2/keyset"
	"github.com/tink-crypto/tink-go/v2/tink"
)

// Box seals values under a key file (a Tink keyset, AES-256-GCM).
type Box struct{ aead tink.AEAD }

// OpenBox reads the key file at path, or makes it (mode 0600) where there is
// none. A file that cannot be read as a key is an error; it is never replaced.
func OpenBox(path string) (*Box, error) {
	raw, err := os.ReadFile(path)
	if errors.Is(err, fs.ErrNotExist) {
		raw, err = makeKey(path)
	}
	if err != nil {
		return nil, fmt.Errorf("reading the key file %s: %w", path, err)
	}
	handle, err := insecurecleartextkeyset.Read(keyset.NewJSONReader(bytes.NewReader(raw)))
	if err != nil {
		return nil, fmt.Errorf("reading the key file %s (restore it from a backup; without it sealed values are lost): %w", path, err)
	}
	a, err := aead.New(handle)
	if err != nil {
		return nil, fmt.Errorf("using the key file %s: %w", path, err)
	}
	return &Box{a}, nil
}

func makeKey(path string) ([]byte, error) {
	handle, err := keyset.NewHandle(aead.AES256GCMKeyTemplate())
	if err != nil {
		return nil, err
	}
	var b bytes.Buffer
	if err := insecurecleartextkeyset.Write(handle, keyset.NewJSONWriter(&b)); err != nil {
		return nil, err
	}
	// Whole or not at all: a torn key file would seem to be a lost key.
	tmp, err := os.CreateTemp(filepath.Dir(path), ".key-*")
	if err != nil {
		return nil, err
	}
	defer os.Remove(tmp.Name())
	if _, err := tmp.Write(b.Bytes()); err != nil {
		return nil, errors.Join(err, tmp.Close())
	}
	if err := errors.Join(tmp.Sync(), tmp.Close()); err != nil {
		return nil, err
	}
	return b.Bytes(), os.Rename(tmp.Name(), path)
}

// Seal gives value sealed for the place that about names: Open with another
// about fails, so that a sealed value cannot be moved.
func (b *Box) Seal(value []byte, about string) (string, error) {
	sealed, err := b.aead.Encrypt(value, []byte(about))
	if err != nil {
		return "", fmt.Errorf("sealing %s: %w", about, err)
	}
	return base64.StdEncoding.EncodeToString(sealed), nil
}

// Open gives back what Seal was given.
func (b *Box) Open(sealed, about string) ([]byte, error) {
	raw, err := base64.StdEncoding.DecodeString(sealed)
	if err != nil {
		return nil, fmt.Errorf("unsealing %s: %w", about, err)
	}
	value, err := b.aead.Decrypt(raw, []byte(about))
	if err != nil {
		return nil, fmt.Errorf("unsealing %s (was the key file replaced?): %w", about, err)
	}
	return value, nil
}
