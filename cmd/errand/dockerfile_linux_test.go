package main_test

import (
	"strings"
	"testing"

	"github.com/errand-dev/errand"
	"github.com/errand-dev/errand/llm/scripted"
	"github.com/errand-dev/errand/machine/imagetest"
)

// TestDockerfile builds the image of an environment on a server that is killed
// in the middle of it. The next server builds on, the agent works in a machine
// that stands on the result, and the next agent finds it built.
func TestDockerfile(t *testing.T) {
	network := imagetest.NewNetwork(t)
	t.Setenv("ERRAND_EGRESS_PRIVATE", network.Prefix().String())
	registry := network.Registry(nil)
	imagetest.Push(t, registry, "tools", imagetest.Busybox(t, "git"))
	in := install(t, &scripted.Script{Conversations: []*scripted.Conversation{{
		Match: scripted.Pat(`(?i)look around`),
		Turns: []*scripted.Turn{
			{Calls: []scripted.Call{{Name: "run_terminal_cmd", Args: []byte(`{"command":"cat /opt/tool; echo $COLOUR; id -un"}`)}}},
			{Expect: scripted.Pat(`(?s)v1.*green.*app`), Calls: []scripted.Call{{Name: "finish", Args: []byte(`{"summary":"All is there."}`)}}},
		},
	}}})
	repo := remote(t, map[string]string{
		".cursor/environment.json": `{"build": {"dockerfile": "Dockerfile", "context": ".."}}`,
		".cursor/Dockerfile":       "FROM " + registry + "/tools\nCOPY tool.txt /opt/tool\nRUN echo slow; sleep 3\nENV COLOUR=green\nUSER app\n",
		"tool.txt":                 "v1\n",
	})
	made := in.agent("Look around", repo, "gvisor")
	printed := ""
	in.until(made.Agent.ID, "the slow step", func(e errand.Event) bool {
		printed += ofImage(t, e)
		return strings.Contains(printed, "slow\n")
	})
	in.kill()
	in.start()
	if d := in.finished(made.Agent.ID, made.Run.ID); d.Result != "All is there." {
		t.Errorf("the run's end is %+v", d)
	}
	if got := in.told(made.Agent.ID); !strings.Contains(got, "CACHED [2/3] COPY tool.txt") || !strings.Contains(got, "DONE [3/3] RUN echo slow; sleep 3") {
		t.Errorf("the build told:\n%s", got)
	}
	second := in.agent("Look around once more", repo, "runc")
	in.finished(second.Agent.ID, second.Run.ID)
	if got := in.told(second.Agent.ID); got != "" {
		t.Errorf("an unchanged Dockerfile was built again:\n%s", got)
	}
}

// told gives what the agent's image phases printed.
func (in *installation) told(agent string) string {
	var text strings.Builder
	for _, e := range in.events(agent) {
		text.WriteString(ofImage(in.t, e))
	}
	return text.String()
}

// ofImage gives what an event says that a phase image printed.
func ofImage(t *testing.T, e errand.Event) string {
	t.Helper()
	if e.Kind != errand.EventPhaseOutput {
		return ""
	}
	d := data[errand.PhaseOutput](t, e)
	if d.Phase != errand.PhaseImage {
		return ""
	}
	return d.Text
}
