package inside

import (
	"errors"
	"fmt"
	"io"
	"net"
	"time"

	"golang.org/x/sys/unix"
)

// connectLimit is how long Connect waits for a guest that is starting.
const connectLimit = 10 * time.Second

// Connect carries one connection between the guest's socket and in and out, and
// returns when either side has closed. It leaves a read of in behind, for the
// process's end to end.
func Connect(socket string, in io.Reader, out io.Writer) error {
	conn, err := dialGuest(socket)
	if err != nil {
		return err
	}
	defer conn.Close()
	ended := make(chan error, 2)
	carry := func(dst io.Writer, src io.Reader) {
		_, err := io.CopyBuffer(struct{ io.Writer }{dst}, struct{ io.Reader }{src}, make([]byte, 64<<10))
		ended <- err
	}
	go carry(conn, in)
	go carry(out, conn)
	return <-ended
}

func dialGuest(socket string) (net.Conn, error) {
	deadline := time.Now().Add(connectLimit)
	for {
		conn, err := net.Dial("unix", socket)
		if err == nil {
			return conn, nil
		}
		starting := errors.Is(err, unix.ENOENT) || errors.Is(err, unix.ECONNREFUSED)
		if !starting || time.Now().After(deadline) {
			return nil, fmt.Errorf("connecting to the guest: %w", err)
		}
		time.Sleep(2 * time.Millisecond)
	}
}
