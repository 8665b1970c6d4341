package cli

import (
	"context"
	"encoding/base64"
	"errors"
	"fmt"
	"io"
	"mime"
	"os"
	"path/filepath"
	"strings"

	"github.com/google/uuid"
	"github.com/spf13/cobra"

	"github.com/errand-dev/errand"
	"github.com/errand-dev/errand/api"
	"github.com/errand-dev/errand/client"
)

// prompting are the flags of what asks an agent for something.
type prompting struct {
	images  []string
	plan    bool
	follow  bool
	request string // idempotency key
}

func (p *prompting) flags(cmd *cobra.Command) {
	f := cmd.Flags()
	f.StringArrayVar(&p.images, "attach", nil, "show the agent a picture: a file or an http(s) URL; may be repeated")
	f.BoolVar(&p.plan, "plan", false, "explore and plan, change nothing")
	f.BoolVarP(&p.follow, "follow", "f", false, "watch until the run ends; Ctrl-C stops watching, not the agent")
	f.StringVar(&p.request, "idempotency-key", "", "make a repeated command give the first one's answer")
}

func (p *prompting) mode() string {
	if p.plan {
		return "plan"
	}
	return ""
}

// key is the idempotency key of the call: a request that is sent again because
// an answer was lost must not make a second agent.
func (p *prompting) key() string {
	if p.request != "" {
		return p.request
	}
	return uuid.NewString()
}

func (a *app) runCommand() *cobra.Command {
	var req api.CreateAgent
	var repo, ref, model, environment string
	var params, envs []string
	var limits limitFlags
	var p prompting
	var fromHere bool
	cmd := &cobra.Command{
		Use:   "run [flags] PROMPT",
		Short: "Start an agent on a prompt",
		Long: `Start an agent on a prompt. The prompt is the argument, or standard input where
the argument is "-" or missing. Prints the agent's id; with --follow, what the
agent does (on stderr) and then its last words.

--from-here starts from the working tree that you are in, with uncommitted and
untracked work, but nothing that is ignored; commits that the remote lacks are
brought along. The agent's branch goes to that repository's own remote.`,
		Example: `errand run --repo . --follow "make the tests pass"
errand run --from-here "finish what I have begun"
errand run --repo https://example.com/app.git --ref main --model claude-sonnet-5-5 - < task.md`,
		RunE: func(cmd *cobra.Command, args []string) (err error) {
			if req.Prompt, err = a.prompt(args, p.images); err != nil {
				return err
			}
			req.Mode = p.mode()
			if fromHere {
				if ref != "" {
					return usageError("--from-here starts from what is here; leave out --ref")
				}
				if req.Repos, err = a.carryHere(cmd.Context(), repo); err != nil {
					return err
				}
			} else if repo != "" {
				req.Repos = []api.Repo{{URL: localPath(repo), StartingRef: ref}}
			} else if ref != "" {
				return usageError("--ref needs --repo")
			}
			if req.Model, err = modelRef(model, params); err != nil {
				return err
			}
			if req.EnvVars, err = pairs("--env", envs); err != nil {
				return err
			}
			if req.Limits, err = limits.parse(); err != nil {
				return err
			}
			if environment != "" {
				_, id, err := a.environmentArg(cmd.Context(), environment)
				if err != nil {
					return err
				}
				req.EnvironmentID = string(id)
			}
			return a.start(cmd.Context(), req, p)
		},
	}
	f := cmd.Flags()
	f.StringVarP(&repo, "repo", "r", "", "the repository: a URL, or a path on the server's machine")
	f.BoolVar(&fromHere, "from-here", false, "start from the working tree here, uncommitted work included; --repo names another remote for the branch")
	f.StringVar(&ref, "ref", "", "branch, tag or commit to start from (default: the default branch)")
	f.StringVarP(&model, "model", "m", "", "the model; errand models lists them")
	f.StringArrayVar(&params, "param", nil, "a parameter of the model, NAME=VALUE; may be repeated")
	f.StringVar(&req.Image, "image", "", `the machine's image: "host" or an OCI reference`)
	f.StringVar(&req.Snapshot, "snapshot", "", "a snapshot that the machine starts on, by name or key; see errand snapshot ls")
	f.StringVar(&req.Engine, "engine", "", "what isolates the machine: gvisor or runc")
	f.StringVar(&environment, "environment", "", "the stored environment, by name or id (default: the repository's own, or what is stored for it)")
	f.StringVar(&req.BuildID, "build", "", "the build to start on, even one that failed (default: the environment's active one)")
	f.StringVar(&req.Name, "name", "", "the agent's name (default: from the prompt)")
	f.StringVar(&req.Branch, "branch", "", "the name of the agent's branch (default: errand/…)")
	f.StringArrayVarP(&envs, "env", "e", nil, "a variable for the machine, NAME=VALUE, or NAME to pass it on; may be repeated")
	limits.flags(f, "the machine")
	p.flags(cmd)
	return cmd
}

