package cli

import (
	"cmp"
	"context"
	_ "embed"
	"errors"
	"fmt"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"sync"
	"syscall"
	"time"

	"github.com/spf13/cobra"

	"github.com/errand-dev/errand"
	"github.com/errand-dev/errand/api"
	"github.com/errand-dev/errand/client"
	"github.com/errand-dev/errand/llm/scripted"
)

// The demo's repository and what its scripted model says.
var (
	//go:embed demo/script.json
	demoScript []byte
	//go:embed demo/slug.sh
	demoSlug string
	//go:embed demo/run.sh
	demoTests string
	//go:embed demo/environment.json
	demoEnvironment string
)

const (
	demoPrompt   = "Make the test suite pass and commit the fix"
	demoFollowUp = "Add a changelog that says what you fixed"

	// demoIdle is short so that the machine sleeps soon after the work.
	demoIdle = 2 * time.Second
)

// demoResult is the demo's last line with --json.
type demoResult struct {
	Status       string           `json:"status"` // of the first run, as in the API
	Engine       string           `json:"engine"`
	AgentID      string           `json:"agentId"`
	Branch       string           `json:"branch"`
	Commits      int              `json:"commits"` // on the branch in the remote, above its base
	FilesChanged int              `json:"filesChanged"`
	PhasesMs     map[string]int64 `json:"phasesMs"` // of the first run, in milliseconds
	FollowUp     demoFollowed     `json:"followUp"`
}

type demoFollowed struct {
	Status string `json:"status"`
}

func (a *app) demoCommand() *cobra.Command {
	d := demo{app: a}
	cmd := &cobra.Command{
		Use:   "demo",
		Short: "Show the whole path once, on a repository made for it",
		Long: `Make a small repository with a failing test, start a server, and let an agent in
an isolated machine find the fault, fix it, test it, commit and push; then send a
follow-up. Without a provider's key (ANTHROPIC_API_KEY or OPENAI_API_KEY) the
model is a script that speaks the provider's real protocol.`,
		Args: usage(cobra.NoArgs),
		RunE: func(cmd *cobra.Command, _ []string) error { return d.run(cmd.Context()) },
	}
	cmd.Flags().StringVar(&d.engine, "engine", "gvisor", "what isolates the machine: gvisor or runc")
	cmd.Flags().StringVarP(&d.model, "model", "m", "", "the model, where a provider's key is set")
	cmd.Flags().StringVar(&d.dir, "dir", "", "keep everything in this directory (default: a new one in the temporary directory)")
	return cmd
}

// demo is one showing.
type demo struct {
	*app
	engine, model, dir string

	origin string // the bare repository
	client *client.Client
}

func (d *demo) say(format string, args ...any) {
	if !d.json {
		fmt.Fprintf(d.out, format+"\n", args...)
	}
}

func (d *demo) step(format string, args ...any) {
	d.say("\n%s", styleFor(d.out, d.getenv).bold("▸ "+fmt.Sprintf(format, args...)))
}

func (d *demo) run(ctx context.Context) (err error) {
	if what := missing(); what != "" {
		return errand.Errorf(errand.Unavailable, "host_not_ready", "The demo cannot start. %s", what)
	}
	if d.dir == "" {
		if d.dir, err = os.MkdirTemp("", "errand-demo-"); err != nil {
			return err
		}
	}
	if d.dir, err = filepath.Abs(d.dir); err != nil {
		return err
	}
	d.step("A repository with a failing test")
	if err := d.makeRepository(ctx); err != nil {
		return err
	}
	d.say("  %s", d.origin)

	d.step("A server of its own")
	stop, err := d.startServer(ctx)
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, stop()) }()
	result, err := d.work(ctx)
	if err != nil {
		return err
	}
	d.look(result)
	if d.json {
		if err := d.printJSONLine(result); err != nil {
			return err
		}
	}
	if result.Status != api.RunFinished || result.FollowUp.Status != api.RunFinished {
		return &exitError{code: ExitFailed, err: fmt.Errorf("the first run is %s, the follow-up %s", result.Status, result.FollowUp.Status)}
	}
	return nil
}

// makeRepository makes the bare remote that the agent starts from.
func (d *demo) makeRepository(ctx context.Context) error {
	tree := filepath.Join(d.dir, "slug")
	d.origin = filepath.Join(d.dir, "slug.git")
	if _, err := os.Stat(d.origin); err == nil {
		return errand.Errorf(errand.Conflict, "demo_exists", "There is a demo in %s already. Remove it or name another directory with --dir.", d.dir)
	}
	for name, text := range map[string]string{
		"slug.sh": demoSlug, "tests/run.sh": demoTests, ".errand/environment.json": demoEnvironment,
		".gitignore": ".tools/\n", "AGENTS.md": "Run `sh tests/run.sh` before you commit. Plain POSIX sh only.\n",
	} {
		path := filepath.Join(tree, name)
		if err := os.MkdirAll(filepath.Dir(path), 0o755); err != nil {
			return err
		}
		if err := os.WriteFile(path, []byte(text), 0o644); err != nil {
			return err
		}
	}
	for _, args := range [][]string{
		{"init", "-q", "-b", "main", tree},
		{"-C", tree, "add", "-A"},
		{"-C", tree, "-c", "user.name=Ada Lovelace", "-c", "user.email=ada@example.com", "commit", "-q", "-m", "Make slugs of titles"},
		{"clone", "-q", "--bare", tree, d.origin},
	} {
		if _, err := d.git(ctx, args...); err != nil {
			return err
		}
	}
	return nil
}

