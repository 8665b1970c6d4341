package guest

import (
	"context"
	"encoding/binary"
	"encoding/hex"
	"errors"
	"io/fs"
	"net/netip"
	"slices"
	"strconv"
	"strings"
)

// Listener is a TCP port of the machine that some program listens on.
type Listener struct {
	Port int
	// Address is where: an unspecified one is all addresses. Of several the
	// widest.
	Address netip.Addr
}

// Listeners gives the TCP ports that are listened on in the machine now, in
// order; also those that the guest itself listens on.
func (l *Line) Listeners(ctx context.Context) ([]Listener, error) {
	var all []Listener
	for _, name := range []string{"net/tcp", "net/tcp6"} {
		table, _, err := l.ReadFile(ctx, "/proc", name, 0, 0)
		if errors.Is(err, fs.ErrNotExist) {
			continue // a kernel without IPv6 has one table
		}
		if err != nil {
			return nil, err
		}
		all = append(all, parseListeners(string(table))...)
	}
	slices.SortStableFunc(all, func(a, b Listener) int {
		if a.Port != b.Port || a.Address.IsUnspecified() == b.Address.IsUnspecified() {
			return a.Port - b.Port
		} else if a.Address.IsUnspecified() {
			return -1
		}
		return 1
	})
	return slices.CompactFunc(all, func(a, b Listener) bool { return a.Port == b.Port }), nil
}

// parseListeners reads a table of /proc/net, and leaves out lines that are none.
func parseListeners(table string) (all []Listener) {
	const listening = "0A"
	for line := range strings.Lines(table) {
		fields := strings.Fields(line)
		if len(fields) < 4 || fields[3] != listening {
			continue
		}
		host, port, _ := strings.Cut(fields[1], ":")
		n, err := strconv.ParseUint(port, 16, 16)
		raw, hexErr := hex.DecodeString(host)
		if err != nil || hexErr != nil || n == 0 || len(raw)%4 != 0 {
			continue
		}
		// The kernel prints each word of an address in the host's byte order.
		for i := 0; i < len(raw); i += 4 {
			binary.BigEndian.PutUint32(raw[i:], binary.NativeEndian.Uint32(raw[i:]))
		}
		if address, ok := netip.AddrFromSlice(raw); ok {
			all = append(all, Listener{int(n), address.Unmap()})
		}
	}
	return all
}
