package runner

import (
	"cmp"
	"context"
	"strings"
	"unicode/utf8"

	"github.com/errand-dev/errand"
	"github.com/errand-dev/errand/build"
	"github.com/errand-dev/errand/git"
	"github.com/errand-dev/errand/journal"
	"github.com/errand-dev/errand/store"
)

// StartRequest is what a new agent is made of.
type StartRequest struct {
	ID           errand.AgentID // "" for a new one
	Name         string         // "" is taken from the prompt
	Prompt       errand.Prompt
	Mode         string // "agent" (also "") or "plan"
	Repositories []errand.Repository
	Settings     errand.Settings
	EnvVars      map[string]string // sealed at rest, given to what runs in the machine
	Branch       string            // "" is made from the name
	// Environment names a stored environment; "" leaves it to Settings and the
	// repository.
	Environment string
	// IdempotencyKey makes a repeated request give the first one's answer.
	IdempotencyKey string
}

// Start makes an agent and queues its first run. It touches no machine and no
// network: what only they can tell (a repository that is not there) fails the
// run.
func (r *Runner) Start(ctx context.Context, caller errand.Caller, req StartRequest) (errand.Agent, errand.Run, error) {
	if strings.TrimSpace(req.Prompt.Text) == "" {
		return errand.Agent{}, errand.Run{}, errand.Errorf(errand.Invalid, "validation_error", "The prompt is empty. Say what the agent is to do.")
	}
	_, entry, err := r.Models.Model(ctx, req.Settings.Model.ID)
	if err != nil {
		return errand.Agent{}, errand.Run{}, err
	}
	// The default is settled here, so that the agent says what it works with and
	// keeps it when the server is given another.
	req.Settings.Model.ID = cmp.Or(req.Settings.Model.ID, entry.ID)
	agent, err := r.newAgent(ctx, caller, req)
	if err != nil {
		return errand.Agent{}, errand.Run{}, err
	}
	vars, err := r.Vault.SealVariables(ctx, agent.ID, req.EnvVars)
	if err != nil {
		return errand.Agent{}, errand.Run{}, err
	}
	var run errand.Run
	_, err = r.Journal.Decide(ctx, func(t *journal.Tx) error {
		earlier, found, err := r.repeated(ctx, t.Tx, caller, req.IdempotencyKey, req.Prompt, func(r store.Request) bool { return r.Made })
		if err != nil {
			return err
		}
		if found {
			run = earlier
			agent, err = t.Agent(ctx, run.Agent)
			return err
		}
		if err := insert(t, &agent, vars); err != nil {
			return err
		}
		run, err = queue(t, &agent, caller, req.IdempotencyKey, true, errand.RunQueuedData{Prompt: req.Prompt, Mode: req.Mode})
		return err
	})
	if err != nil {
		return errand.Agent{}, errand.Run{}, err
	}
	r.nudge()
	return agent, run, nil
}

// insert keeps a new agent, with its own variables sealed (nil for none), and
// tells it.
func insert(t *journal.Tx, agent *errand.Agent, vars *store.SecretRow) error {
	agent.CreatedAt, agent.UpdatedAt = t.Now(), t.Now()
	if err := t.InsertAgent(*agent, ""); err != nil {
		return err
	}
	if vars != nil {
		if err := t.PutSecret(*vars); err != nil {
			return err
		}
	}
	switch _, err := t.Machine(t.Context(), agent.ID); {
	case err != nil && errand.KindOf(err) != errand.NotFound:
		return err
	case err == nil:
		return errand.Errorf(errand.Conflict, "agent_id_conflict", "Agent %s was deleted and its machine is still being removed. Try again in a moment, or choose another id.", agent.ID)
	}
	return t.Tell(agent.ID, "", errand.Fact{Kind: errand.EventAgentCreated, Data: errand.AgentCreated{Agent: *agent}})
}