func (d *demo) git(ctx context.Context, args ...string) (string, error) {
	out, err := exec.CommandContext(ctx, "git", args...).CombinedOutput()
	if err != nil {
		return "", fmt.Errorf("running git %s: %w\n%s", strings.Join(args, " "), err, out)
	}
	return strings.TrimSpace(string(out)), nil
}

// startServer starts a model, unless a provider's key is set, and a server as a
// process of its own, and gives what ends both.
func (d *demo) startServer(ctx context.Context) (stop func() error, err error) {
	env := os.Environ()
	endModel := func() error { return nil }
	if d.getenv("ANTHROPIC_API_KEY") == "" && d.getenv("OPENAI_API_KEY") == "" {
		url, end, err := startScripted()
		if err != nil {
			return nil, err
		}
		endModel = end
		env = append(env, "ANTHROPIC_API_KEY=scripted", "ANTHROPIC_BASE_URL="+url)
		d.say("  no provider's key is set, so the model is scripted (%s)", url)
	}
	self, err := os.Executable()
	if err != nil {
		return nil, errors.Join(err, endModel())
	}
	log, err := os.Create(filepath.Join(d.dir, "server.log"))
	if err != nil {
		return nil, errors.Join(err, endModel())
	}
	data := filepath.Join(d.dir, "data")
	server := exec.Command(self, "serve", "--data", data, "--listen", "127.0.0.1:0", "--idle", demoIdle.String())
	server.Env, server.Stdout, server.Stderr = env, log, log
	server.SysProcAttr = &syscall.SysProcAttr{Setpgid: true} // Ctrl-C is for the demo, which then ends it in order
	if err := server.Start(); err != nil {
		return nil, errors.Join(fmt.Errorf("starting the server: %w", err), log.Close(), endModel())
	}
	exited := make(chan error, 1)
	go func() { exited <- server.Wait() }()
	end := sync.OnceValue(func() error {
		_ = server.Process.Signal(syscall.SIGTERM) // it may have ended already
		select {
		case <-exited:
		case <-time.After(30 * time.Second):
			_ = server.Process.Kill()
			<-exited
		}
		return errors.Join(log.Close(), endModel())
	})
	if d.client, err = d.await(ctx, data, exited); err != nil {
		return nil, errors.Join(err, end())
	}
	d.say("  %s, data in %s", d.client.URL(), data)
	return end, nil
}

// startScripted serves the demo's script on loopback.
func startScripted() (url string, end func() error, err error) {
	script, err := scripted.Parse(demoScript)
	if err != nil {
		return "", nil, err
	}
	listener, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		return "", nil, fmt.Errorf("starting the scripted model: %w", err)
	}
	ctx, cancel := context.WithCancel(context.Background())
	done := make(chan error, 1)
	go func() { done <- scripted.Serve(ctx, listener, script) }()
	return "http://" + listener.Addr().String(), func() error { cancel(); return <-done }, nil
}

// await waits until the server has said where it is and answers.
func (d *demo) await(ctx context.Context, data string, exited <-chan error) (*client.Client, error) {
	ctx, cancel := context.WithTimeout(ctx, time.Minute)
	defer cancel()
	for {
		c, err := client.New(client.Options{URL: readLine(filepath.Join(data, "url")), Key: readLine(filepath.Join(data, "key"))})
		if err == nil {
			if _, err = c.Me(ctx); err == nil {
				return c, nil
			}
		}
		select {
		case <-exited:
			text, _ := os.ReadFile(filepath.Join(d.dir, "server.log"))
			return nil, &errand.Error{Kind: errand.Unavailable, Code: "server_ended", Message: "The demo's server could not start.", Output: string(text)}
		case <-ctx.Done():
			return nil, errand.Errorf(errand.Unavailable, "server_silent", "The demo's server does not answer. Its log is in %s.", filepath.Join(d.dir, "server.log"))
		case <-time.After(20 * time.Millisecond): // another process' start is no event here
		}
	}
}

