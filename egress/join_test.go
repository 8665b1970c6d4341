package egress

import (
	"fmt"
	"testing"
	"time"

	"github.com/errand-dev/errand"
)

// TestConnectionsAreGathered tells thousands of connections at once: few are
// told of them, and no byte is lost.
func TestConnectionsAreGathered(t *testing.T) {
	var told []errand.Connection
	c := &gathering{tell: func(some []errand.Connection) { told = append(told, some...) }}
	const each, ports = 10, 700
	for range each {
		for port := range ports {
			c.add(errand.Connection{Name: "a.example", Address: "203.0.113.1", Port: port + 1, Protocol: "tcp", Sent: 1, Received: 2, Started: time.Now()})
		}
	}
	c.write()
	if len(told) > 4*(maxGathered+1) || len(told) < maxGathered {
		t.Errorf("%d connections were told as %d", each*ports, len(told))
	}
	var count int
	var sent, received int64
	for _, n := range told {
		count += max(n.Count, 1)
		sent += n.Sent
		received += n.Received
	}
	if got := fmt.Sprint(count, sent, received); got != fmt.Sprint(each*ports, each*ports, 2*each*ports) {
		t.Errorf("%s connections and bytes were told", got)
	}
}
