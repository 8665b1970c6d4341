//go:build !linux

package egress

import (
	"errors"
	"net"
	"syscall"
)

// Machines with a link of their own exist on Linux alone; elsewhere a Gate
// serves DialContext.
var errNoLinks = errors.New("links to machines need Linux")

func setOffloads(syscall.RawConn) error              { return errNoLinks }
func readFrame(uintptr, []byte, []byte) (int, error) { return 0, errNoLinks }
func writeFrame(uintptr, [][]byte) error             { return errNoLinks }
func awaitReadable(net.Conn) error                   { return nil }