// work lets the agent do both prompts and gives what came of them.
func (d *demo) work(ctx context.Context) (demoResult, error) {
	d.step("An agent on engine %s: %q", d.engine, demoPrompt)
	req := api.CreateAgent{Prompt: api.Prompt{Text: demoPrompt}, Repos: []api.Repo{{URL: d.origin}}, Engine: d.engine}
	if d.model != "" {
		req.Model = &api.ModelRef{ID: d.model}
	}
	made, err := d.client.CreateAgent(ctx, req, "")
	if err != nil {
		return demoResult{}, err
	}
	id := errand.AgentID(made.Agent.ID)
	r := demoResult{Engine: d.engine, AgentID: made.Agent.ID, Branch: made.Agent.Branch, PhasesMs: map[string]int64{}}
	last, err := d.show(ctx, id, errand.RunID(made.Run.ID), 0, r.PhasesMs)
	if err != nil {
		return r, err
	}
	first, err := d.client.Run(ctx, id, errand.RunID(made.Run.ID))
	if err != nil {
		return r, err
	}
	r.Status = first.Status
	if !d.json {
		d.step("What it changed")
		if patch, err := d.git(ctx, "-C", d.origin, "diff", "main..."+r.Branch); err == nil {
			d.colourDiff(patch + "\n")
		}
	}
	d.step("A follow-up: %q", demoFollowUp)
	follow, err := d.client.CreateRun(ctx, id, api.CreateRun{Prompt: api.Prompt{Text: demoFollowUp}}, "")
	if err != nil {
		return r, err
	}
	if last, err = d.show(ctx, id, errand.RunID(follow.Run.ID), last, map[string]int64{}); err != nil {
		return r, err
	}
	second, err := d.client.Run(ctx, id, errand.RunID(follow.Run.ID))
	if err != nil {
		return r, err
	}
	r.FollowUp.Status = second.Status
	if err := d.count(ctx, &r); err != nil {
		return r, err
	}
	return r, d.rest(ctx, id, last)
}

// rest waits until the agent's machine sleeps, so that the demo leaves nothing
// running. One that does not within a while is left to the person.
func (d *demo) rest(ctx context.Context, agent errand.AgentID, after errand.Seq) error {
	ctx, cancel := context.WithTimeout(ctx, 10*demoIdle)
	defer cancel()
	for e, err := range d.client.Follow(ctx, agent, after) {
		if err != nil {
			return err
		}
		stopped := false
		if e.Kind == errand.EventMachine {
			show(e, func(m errand.MachineData) { stopped = m.What == "stopped" })
		}
		if stopped {
			d.say("\n  nobody uses the machine any more, so it was stopped; its disk is kept")
			return nil
		}
	}
	return nil
}

// show writes the events of a run as they come, until it ends, and notes how
// long its phases took.
func (d *demo) show(ctx context.Context, agent errand.AgentID, run errand.RunID, after errand.Seq, phases map[string]int64) (errand.Seq, error) {
	each, done := func(errand.Event) {}, func() {}
	if !d.json {
		each, done = d.logWriter(false, true)
	}
	defer done()
	for e, err := range d.client.Follow(ctx, agent, after) {
		if err != nil {
			return after, err
		}
		after = e.Seq
		if e.Run != run {
			continue
		}
		each(e)
		if e.Kind == errand.EventPhaseEnded {
			show(e, func(p errand.PhaseEnded) { phases[string(p.Phase)] += p.DurationMs })
		}
		if hasEnded(e) {
			return after, nil
		}
	}
	return after, cmp.Or(ctx.Err(), errors.New("the agent's journal ended before its run"))
}

// count looks into the remote: what arrived is what counts.
func (d *demo) count(ctx context.Context, r *demoResult) error {
	commits, err := d.git(ctx, "-C", d.origin, "rev-list", "--count", "main.."+r.Branch)
	if err != nil {
		return err
	}
	if _, err := fmt.Sscan(commits, &r.Commits); err != nil {
		return fmt.Errorf("reading git's count %q: %w", commits, err)
	}
	files, err := d.git(ctx, "-C", d.origin, "diff", "--name-only", "main..."+r.Branch)
	if err != nil {
		return err
	}
	r.FilesChanged = len(strings.Fields(files))
	d.step("The branch in the remote")
	log, err := d.git(ctx, "-C", d.origin, "log", "--format=%h %an: %s", "main.."+r.Branch)
	if err != nil {
		return err
	}
	d.say("  %s (%s)\n%s", r.Branch, plural(r.Commits, "commit"), "  "+strings.ReplaceAll(log, "\n", "\n  "))
	return nil
}

// look says how to go on from here.
func (d *demo) look(r demoResult) {
	short := shortID(r.AgentID)
	d.step("Look further")
	d.say(`  export ERRAND_DATA=%[1]s/data
  errand serve &                      # the demo's server has stopped; this is it again
  errand logs %[2]s              # all that happened
  errand attach %[2]s watch      # its terminal: the machine wakes on its own disk
  errand exec %[2]s -- git log   # a command in its machine
  errand rm %[2]s                # the agent, its machine and disk
  git -C %[3]s log %[4]s`, d.dir, short, d.origin, r.Branch)
}
