package runner

import (
	"encoding/json"
	"fmt"
	"log/slog"
	"path/filepath"
	"testing"
	"time"

	"github.com/errand-dev/errand"
	"github.com/errand-dev/errand/journal"
	"github.com/errand-dev/errand/secret"
	"github.com/errand-dev/errand/store"
)

// TestConnectionsDoNotFloodTheJournal tells thousands of connections at once:
// few events come of them, and no byte is lost.
func TestConnectionsDoNotFloodTheJournal(t *testing.T) {
	s, err := store.Open(t.Context(), filepath.Join(t.TempDir(), "errand.db"))
	if err != nil {
		t.Fatal(err)
	}
	defer s.Close()
	id := errand.NewAgentID()
	if err := s.Write(t.Context(), func(tx *store.Tx) error { return tx.InsertAgent(errand.Agent{ID: id}, "") }); err != nil {
		t.Fatal(err)
	}
	j := journal.New(s, &secret.Redactor{})
	c := &connections{journal: j, agent: id, log: slog.New(slog.DiscardHandler)}
	const each, ports = 10, 700
	for range each {
		for port := range ports {
			c.add(errand.Connection{Name: "a.example", Address: "203.0.113.1", Port: port + 1, Protocol: "tcp", Sent: 1, Received: 2, Started: time.Now()})
		}
	}
	c.write()
	events, err := j.All(t.Context(), id)
	if err != nil {
		t.Fatal(err)
	}
	if len(events) > 4*(maxGathered+1) || len(events) < maxGathered {
		t.Errorf("%d connections became %d events", each*ports, len(events))
	}
	var count int
	var sent, received int64
	for _, e := range events {
		var n errand.Connection
		if err := json.Unmarshal(e.Data, &n); err != nil {
			t.Fatal(err)
		}
		count += max(n.Count, 1)
		sent += n.Sent
		received += n.Received
	}
	if got := fmt.Sprint(count, sent, received); got != fmt.Sprint(each*ports, each*ports, 2*each*ports) {
		t.Errorf("the journal tells %s connections and bytes", got)
	}
}
