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

	"github.com/errand-dev/errand/guest/wire"
)

// Listener is a TCP port of the machine that some program listens on.
type Listener struct {
	Port int
	// Address is where: an unspecified one is all addresses. Of several the
	// widest.
	Address netip.Addr

	inode uint64 // of its socket; 0 where the table does not say
}

// Owner is a process of the machine, as it says itself.
type Owner struct {
	PID     int
	Command string // its command line, 4 KiB of it at most; "" where it has none
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

// Owners gives the processes that hold some listeners, by port: of several the
// oldest. What cannot be found out is left out; a guest that cannot look for them
// tells of none.
func (l *Line) Owners(ctx context.Context, listeners []Listener) (map[int]Owner, error) {
	ports := map[uint64]int{}
	var asked wire.Sockets
	for _, s := range listeners {
		if s.inode != 0 {
			ports[s.inode] = s.Port
			asked.Inodes = append(asked.Inodes, s.inode)
		}
	}
	if len(asked.Inodes) == 0 {
		return nil, nil
	}
	var found wire.Owners
	_, err := l.call(ctx, wire.MethodOwners, asked, nil, &found)
	if refused := (*Error)(nil); errors.As(err, &refused) && refused.Code == wire.CodeInvalid {
		return nil, nil
	}
	if err != nil {
		return nil, err
	}
	owners := map[int]Owner{}
	for _, o := range found.Owners {
		if port, ok := ports[o.Inode]; ok && o.PID > 0 {
			owners[port] = Owner{PID: o.PID, Command: oneLine(o.Command, wire.MaxOwnerCommand)}
		}
	}
	return owners, nil
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
			all = append(all, Listener{Port: int(n), Address: address.Unmap(), inode: inodeOf(fields)})
		}
	}
	return all
}

// inodeOf reads which socket a line of a table is about; 0 where it does not say.
func inodeOf(fields []string) uint64 {
	const column = 9
	if len(fields) <= column {
		return 0
	}
	n, err := strconv.ParseUint(fields[column], 10, 64)
	if err != nil {
		return 0
	}
	return n
}
