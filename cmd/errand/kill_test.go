package main_test

import (
	"fmt"
	"math/rand/v2"
	"strings"
	"testing"
	"time"

	"github.com/errand-dev/errand"
	"github.com/errand-dev/errand/api"
	"github.com/errand-dev/errand/llm/scripted"
)

// killTurns is how many commands each agent runs, each of which must leave
// exactly one line.
const killTurns = 8

func killScript() *scripted.Script {
	c := &scripted.Conversation{Match: scripted.Pat(`count`)}
	for i := range killTurns {
		// The line is written in the middle of the command, so that a command that
		// was begun twice shows as two lines, however short it lived.
		args := fmt.Sprintf(`{"command":"sleep 0.1; echo %d >> count.txt; sleep 0.1"}`, i)
		c.Turns = append(c.Turns, &scripted.Turn{
			Text: "On with it, one line at a time.", Delay: scripted.Duration(40 * time.Millisecond), Pause: scripted.Duration(5 * time.Millisecond),
			Calls: []scripted.Call{
				{Name: "run_terminal_cmd", Args: []byte(args)},
				{Name: "edit_file", Args: fmt.Appendf(nil, `{"path":"edits.txt","edits":[{"old":"end","new":"%d end"}]}`, i)},
			},
		})
	}
	c.Turns = append(c.Turns, &scripted.Turn{Text: "All lines are there."})
	return &scripted.Script{Conversations: []*scripted.Conversation{c}}
}

// TestKill kills the server at random moments, again and again, while agents
// prepare, work and push. Every run must end well, with every line once, every
// event once, and nothing left over.
func TestKill(t *testing.T) {
	const kills = 36
	in := install(t, killScript(), "--runs", "3")
	seed := time.Now().UnixNano()
	t.Logf("seed %d", seed)
	random := rand.New(rand.NewPCG(uint64(seed), 1))

	repo := remote(t, map[string]string{
		"edits.txt": "begin end\n", "lock.txt": "v1\n", ".cursor/environment.json": `{"install": "sleep 0.3; cp lock.txt installed.txt", "start": "echo up"}`,
		".gitignore": "installed.txt\n",
	})
	type ran struct{ agent, run, branch string }
	var all []ran
	begin := func(engine string) {
		a := in.agent("Please count in "+engine, repo, engine)
		all = append(all, ran{a.Agent.ID, a.Run.ID, a.Agent.Branch})
	}
	for k := range kills {
		if k%6 == 0 {
			begin([]string{"runc", "gvisor", "runc"}[k/6%3])
			begin("runc")
		}
		// Not a wait for anything: the moment itself is what is tried.
		time.Sleep(time.Duration(random.IntN(900)) * time.Millisecond)
		in.kill()
		in.start("--runs", "3")
	}
	for _, r := range all {
		in.finished(r.agent, r.run)
		in.checkOnce(t, r.agent)
		var want strings.Builder
		for i := range killTurns {
			fmt.Fprintf(&want, "%d\n", i)
		}
		if got := git(t, repo, "show", r.branch+":count.txt"); got != strings.TrimSpace(want.String()) {
			t.Errorf("%s has the lines %q\n%s", r.branch, strings.Fields(got), in.story(r.agent))
		}
		if got := git(t, repo, "show", r.branch+":edits.txt"); got != "begin 0 1 2 3 4 5 6 7 end" {
			t.Errorf("%s has the edits %q", r.branch, got)
		}
	}
	follow, err := in.client.CreateRun(t.Context(), errand.AgentID(all[0].agent), api.CreateRun{Prompt: api.Prompt{Text: "count once more"}}, "")
	if err != nil {
		t.Fatal(err)
	}
	in.ended(all[0].agent, follow.Run.ID) // it refuses, being out of turns; but it ends
}

// checkOnce wants each tool call and each answer of the model told exactly once.
func (in *installation) checkOnce(t *testing.T, agent string) {
	t.Helper()
	called, ended, turns := map[string]int{}, map[string]int{}, map[int]int{}
	for _, e := range in.events(agent) {
		switch e.Kind {
		case errand.EventToolCalled:
			called[data[errand.ToolCalled](t, e).Op]++
		case errand.EventToolEnded:
			d := data[errand.ToolEnded](t, e)
			ended[d.Op]++
			if d.IsError {
				t.Errorf("tool call %s failed: %s", d.Op, d.Output)
			}
		case errand.EventTurnEnded:
			turns[data[errand.TurnEnded](t, e).Turn]++
		}
	}
	if len(ended) != 2*killTurns || len(turns) != killTurns+1 {
		t.Errorf("%s: %d tool calls ended and %d turns, want %d and %d", agent, len(ended), len(turns), 2*killTurns, killTurns+1)
	}
	for op, n := range ended {
		if n != 1 || called[op] != 1 {
			t.Errorf("tool call %s was told %d times as begun and %d times as ended", op, called[op], n)
		}
	}
	for turn, n := range turns {
		if n != 1 {
			t.Errorf("turn %d ended %d times", turn, n)
		}
	}
}
