//go:build linux

package archive

import (
	"archive/tar"
	"bufio"
	"compress/gzip"
	"context"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"hash"
	"io"
	"os"

	v1 "github.com/google/go-containerregistry/pkg/v1"
	"golang.org/x/sys/unix"
)

// packed is a layer as it goes into an archive.
type packed struct {
	file   *os.File // without a name; the caller closes it
	size   int64
	digest v1.Hash // of the file
	diff   v1.Hash // of the tar in it
}

// pack writes a layer's compressed tar into a temporary file.
func pack(ctx context.Context, l Layer, o Options) (p packed, err error) {
	p.file, err = os.OpenFile(o.Temp, os.O_RDWR|unix.O_TMPFILE, 0o600)
	if err != nil {
		return p, fmt.Errorf("making temporary file: %w", err)
	}
	defer func() {
		if err != nil {
			p.file.Close()
		}
	}()
	digest, diff := sha256.New(), sha256.New()
	out := &bounded{w: bufio.NewWriterSize(io.MultiWriter(p.file, digest), 1<<20), ctx: ctx, room: o.Room}
	zip, err := gzip.NewWriterLevel(out, gzip.BestSpeed)
	if err != nil {
		return p, err
	}
	entries := tar.NewWriter(io.MultiWriter(zip, diff))
	for _, part := range l.Parts {
		t := &tarrer{tar: entries, part: part, layers: part.Stack, own: len(part.Stack) - 1, links: map[inode]string{}}
		if err := t.write(); err != nil {
			return p, err
		}
	}
	if err := errors.Join(entries.Close(), zip.Close(), out.w.Flush()); err != nil {
		return p, err
	}
	p.size, p.digest, p.diff = out.n, sum(digest), sum(diff)
	return p, nil
}

func sum(h hash.Hash) v1.Hash {
	return v1.Hash{Algorithm: "sha256", Hex: hex.EncodeToString(h.Sum(nil))}
}

// bounded counts what is written and asks for room.
type bounded struct {
	w       *bufio.Writer
	ctx     context.Context
	room    func() error
	n, next int64
}

// Write writes p.
func (b *bounded) Write(p []byte) (int, error) {
	if b.n >= b.next {
		b.next = b.n + 64<<20
		if b.room != nil {
			if err := b.room(); err != nil {
				return 0, err
			}
		}
	}
	if err := b.ctx.Err(); err != nil {
		return 0, err
	}
	n, err := b.w.Write(p)
	b.n += int64(n)
	return n, err
}
