package git

import (
	"errors"
	"fmt"
	"io"
	"strconv"
)

// Packet lines: four hex digits of length, themselves included, then the
// content. "0000" is a flush and ends a section.

const (
	maxPacket = 65516 // bytes of content in one line, as git bounds it
	flush     = "0000"
)

var errPacket = errors.New("not a packet line")

// readPacket reads one line. more is false at a flush. At the end of r it
// gives io.EOF, inside a line io.ErrUnexpectedEOF.
func readPacket(r io.Reader) (line []byte, more bool, err error) {
	var head [4]byte
	if _, err := io.ReadFull(r, head[:]); err != nil {
		return nil, false, err
	}
	n, err := strconv.ParseUint(string(head[:]), 16, 16)
	if err != nil || n > 0 && n < 4 || n > maxPacket+4 {
		return nil, false, errPacket
	}
	if n == 0 {
		return nil, false, nil
	}
	line = make([]byte, n-4)
	if _, err := io.ReadFull(r, line); err != nil {
		return nil, false, io.ErrUnexpectedEOF
	}
	return line, true, nil
}

// writePacket writes content, which must fit into one line.
func writePacket(w io.Writer, content string) error {
	_, err := fmt.Fprintf(w, "%04x%s", len(content)+4, content)
	return err
}

// band writes all of content on a side band: 1 is data, 2 words for people.
func band(w io.Writer, n byte, content string) error {
	for len(content) > 0 {
		part := content[:min(len(content), maxPacket-1)]
		if err := writePacket(w, string(n)+part); err != nil {
			return err
		}
		content = content[len(part):]
	}
	return nil
}
