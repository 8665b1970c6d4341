package setup

import (
	"context"
	"encoding/json"
	"fmt"
	"strings"

	"github.com/errand-dev/errand"
	"github.com/errand-dev/errand/runner"
)

// maxTries is how often a model is sent to work on a draft before people are
// asked.
const maxTries = 3

// try counts a new try of a model; with first, the tries begin anew.
func try(setup *errand.Setup, first bool) {
	setup.Tries++
	if first {
		setup.LastTry = setup.Tries + maxTries - 1
	}
}

// letWork lets a model make the draft work in its machine, and takes up the file
// that it leaves.
func (s *Setups) letWork(ctx context.Context, setup *errand.Setup) error {
	run, err := s.send(ctx, setup)
	if err != nil {
		return err
	}
	end, err := s.await(ctx, setup, run)
	if err != nil {
		return err
	}
	if end.Status != errand.RunFinished {
		e := errand.Errorf(errand.Conflict, "setup_agent_failed", "The agent %s ended as %s before it was done. Look at what it did: errand logs %s; then go on by hand or send it again: errand setup go %s", setup.Machine, end.Status, setup.Machine, setup.ID)
		if end.Error != nil {
			e.Message += " (" + end.Error.Message + ")"
		}
		return e
	}
	if err := s.fromMachine(ctx, setup); err != nil {
		return err
	}
	setup.Error = nil
	setup.Proof = newProof(*setup)
	return s.put(ctx, setup, errand.SetupProving, "the model has left a draft")
}

// send gives the model its prompt, once for each try, and gives the run. A try
// that was sent already gives its run.
func (s *Setups) send(ctx context.Context, setup *errand.Setup) (errand.RunID, error) {
	if setup.Machine == "" {
		setup.Machine = errand.NewAgentID()
		if err := s.keep(ctx, setup); err != nil {
			return "", err
		}
	}
	key := fmt.Sprintf("%s-%d", setup.ID, setup.Tries)
	if sent, found, err := s.Store.Request(ctx, setup.Caller.Key, key); err != nil || found {
		return sent.Run, err
	}
	_, err := s.Store.Agent(ctx, setup.Machine)
	if err == nil {
		run, err := s.Runner.FollowUp(ctx, setup.Caller, setup.Machine, runner.FollowUp{
			Prompt: errand.Prompt{Text: again(*setup)}, Model: &setup.Model, WhenBusy: "queue", IdempotencyKey: key,
		})
		return run.ID, err
	}
	if errand.KindOf(err) != errand.NotFound {
		return "", err
	}
	text, err := part(*setup, false)
	if err != nil {
		return "", err
	}
	r := request(*setup, setup.Machine, "model", text)
	r.Prompt, r.Settings.Model, r.IdempotencyKey = errand.Prompt{Text: prompt(*setup)}, setup.Model, key
	_, run, err := s.Runner.Start(ctx, setup.Caller, r)
	return run.ID, err
}

// await waits for a run's end. What the model does is in its agent's journal;
// the setup's says where.
func (s *Setups) await(ctx context.Context, setup *errand.Setup, run errand.RunID) (errand.RunStatusData, error) {
	var end errand.RunStatusData
	err := s.phase(ctx, setup.ID, errand.PhaseWork, func() (string, error) {
		_, err := s.Journal.Append(ctx, setup.ID, "", errand.Fact{Kind: errand.EventSetupChanged, Data: errand.SetupChanged{
			Status: errand.SetupWorking, What: "the model works in its machine", Machine: setup.Machine,
		}})
		if err != nil {
			return "", err
		}
		for e, err := range s.Journal.Follow(ctx, setup.Machine, 0) {
			if err != nil {
				return "", err
			}
			if e.Run != run || e.Kind != errand.EventRunStatus {
				continue
			}
			if err := json.Unmarshal(e.Data, &end); err != nil {
				return "", fmt.Errorf("reading event %d of %s: %w", e.Seq, e.Agent, err)
			}
			if end.Status.Ended() {
				return string(end.Status), nil
			}
		}
		return "", errand.Errorf(errand.Conflict, "setup_agent_failed", "The agent %s was deleted while it worked on the draft. Send another: errand setup go %s", setup.Machine, setup.ID)
	})
	return end, err
}

// prompt tells a model what to do with a draft.
func prompt(setup errand.Setup) string {
	var b strings.Builder
	fmt.Fprintf(&b, `Make the environment file of this repository work, so that later agents wake up in a machine in which everything is installed.

The file is %s. This draft was made from what the repository says:

%s
It has these keys. "install" runs once, from the repository's root, when a machine's disk is made; only the disk survives it. It may run again on top of the disk that it left, so it must succeed a second time. "start" runs at each start of a machine (put daemons into the background there). "terminals" are named long-running commands: [{"name": "dev", "command": "npm run dev"}]. "ports": [{"name": "web", "port": 3000}]. "image" names an OCI image, "build": {"dockerfileContents": "FROM …"} makes one; leave both out unless a toolchain cannot be installed otherwise.

Do this:
1. Run the install command here. Where something is missing, find the command that installs it, and put that into install.
2. Run install a second time; mend it if that fails.
3. Try start and the terminals' commands, if there are any.
`, pathOf(setup), setup.Draft)
	if setup.Verify != "" {
		fmt.Fprintf(&b, "4. Run the verify command: %s\n   If it fails for want of something, install that. If it is the wrong command for this repository, write the right one into %s.\n", setup.Verify, verifyFile)
	} else {
		fmt.Fprintf(&b, "4. Find a command that shows that the repository can be worked on, its tests or else a build, and write it into %s.\n", verifyFile)
	}
	fmt.Fprintf(&b, `5. Write the finished file to %s.

This machine is thrown away. Afterwards your file is proved in a clean one, so whatever you installed must be in it. Change no other file of the repository, and commit nothing. Put no secrets into the file.`, pathOf(setup))
	return b.String()
}

// again tells a model what the proof of its draft showed, if there was one.
func again(setup errand.Setup) string {
	failed := setup.Error
	if failed == nil {
		return prompt(setup)
	}
	text := fmt.Sprintf("The file was tried in a clean machine and did not work: %s\n", failed.Message)
	if failed.Output != "" {
		text += "\nIts output ends with:\n" + tail(failed.Output, 8<<10) + "\n"
	}
	return text + fmt.Sprintf("\nThis is what was tried:\n\n%s\nFind the cause, write the mended file to %s, and try its commands here before you finish.", setup.Draft, pathOf(setup))
}
