//go:build linux

package buildkit

import (
	"crypto/hmac"
	"crypto/rand"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"io/fs"
	"maps"
	"os"
	"slices"
	"strings"
)

// All builds share the cache of steps, by what a step is. What a secret is worth
// is no part of that, and a step may keep what it was told: so the commands of a
// Dockerfile that mounts secrets run under a host name that stands for their
// values, which is a part of each. Who has the same secrets has the same steps.

// given are the secrets that the build gets: those that its Dockerfile mounts, or
// all where it names one by a variable.
func (o *build) given() map[string][]byte {
	given := map[string][]byte{}
	for _, s := range o.file.Secrets {
		if strings.Contains(s.ID, "$") {
			return o.Secrets
		}
		if value, ok := o.Secrets[s.ID]; ok {
			given[s.ID] = value
		}
	}
	return given
}

// hostname gives the name that stands for the secrets of a build, from which they
// cannot be guessed; "" for a Dockerfile that mounts none.
func (o *build) hostname() (string, error) {
	if len(o.file.Secrets) == 0 {
		return "", nil
	}
	key, err := o.builder.nameKey()
	if err != nil {
		return "", fmt.Errorf("reading the key of the cache's names: %w", err)
	}
	given := o.given()
	hash := hmac.New(sha256.New, key)
	for _, id := range slices.Sorted(maps.Keys(given)) {
		fmt.Fprintf(hash, "%q %q\n", id, given[id])
	}
	return "build-" + hex.EncodeToString(hash.Sum(nil)[:16]), nil
}

// nameKey gives the key that names are made with, and makes it if it is not
// there. The caller holds turns.
func (b *Builder) nameKey() ([]byte, error) {
	file := b.path("names.key")
	key, err := os.ReadFile(file)
	if err == nil && len(key) == sha256.Size || err != nil && !errors.Is(err, fs.ErrNotExist) {
		return key, err
	}
	key = make([]byte, sha256.Size)
	rand.Read(key)
	return key, os.WriteFile(file, key, 0o600) // one that was cut short is made anew
}

// cacheNamespace names the cache mounts that the build has.
func (o *build) cacheNamespace() string {
	sum := sha256.Sum256([]byte(o.CacheOf))
	return hex.EncodeToString(sum[:])
}