// repeated gives the run that caller's idempotency key led to, and false where it
// is new or "". A key that was sent with another prompt, to make another agent, or
// with a follow-up of another is a Conflict: to answer as that one would swallow a
// prompt. What else the two requests ask is not compared.
func (r *Runner) repeated(ctx context.Context, t *store.Tx, caller errand.Caller, key string, prompt errand.Prompt, same func(store.Request) bool) (errand.Run, bool, error) {
	if key == "" {
		return errand.Run{}, false, nil
	}
	earlier, found, err := t.Request(ctx, caller.Key, key)
	if err != nil || !found {
		return errand.Run{}, false, err
	}
	run, err := t.Run(ctx, earlier.Agent, earlier.Run)
	if err != nil {
		return errand.Run{}, false, err
	}
	if !same(earlier) || run.Prompt.Text != prompt.Text && run.Prompt.Text != r.Redactor.String(prompt.Text) {
		return errand.Run{}, false, errand.Errorf(errand.Conflict, "idempotency_key_reused",
			"The idempotency key %q was sent before with another request, which led to run %s of agent %s. Send each new request with a new key.", key, earlier.Run, earlier.Agent)
	}
	return run, true, nil
}

// leastMemory is what a machine's kernel, guest and a shell need, in bytes.
const leastMemory = 128 << 20

// newAgent checks a request and gives the agent it asks for.
func (r *Runner) newAgent(ctx context.Context, caller errand.Caller, req StartRequest) (errand.Agent, error) {
	var none errand.Agent
	if m := req.Settings.Limits.Memory; m != 0 && m < leastMemory {
		return none, errand.Errorf(errand.Invalid, "validation_error", "A machine needs %d MiB of memory at least; %d bytes were asked for.", leastMemory>>20, m)
	}
	chosen, err := r.Builds.Choose(ctx, caller, build.Choice{Name: req.Environment, Settings: req.Settings, Repositories: req.Repositories})
	if err != nil {
		return none, err
	}
	req.Settings, req.Repositories = chosen.Settings, chosen.Repositories
	if ref, kept := strings.CutPrefix(req.Settings.Image, errand.SnapshotImage); kept {
		if _, err := r.Snapshots.Key(ctx, ref); err != nil {
			return none, err
		}
	}
	if len(req.Repositories) > 1 {
		return none, errand.Errorf(errand.Invalid, "validation_error", "An agent works on one repository for now; %d were given. Start one agent for each.", len(req.Repositories))
	}
	agent := errand.Agent{
		ID: req.ID, Name: req.Name, Status: errand.AgentActive, Caller: caller, Settings: req.Settings,
	}
	if agent.ID == "" {
		agent.ID = errand.NewAgentID()
	}
	if agent.Name == "" {
		agent.Name = title(req.Prompt.Text)
	}
	for _, repo := range req.Repositories {
		clean, err := git.CleanOpen(repo.URL)
		if err != nil {
			return none, err
		}
		agent.Repositories = append(agent.Repositories, errand.Repository{URL: clean, Ref: repo.Ref})
	}
	if len(agent.Repositories) > 0 {
		switch {
		case req.Settings.WorkOnCurrentBranch:
			agent.Branch = agent.Repositories[0].Ref // "" is settled when the default branch is known
		case req.Branch != "":
			if err := git.CheckBranch(req.Branch); err != nil {
				return none, err
			}
			agent.Branch = req.Branch
		default:
			agent.Branch = git.BranchName(r.Defaults.BranchPrefix, agent.Name)
		}
	}
	return agent, nil
}

// title makes an agent's name of the first line of its prompt.
func title(prompt string) string {
	line, _, _ := strings.Cut(strings.TrimSpace(prompt), "\n")
	line = strings.TrimSpace(line)
	if utf8.RuneCountInString(line) <= 80 {
		return line
	}
	cut := string([]rune(line)[:80])
	if i := strings.LastIndexByte(cut, ' '); i > 40 {
		cut = cut[:i]
	}
	return cut + "…"
}

// queue makes a run of agent, of what asked says and caller adds, and tells it.
// It sets the agent's latest run and status. made: the request with this
// idempotency key made the agent too.
func queue(t *journal.Tx, agent *errand.Agent, caller errand.Caller, key string, made bool, asked errand.RunQueuedData) (errand.Run, error) {
	asked.Caller = caller
	run := errand.Run{
		ID: errand.NewRunID(), Agent: agent.ID, Prompt: asked.Prompt, Mode: asked.Mode,
		Status: errand.RunQueued, CreatedAt: t.Now(), UpdatedAt: t.Now(),
	}
	if err := t.InsertRun(run); err != nil {
		return run, err
	}
	agent.LatestRun, agent.LatestStatus, agent.Status = run.ID, run.Status, errand.AgentActive
	if err := t.UpdateAgent(*agent); err != nil {
		return run, err
	}
	if key != "" {
		if err := t.PutRequest(caller.Key, key, store.Request{Agent: agent.ID, Run: run.ID, Made: made}); err != nil {
			return run, err
		}
	}
	return run, t.Tell(agent.ID, run.ID, errand.Fact{Kind: errand.EventRunQueued, Data: asked})
}

