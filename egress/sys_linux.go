package egress

import (
	"fmt"
	"net"
	"os"
	"syscall"

	"golang.org/x/sys/unix"
)

// setOffloads makes a TAP speak 12-byte virtio-net headers and take segments of
// up to 64 KiB with their checksums left open, whatever its driver set.
func setOffloads(raw syscall.RawConn) error {
	var err error
	cerr := raw.Control(func(fd uintptr) {
		if err = unix.IoctlSetPointerInt(int(fd), unix.TUNSETVNETHDRSZ, vnetSize); err != nil {
			err = fmt.Errorf("setting its header size: %w", err)
			return
		}
		if err = unix.IoctlSetInt(int(fd), unix.TUNSETOFFLOAD, unix.TUN_F_CSUM|unix.TUN_F_TSO4); err != nil {
			err = fmt.Errorf("setting its offloads: %w", err)
		}
	})
	if cerr != nil {
		return cerr
	}
	return err
}

func readFrame(fd uintptr, headers, packet []byte) (int, error) {
	return unix.Readv(int(fd), [][]byte{headers, packet})
}

func writeFrame(fd uintptr, parts [][]byte) error {
	_, err := unix.Writev(int(fd), parts)
	return err
}

// awaitReadable blocks until conn has something to read, its end included, so
// that a silent connection holds no buffer. It returns what broke the
// connection: the kernel tells that once, and the read would see an end.
func awaitReadable(conn net.Conn) error {
	sc, ok := conn.(syscall.Conn)
	if !ok {
		return nil
	}
	raw, err := sc.SyscallConn()
	if err != nil {
		return err
	}
	var broken error
	err = raw.Read(func(fd uintptr) bool {
		var one [1]byte
		_, _, broken = unix.Recvfrom(int(fd), one[:], unix.MSG_PEEK|unix.MSG_DONTWAIT)
		return broken != unix.EAGAIN && broken != unix.EINTR
	})
	if broken != nil && broken != unix.EAGAIN {
		return os.NewSyscallError("read", broken)
	}
	return err
}