func (a *app) start(ctx context.Context, req api.CreateAgent, p prompting) error {
	c, err := a.connect()
	if err != nil {
		return err
	}
	created, err := c.CreateAgent(ctx, req, p.key())
	if err != nil {
		return err
	}
	id, run := errand.AgentID(created.Agent.ID), errand.RunID(created.Run.ID)
	if !a.json {
		fmt.Fprintln(a.out, id)
	}
	if !p.follow {
		if a.json {
			return a.printJSON(created)
		}
		if isTerminal(a.err) {
			short := shortID(string(id))
			fmt.Fprintf(a.err, "The agent works in the background. Watch it: errand logs -f %s\n", short)
		}
		return nil
	}
	return a.follow(ctx, c, id, run)
}

func (a *app) sendCommand() *cobra.Command {
	var p prompting
	var busy, model string
	var params []string
	cmd := &cobra.Command{
		Use:   "send AGENT PROMPT",
		Short: "Send an agent a follow-up",
		Long: `Send an agent a follow-up. The prompt is the second argument, or standard input
where that is "-" or missing. A busy agent takes it up when it is done with what
came before, unless --when-busy says otherwise.`,
		Args: usage(cobra.MinimumNArgs(1)),
		RunE: func(cmd *cobra.Command, args []string) error {
			prompt, err := a.prompt(args[1:], p.images)
			if err != nil {
				return err
			}
			chosen, err := modelRef(model, params)
			if err != nil {
				return err
			}
			c, id, err := a.agentArg(cmd.Context(), args)
			if err != nil {
				return err
			}
			created, err := c.CreateRun(cmd.Context(), id, api.CreateRun{Prompt: prompt, Model: chosen, Mode: p.mode(), WhenBusy: busy}, p.key())
			if err != nil {
				return err
			}
			if !a.json {
				fmt.Fprintln(a.out, created.Run.ID)
			}
			if p.follow {
				return a.follow(cmd.Context(), c, id, errand.RunID(created.Run.ID))
			}
			if a.json {
				return a.printJSON(created)
			}
			return nil
		},
	}
	f := cmd.Flags()
	f.StringVar(&busy, "when-busy", api.BusyQueue, "while another run is under way: queue, interrupt or reject")
	f.StringVarP(&model, "model", "m", "", "the model from now on (default: the agent's); errand models lists them")
	f.StringArrayVar(&params, "param", nil, "a parameter of the model, NAME=VALUE; may be repeated")
	p.flags(cmd)
	return cmd
}

// followed is what a followed command prints with --json.
type followed struct {
	Agent api.Agent `json:"agent"`
	Run   api.Run   `json:"run"`
}

// follow watches one run until it ends, tells its last words, and fails where
// the run did. Ctrl-C ends the watching only.
func (a *app) follow(ctx context.Context, c *client.Client, agent errand.AgentID, run errand.RunID) error {
	if err := a.watch(ctx, c, agent, run); err != nil {
		if ctx.Err() != nil {
			short := shortID(string(agent))
			fmt.Fprintf(a.err, "\nThe agent goes on. Look: errand logs -f %s · end it: errand cancel %s\n", short, short)
			return &exitError{code: ExitInterrupted}
		}
		return err
	}
	end, err := c.Run(ctx, agent, run)
	if err != nil {
		return err
	}
	if a.json {
		who, err := c.Agent(ctx, agent)
		if err != nil {
			return err
		}
		if err := a.printJSON(followed{who, end}); err != nil {
			return err
		}
	} else if end.Result != "" && !(isTerminal(a.out) && isTerminal(a.err)) {
		fmt.Fprintln(a.out, printable(end.Result)) // a terminal has seen it stream
	}
	return a.verdict(end)
}

// verdict fails for a run that did not finish.
func (a *app) verdict(run api.Run) error {
	switch {
	case run.Status == api.RunFinished:
		return nil
	case isTerminal(a.err): // the transcript has told why
		return &exitError{code: ExitFailed}
	case run.Error != nil:
		return &exitError{code: ExitFailed, err: &errand.Error{
			Kind: errand.Unavailable, Code: run.Error.Code, Message: run.Error.Message,
			Output: run.Error.Output, ExitCode: run.Error.ExitCode,
		}}
	}
	return &exitError{code: ExitFailed, err: fmt.Errorf("run %s ended as %s", run.ID, run.Status)}
}

