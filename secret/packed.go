package secret

import (
	"bufio"
	"bytes"
	"compress/flate"
	"compress/gzip"
	"compress/zlib"
	"encoding/binary"
	"io"
)

// A secret may be in what is compressed: in a gzip file, with a tar in it or
// not, in the members of a zip archive, in git's objects. Find looks into these
// while it reads, in the stream itself as ever. It does not look further where
// more comes out than is bounded here, and into no other format.

const (
	mostNested = 3        // so deep compressed things may be within each other
	mostPacked = 64 << 20 // bytes that come out of one stream
	mostRatio  = 32       // bytes that come out for one that went in, past
	freeRatio  = 1 << 20  // so many
)

// read looks through r and what is compressed in it, depth deep.
func (l *looking) read(r io.Reader, depth int) error {
	s := &scan{looking: l, line: 1, packed: depth < mostNested}
	in := &source{r: r, to: s}
	if l.outer == nil {
		l.outer = in
	}
	b := bufio.NewReaderSize(in, 16<<10)
	if depth > 0 {
		l.unpack(b, depth)
	}
	_, err := io.Copy(io.Discard, b)
	s.look()
	return err
}

// unpack looks into b if it begins as something compressed does. What is damaged,
// or no such thing, is left.
func (l *looking) unpack(b *bufio.Reader, depth int) {
	head, err := b.Peek(4)
	if err != nil {
		return // read meets it again
	}
	switch {
	case bytes.HasPrefix(head, []byte("\x1f\x8b\x08")):
		if z, err := gzip.NewReader(b); err == nil {
			l.inside(z, depth)
		}
	case head[0] == 'x' && binary.BigEndian.Uint16(head)%31 == 0:
		if z, err := zlib.NewReader(b); err == nil {
			l.inside(z, depth)
		}
	case string(head) == zipMember:
		l.unzip(b, depth)
	}
}

// inside looks through what comes out of z and says whether that was all.
func (l *looking) inside(z io.Reader, depth int) bool {
	p := &outpour{z: z, looking: l}
	return l.read(p, depth-1) == nil && !p.cut
}

// outpour is what comes out of something compressed, as far as is bounded.
type outpour struct {
	z io.Reader
	*looking
	cut bool
}

func (p *outpour) Read(b []byte) (int, error) {
	room := min(mostPacked, freeRatio+mostRatio*p.outer.n) - p.packed
	if room <= 0 {
		p.cut = true
		return 0, io.EOF
	}
	n, err := p.z.Read(b[:min(int64(len(b)), room)])
	p.packed += int64(n)
	return n, err
}

// zipMember is what each member of a zip archive begins with.
const zipMember = "PK\x03\x04"

// unzip looks through the members of a zip archive, one after another.
func (l *looking) unzip(b *bufio.Reader, depth int) {
	for {
		var h [30]byte
		if _, err := io.ReadFull(b, h[:]); err != nil || string(h[:4]) != zipMember {
			return
		}
		u16 := func(at int) int { return int(binary.LittleEndian.Uint16(h[at:])) }
		later, method, size := u16(6)&8 != 0, u16(8), int64(binary.LittleEndian.Uint32(h[18:]))
		if _, err := b.Discard(u16(26) + u16(28)); err != nil {
			return
		}
		switch {
		case method == 8: // deflated; its end shows by itself
			if !l.inside(flate.NewReader(b), depth) || later && !skipDescriptor(b) {
				return
			}
		case later: // nobody knows where it ends
			return
		default:
			member := io.LimitReader(b, size)
			if !l.inside(member, depth) {
				return
			}
		}
	}
}

// skipDescriptor reads past what follows a member whose size was not known ahead.
func skipDescriptor(b *bufio.Reader) bool {
	n := 12
	if head, err := b.Peek(4); err == nil && string(head) == "PK\x07\x08" {
		n = 16
	}
	_, err := b.Discard(n)
	return err == nil
}

// source reads from r, and has all of it looked through. An error stays.
type source struct {
	r   io.Reader
	to  *scan
	n   int64
	err error
}

func (s *source) Read(p []byte) (int, error) {
	if s.err != nil {
		return 0, s.err
	}
	n, err := s.r.Read(p)
	s.n, s.err = s.n+int64(n), err
	_, _ = s.to.Write(p[:n]) // gives no error
	return n, err
}
