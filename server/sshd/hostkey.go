package sshd

import (
	"crypto/ed25519"
	"crypto/rand"
	"encoding/pem"
	"errors"
	"fmt"
	"io/fs"
	"os"

	"golang.org/x/crypto/ssh"

	"github.com/errand-dev/errand"
	"github.com/errand-dev/errand/image"
)

// HostKey gives the key by which clients know this server, from a file that only
// its owner may read. Where there is none it is made.
func HostKey(file string) (ssh.Signer, error) {
	text, err := os.ReadFile(file)
	if errors.Is(err, fs.ErrNotExist) {
		text, err = newHostKey(file)
	}
	if err != nil {
		return nil, fmt.Errorf("reading the ssh host key: %w", err)
	}
	key, err := ssh.ParsePrivateKey(text)
	if err != nil {
		return nil, errand.Errorf(errand.Invalid, "host_key", "The ssh host key %s cannot be read (%v). Put the file back as it was; if it is lost, remove it, and clients will warn that the server has changed.", file, err)
	}
	return key, nil
}

func newHostKey(file string) ([]byte, error) {
	_, private, err := ed25519.GenerateKey(rand.Reader)
	if err != nil {
		return nil, err
	}
	block, err := ssh.MarshalPrivateKey(private, "errand")
	if err != nil {
		return nil, err
	}
	text := pem.EncodeToMemory(block)
	return text, image.WriteFile(file, text) // made for its owner alone
}