// FollowUp is a further prompt for an agent.
type FollowUp struct {
	Prompt errand.Prompt
	Mode   string // "" keeps the mode of the run before
	// Model is for this run and those after it; nil keeps the agent's.
	Model *errand.Model
	// WhenBusy says what happens while another run is under way: "reject" (also
	// ""), "queue" or "interrupt" (the runs before it are cancelled).
	WhenBusy       string
	IdempotencyKey string
}

// FollowUp queues a run of an agent that exists.
func (r *Runner) FollowUp(ctx context.Context, caller errand.Caller, id errand.AgentID, f FollowUp) (errand.Run, error) {
	if strings.TrimSpace(f.Prompt.Text) == "" {
		return errand.Run{}, errand.Errorf(errand.Invalid, "validation_error", "The prompt is empty. Say what the agent is to do.")
	}
	if f.Model != nil {
		if _, _, err := r.Models.Model(ctx, f.Model.ID); err != nil {
			return errand.Run{}, err
		}
	}
	var run errand.Run
	var interrupted []errand.RunID
	_, err := r.Journal.Decide(ctx, func(t *journal.Tx) error {
		earlier, found, err := r.repeated(ctx, t.Tx, caller, f.IdempotencyKey, f.Prompt, func(r store.Request) bool { return !r.Made && r.Agent == id })
		if err != nil {
			return err
		}
		if found {
			run = earlier
			return nil
		}
		agent, err := t.Agent(ctx, id)
		if err != nil {
			return err
		}
		if agent.Status == errand.AgentArchived {
			return errand.Errorf(errand.Conflict, "agent_archived", "Agent %s is archived. Unarchive it first: errand unarchive %s", id, id)
		}
		if interrupted, err = r.makeWay(ctx, t, caller, id, f.WhenBusy); err != nil {
			return err
		}
		if f.Mode == "" {
			f.Mode = lastMode(ctx, t, agent)
		}
		if f.Model != nil {
			agent.Settings.Model = *f.Model
		}
		run, err = queue(t, &agent, caller, f.IdempotencyKey, false, errand.RunQueuedData{Prompt: f.Prompt, Mode: f.Mode, Model: f.Model})
		return err
	})
	if err != nil {
		return errand.Run{}, err
	}
	r.stop(id, interrupted)
	r.nudge()
	return run, nil
}

func lastMode(ctx context.Context, t *journal.Tx, agent errand.Agent) string {
	last, err := t.Run(ctx, agent.ID, agent.LatestRun)
	if err != nil {
		return ""
	}
	return last.Mode
}

// makeWay applies whenBusy and gives the runs that are to be stopped.
func (r *Runner) makeWay(ctx context.Context, t *journal.Tx, caller errand.Caller, id errand.AgentID, whenBusy string) ([]errand.RunID, error) {
	busy, err := t.BusyRuns(ctx, id)
	if err != nil || len(busy) == 0 {
		return nil, err
	}
	switch whenBusy {
	case "queue":
		return nil, nil
	case "interrupt":
		var stopped []errand.RunID
		for _, run := range busy {
			if err := r.askCancel(t, caller, run); err != nil {
				return nil, err
			}
			stopped = append(stopped, run.ID)
		}
		return stopped, nil
	case "", "reject":
		return nil, errand.Errorf(errand.Conflict, "agent_busy",
			`Agent %s is busy with run %s. Wait for it, cancel it, or send "whenBusy": "queue" or "interrupt".`, id, busy[0].ID)
	}
	return nil, errand.Errorf(errand.Invalid, "validation_error", `whenBusy is %q; it may be "queue", "interrupt" or "reject".`, whenBusy)
}
