package egress_test

import (
	"net"
	"net/netip"
	"os"
	"runtime"
	"runtime/debug"
	"strconv"
	"strings"
	"testing"
	"time"

	"golang.org/x/sys/unix"
	"gvisor.dev/gvisor/pkg/tcpip"
	"gvisor.dev/gvisor/pkg/tcpip/header"

	"github.com/errand-dev/errand/egress"
	"github.com/errand-dev/errand/machine"
)

// bareLink gives a link whose other end is a socket instead of a machine's
// kernel, so that a test can send what no kernel would.
func bareLink(t testing.TB) (*machine.Link, *os.File) {
	t.Helper()
	fds, err := unix.Socketpair(unix.AF_UNIX, unix.SOCK_SEQPACKET|unix.SOCK_NONBLOCK|unix.SOCK_CLOEXEC, 0)
	if err != nil {
		t.Fatal(err)
	}
	far := os.NewFile(uintptr(fds[1]), "far")
	t.Cleanup(func() { far.Close() })
	return &machine.Link{
		File: os.NewFile(uintptr(fds[0]), "near"), MTU: 1500,
		Machine: netip.MustParsePrefix("10.201.0.2/24"), Gateway: netip.MustParseAddr("10.201.0.1"),
		MAC: net.HardwareAddr{2, 0, 0, 0, 0, 9},
	}, far
}

// packet gives a frame from src with a TCP SYN to 198.51.100.1:80 in it.
func packet(src string, port uint16) []byte {
	const size = header.EthernetMinimumSize + header.IPv4MinimumSize + header.TCPMinimumSize
	b := make([]byte, size)
	header.Ethernet(b).Encode(&header.EthernetFields{SrcAddr: "\x02\x00\x00\x00\x00\x09", DstAddr: "\xff\xff\xff\xff\xff\xff", Type: header.IPv4ProtocolNumber})
	ip := header.IPv4(b[header.EthernetMinimumSize:])
	from, to := tcpip.AddrFrom4(netip.MustParseAddr(src).As4()), tcpip.AddrFrom4([4]byte{198, 51, 100, 1})
	ip.Encode(&header.IPv4Fields{TotalLength: uint16(len(ip)), TTL: 64, Protocol: uint8(header.TCPProtocolNumber), SrcAddr: from, DstAddr: to})
	ip.SetChecksum(^ip.CalculateChecksum())
	tcp := header.TCP(ip[header.IPv4MinimumSize:])
	tcp.Encode(&header.TCPFields{SrcPort: port, DstPort: 80, SeqNum: 1, DataOffset: header.TCPMinimumSize, Flags: header.TCPFlagSyn, WindowSize: 1000})
	tcp.SetChecksum(^tcp.CalculateChecksum(header.PseudoHeaderChecksum(header.TCPProtocolNumber, from, to, header.TCPMinimumSize)))
	return b
}

// A machine that starts handshakes and never ends them holds nothing up.
func TestCloseDuringHandshakes(t *testing.T) {
	w := newOutside(t, egress.Options{})
	w.host("198.51.100.1:80", func(conn net.Conn) { conn.Read(make([]byte, 1)) })
	link, far := bareLink(t)
	n, err := w.gate.Attach(t.Context(), link, egress.Policy{}, w.record)
	if err != nil {
		t.Fatal(err)
	}
	const syns = 50
	for i := range syns {
		if _, err := far.Write(packet("10.201.0.2", uint16(1000+i))); err != nil {
			t.Fatal(err)
		}
	}
	b := make([]byte, 2000)
	far.SetReadDeadline(time.Now().Add(10 * time.Second))
	for range syns { // the answers
		if _, err := far.Read(b); err != nil {
			t.Fatal(err)
		}
	}
	begun := time.Now()
	n.Close()
	if took := time.Since(begun); took > 2*time.Second {
		t.Errorf("closing took %v", took)
	}
	if len(w.records) != syns {
		t.Errorf("%d records, want %d", len(w.records), syns)
	}
}

// What comes under another address than the machine's own is not taken, nor is
// anything that is cut short.
func TestForgedFrames(t *testing.T) {
	w := newOutside(t, egress.Options{})
	w.host("198.51.100.1:80", func(conn net.Conn) { conn.Read(make([]byte, 1)) })
	link, far := bareLink(t)
	n, err := w.gate.Attach(t.Context(), link, egress.Policy{}, w.record)
	if err != nil {
		t.Fatal(err)
	}
	defer n.Close()
	far.Write(packet("10.201.0.3", 1000))
	good := packet("10.201.0.2", 2000)
	for size := range len(good) {
		if size > 0 { // an empty one would be the socket's end
			far.Write(good[:size])
		}
	}
	far.Write(good)
	b := make([]byte, 2000)
	far.SetReadDeadline(time.Now().Add(10 * time.Second))
	size, err := far.Read(b)
	if err != nil {
		t.Fatal(err)
	}
	answer := header.TCP(header.IPv4(b[header.EthernetMinimumSize:size]).Payload())
	if answer.DestinationPort() != 2000 {
		t.Errorf("the answer goes to port %d", answer.DestinationPort())
	}
}

// BenchmarkIdle tells the resident memory of a machine that does nothing.
func BenchmarkIdle(b *testing.B) {
	gate := egress.New(egress.Options{})
	const machines = 100
	for b.Loop() {
		before := resident(b)
		var all []*egress.Network
		for range machines {
			link, _ := bareLink(b)
			n, err := gate.Attach(b.Context(), link, egress.Policy{}, nil)
			if err != nil {
				b.Fatal(err)
			}
			all = append(all, n)
		}
		b.ReportMetric(float64(resident(b)-before)/machines/1024, "KiB/machine")
		b.ReportMetric(float64(runtime.NumGoroutine())/machines, "goroutines/machine")
		for _, n := range all {
			n.Close()
		}
	}
}

// resident gives the resident set in bytes after all garbage is gone.
func resident(b *testing.B) int64 {
	debug.FreeOSMemory()
	text, err := os.ReadFile("/proc/self/statm")
	if err != nil {
		b.Fatal(err)
	}
	pages, err := strconv.ParseInt(strings.Fields(string(text))[1], 10, 64)
	if err != nil {
		b.Fatal(err)
	}
	return pages * int64(os.Getpagesize())
}
