package main_test

import (
	"fmt"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/errand-dev/errand"
	"github.com/errand-dev/errand/journal"
	"github.com/errand-dev/errand/secret"
	"github.com/errand-dev/errand/store"
)

// TestPanelList drives a list of 1,000 agents: it scrolls, is searched and
// filtered, and many of them are archived and deleted at once.
func TestPanelList(t *testing.T) {
	p := openPanel(t, "testdata/panel.json")
	p.in.kill()
	manyAgents(t, p.in.data, 1000)
	p.in.start("--listen", strings.TrimPrefix(p.address, "http://"))
	p.drive("list.mjs", "", nil)
}

// manyAgents writes n agents into the database of a server that does not run, as
// if each had worked once.
func manyAgents(t *testing.T, data string, n int) {
	t.Helper()
	s, err := store.Open(t.Context(), filepath.Join(data, "errand.db"))
	if err != nil {
		t.Fatal(err)
	}
	defer s.Close()
	ends := []errand.RunStatus{errand.RunFinished, errand.RunFinished, errand.RunFailed, errand.RunCancelled}
	models := []string{"claude-sonnet-4-5", "claude-opus-4-5"}
	_, err = journal.New(s, &secret.Redactor{}).Decide(t.Context(), func(tx *journal.Tx) error {
		for i := range n {
			end, repo := ends[i%len(ends)], fmt.Sprintf("https://git.example/team/app-%d.git", i%3)
			at := tx.Now().Add(time.Duration(i-n) * time.Minute)
			agent := errand.Agent{
				ID: errand.NewAgentID(), Name: fmt.Sprintf("Task %03d: mend what is broken in the parser", i), Status: errand.AgentIdle,
				Repositories: []errand.Repository{{URL: repo}}, Branch: fmt.Sprintf("errand/task-%03d", i),
				Settings:  errand.Settings{Model: errand.Model{ID: models[i%len(models)]}},
				CreatedAt: at, UpdatedAt: at,
			}
			run := errand.Run{ID: errand.NewRunID(), Agent: agent.ID, Prompt: errand.Prompt{Text: agent.Name}, Status: end, CreatedAt: at, UpdatedAt: at}
			agent.LatestRun = run.ID
			if err := tx.InsertAgent(agent, ""); err != nil {
				return err
			}
			if err := tx.InsertRun(run); err != nil {
				return err
			}
			run.StartedAt, run.EndedAt, run.Usage = at, at, errand.Usage{Input: int64(1000 * i), Output: 500}
			if err := tx.UpdateRun(run); err != nil {
				return err
			}
			if err := tx.Tell(agent.ID, run.ID, errand.Fact{Kind: errand.EventText, Data: errand.TextData{Turn: 1, Text: fmt.Sprintf("Attempt %d ended as it should.", i)}}); err != nil {
				return err
			}
		}
		return nil
	})
	if err != nil {
		t.Fatal(err)
	}
}