// watch shows a run's events on a terminal, and none elsewhere, until it ends.
func (a *app) watch(ctx context.Context, c *client.Client, agent errand.AgentID, run errand.RunID) error {
	var each func(errand.Event)
	if isTerminal(a.err) {
		s := styleFor(a.err, a.getenv)
		st := newStatus(a.err, s)
		defer st.Close()
		t := newTranscript(st, s, st, false)
		each = t.Event
	}
	for e, err := range c.Follow(ctx, agent, 0) {
		if err != nil {
			return err
		}
		if e.Run != run {
			continue
		}
		if each != nil {
			each(e)
		}
		if hasEnded(e) {
			return nil
		}
	}
	return errand.Errorf(errand.Gone, "agent_not_found", "The agent was deleted.")
}

// hasEnded says whether e is the last event of its run.
func hasEnded(e errand.Event) bool {
	ended := false
	if e.Kind == errand.EventRunStatus {
		show(e, func(d errand.RunStatusData) { ended = d.Status.Ended() })
	}
	return ended
}

// prompt gives the prompt of a command line: its words, or standard input.
func (a *app) prompt(args []string, images []string) (api.Prompt, error) {
	text := strings.Join(args, " ")
	if len(args) == 0 || (len(args) == 1 && args[0] == "-") {
		if isTerminal(a.in) && len(args) == 0 {
			return api.Prompt{}, usageError("What is the agent to do? Give the prompt as an argument, or on standard input")
		}
		all, err := io.ReadAll(io.LimitReader(a.in, api.MaxPromptBytes+1))
		if err != nil {
			return api.Prompt{}, fmt.Errorf("reading the prompt: %w", err)
		}
		if len(all) > api.MaxPromptBytes {
			return api.Prompt{}, usageError("The prompt has more than %d bytes. Put what is long into a file of the repository and name it", api.MaxPromptBytes)
		}
		text = string(all)
	}
	if strings.TrimSpace(text) == "" {
		return api.Prompt{}, usageError("The prompt is empty. Say what the agent is to do")
	}
	p := api.Prompt{Text: text}
	for _, name := range images {
		img, err := picture(name)
		if err != nil {
			return api.Prompt{}, err
		}
		p.Images = append(p.Images, img)
	}
	return p, nil
}

func picture(name string) (api.Image, error) {
	if strings.HasPrefix(name, "http://") || strings.HasPrefix(name, "https://") {
		return api.Image{URL: name}, nil
	}
	kind := mime.TypeByExtension(strings.ToLower(filepath.Ext(name)))
	if !api.KnownImage(kind) {
		return api.Image{}, usageError("--attach %s: a picture is a .png, .jpg, .gif or .webp file", name)
	}
	data, err := os.ReadFile(name)
	if err != nil {
		return api.Image{}, usageError("--attach: %w", err)
	}
	return api.Image{MIMEType: kind, Data: base64.StdEncoding.EncodeToString(data)}, nil
}

// localPath makes a path of this machine absolute and leaves URLs alone.
func localPath(repo string) string {
	if strings.Contains(repo, "://") {
		return repo
	}
	if host, _, ok := strings.Cut(repo, ":"); ok && filepath.VolumeName(repo) == "" && !strings.ContainsAny(host, `/\`) {
		return repo // git@host:path
	}
	if abs, err := filepath.Abs(repo); err == nil {
		return abs
	}
	return repo
}

func modelRef(id string, params []string) (*api.ModelRef, error) {
	if id == "" {
		if len(params) > 0 {
			return nil, usageError("--param needs --model")
		}
		return nil, nil
	}
	ref := &api.ModelRef{ID: id}
	for _, p := range params {
		name, value, ok := strings.Cut(p, "=")
		if !ok || name == "" || value == "" {
			return nil, usageError("--param %s: it must be NAME=VALUE", p)
		}
		ref.Params = append(ref.Params, api.ModelParam{ID: name, Value: value})
	}
	return ref, nil
}

func pairs(flag string, list []string) (map[string]string, error) {
	all := map[string]string{}
	for _, p := range list {
		name, value, ok := strings.Cut(p, "=")
		if !ok {
			value, ok = os.LookupEnv(name)
		}
		if !ok || name == "" {
			return nil, usageError("%s %s: it must be NAME=VALUE, or the name of a variable that is set", flag, p)
		}
		all[name] = value
	}
	return all, nil
}

// usage makes what a check of arguments says a usage error, with the right form.
func usage(check cobra.PositionalArgs) cobra.PositionalArgs {
	return func(cmd *cobra.Command, args []string) error {
		if err := check(cmd, args); err != nil {
			return usageError("%w. The form is: %s", errors.New(strings.TrimSuffix(err.Error(), ".")), cmd.UseLine())
		}
		return nil
	}
}
