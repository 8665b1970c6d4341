package guest

import (
	"net/netip"
	"slices"
	"testing"
)

// TestParseListeners reads tables as Linux and gVisor print them.
func TestParseListeners(t *testing.T) {
	const table = `  sl  local_address rem_address   st tx_queue rx_queue tr tm->when retrnsmt   uid  timeout inode
   0: 0100007F:1CFA 00000000:0000 0A 00000000:00000000 00:00000000 00000000     0        0 12345 1 0000000000000000 100 0 0 10 0
   1: 0A0200C0:A1B2 08080808:01BB 01 00000000:00000000 00:00000000 00000000     0        0 12346 1 0000000000000000 20 4 30 10 -1
   2: 00000000000000000000000000000000:0FAA 00000000000000000000000000000000:0000 0A 00000000:00000000 00:00000000 00000000
   3: 0000000000000000FFFF00000100007F:0050 00000000000000000000000000000000:0000 0A 00000000:00000000 00:00000000 00000000
   4: nonsense:0050 00000000:0000 0A
   5: 0100007F:FFFFF 00000000:0000 0A
`
	want := []Listener{
		{7418, netip.MustParseAddr("127.0.0.1"), 12345}, {4010, netip.IPv6Unspecified(), 0}, {80, netip.MustParseAddr("127.0.0.1"), 0},
	}
	if got := parseListeners(table); !slices.Equal(got, want) {
		t.Errorf("the table has %v, want %v", got, want)
	}
}
