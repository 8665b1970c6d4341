package cli

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"strings"

	"github.com/spf13/cobra"

	"github.com/errand-dev/errand"
	"github.com/errand-dev/errand/api"
	"github.com/errand-dev/errand/client"
)

// setupFlags are the flags of errand setup.
type setupFlags struct {
	repo, ref, model, engine   string
	agent, byHand              bool
	yes, unproved, proposeOnly bool
	as, name, branch, verify   string
	team                       bool
	answers                    []string
	out                        string
}

func (a *app) setupCommand() *cobra.Command {
	var f setupFlags
	cmd := &cobra.Command{
		Use:   "setup [flags]",
		Short: "Find a working environment for a repository",
		Long: `Look at a repository, propose an environment file with the reason for each line,
prove it in clean machines (install twice, start, terminals, a verify command),
and write it: as a commit on a branch, as a patch, or stored on the server.

At a terminal it asks at each step. For scripts: --yes takes every default, and
--as says what to write; the exit code is 0 when the file is proved and written.

--by-hand opens a machine first, for you to try things in; --agent lets a model
find out what is missing. "errand setup go SETUP" takes up one that was left.`,
		Example: `errand setup
errand setup --repo https://example.com/app.git --agent --yes --as commit
errand setup --yes --as patch --verify "make check"`,
		Args: usage(cobra.NoArgs),
		RunE: func(cmd *cobra.Command, _ []string) error { return a.newSetup(cmd.Context(), f) },
	}
	fl := cmd.Flags()
	fl.StringVarP(&f.repo, "repo", "r", ".", "the repository: a URL, or a path on the server's machine")
	fl.StringVar(&f.ref, "ref", "", "branch, tag or commit (default: the default branch)")
	fl.BoolVar(&f.agent, "agent", false, "let a model make the draft work")
	fl.BoolVar(&f.byHand, "by-hand", false, "open a machine to make the draft work in")
	fl.BoolVar(&f.proposeOnly, "propose", false, "print what is proposed and end")
	fl.StringVarP(&f.model, "model", "m", "", "the model for --agent; errand models lists them")
	fl.StringVar(&f.engine, "engine", "", "what isolates the machines: gvisor or runc")
	fl.StringVar(&f.verify, "verify", "", "the command that shows that the environment works")
	fl.StringArrayVar(&f.answers, "answer", nil, "answer a question, ID=ANSWER; may be repeated")
	a.endFlags(cmd, &f)
	cmd.AddCommand(a.setupListCommand(), a.setupShowCommand(), a.setupGoCommand(), a.setupEditCommand(), a.setupRemoveCommand())
	return cmd
}

// endFlags are those that say how a setup ends.
func (a *app) endFlags(cmd *cobra.Command, f *setupFlags) {
	fl := cmd.Flags()
	fl.BoolVarP(&f.yes, "yes", "y", false, "ask nothing: take the defaults, prove and write")
	fl.StringVar(&f.as, "as", "", "what to write: commit, patch or stored")
	fl.StringVar(&f.branch, "branch", "", "the branch for --as commit (default: errand/…)")
	fl.StringVar(&f.name, "name", "", "the name for --as stored (default: the repository's)")
	fl.BoolVar(&f.team, "team", false, "store it for everybody, not for you alone")
	fl.StringVarP(&f.out, "out", "o", "environment.patch", `where --as patch writes it; "-" is standard output`)
	fl.BoolVar(&f.unproved, "unproved", false, "write the file although it was not shown to work")
}

// check refuses what cannot be meant.
func (f *setupFlags) check(interactive bool) error {
	switch f.as {
	case "", errand.AcceptCommit, errand.AcceptPatch, errand.AcceptStored:
	default:
		return usageError("--as is commit, patch or stored, not %q", f.as)
	}
	switch {
	case f.agent && f.byHand:
		return usageError("--agent and --by-hand are two ways; choose one")
	case f.byHand && f.yes:
		return usageError("--by-hand waits for you, and --yes waits for nobody; choose one")
	case f.byHand && !interactive:
		return usageError("--by-hand needs a terminal")
	case !interactive && !f.yes && !f.proposeOnly:
		return usageError("without a terminal say what is wanted: --yes and --as commit, patch or stored; or --propose to look only")
	case f.yes && f.as == "" && !f.proposeOnly:
		return usageError("--yes needs --as commit, patch or stored")
	}
	return nil
}

func (a *app) newSetup(ctx context.Context, f setupFlags) error {
	interactive := isTerminal(a.in) && isTerminal(a.err) && !a.json
	if err := f.check(interactive); err != nil {
		return err
	}
	answers, err := pairsOf("--answer", f.answers)
	if err != nil {
		return err
	}
	c, err := a.connect()
	if err != nil {
		return err
	}
	req := api.CreateSetup{
		Repository: api.Repo{URL: localPath(f.repo), StartingRef: f.ref}, Engine: f.engine, Verify: f.verify, Answers: answers, Branch: f.branch,
	}
	if f.agent {
		req.Mode = errand.SetupAgent
	}
	if req.Model, err = modelRef(f.model, nil); err != nil {
		return err
	}
	// A person sees the proposal before a model goes to work on it.
	if f.agent && (interactive || f.proposeOnly) {
		req.Mode = ""
	}
	setup, err := c.CreateSetup(ctx, req)
	if err != nil {
		return err
	}
	g := a.guide(c, errand.SetupID(setup.ID), f, interactive)
	defer g.close()
	return g.finish(ctx, g.walk(ctx))
}

// pairsOf reads NAME=VALUE flags.
func pairsOf(flag string, all []string) (map[string]string, error) {
	var out map[string]string
	for _, pair := range all {
		name, value, ok := strings.Cut(pair, "=")
		if !ok || name == "" {
			return nil, usageError("%s wants NAME=VALUE, not %q", flag, pair)
		}
		if out == nil {
			out = map[string]string{}
		}
		out[name] = value
	}
	return out, nil
}

func (a *app) setupListCommand() *cobra.Command {
	return &cobra.Command{
		Use: "ls", Aliases: []string{"list"}, Short: "List setups, newest first", Args: usage(cobra.NoArgs),
		RunE: func(cmd *cobra.Command, _ []string) error {
			c, err := a.connect()
			if err != nil {
				return err
			}
			all, err := gather(c.AllSetups(cmd.Context()), 0)
			if err != nil {
				return err
			}
			if a.json {
				return a.printJSON(all)
			}
			if len(all) == 0 {
				return nil
			}
			rows := [][]string{{"SETUP", "STATUS", "REPOSITORY"}}
			for _, s := range all {
				rows = append(rows, []string{shortSetup(s.ID), string(s.Status), clip(s.Repository.URL, 60)})
			}
			return table(a.out, rows)
		},
	}
}

func (a *app) setupShowCommand() *cobra.Command {
	return &cobra.Command{
		Use: "show [SETUP]", Short: "Show a setup: its draft, what was proved, what is wrong", Args: usage(cobra.MaximumNArgs(1)),
		RunE: func(cmd *cobra.Command, args []string) error {
			_, setup, err := a.setupArg(cmd.Context(), args)
			if err != nil {
				return err
			}
			if a.json {
				return a.printJSON(setup)
			}
			s := styleFor(a.out, a.getenv)
			fmt.Fprintf(a.out, "%s %s %s\n", s.bold(setup.ID), setup.Status, printable(setup.Repository.URL))
			showProposal(a.out, s, width(a.out), setup)
			showProof(a.out, s, setup)
			showSetupError(a.out, s, setup)
			return nil
		},
	}
}

func (a *app) setupGoCommand() *cobra.Command {
	var f setupFlags
	cmd := &cobra.Command{
		Use: "go [SETUP]", Short: "Go on with a setup that was left", Args: usage(cobra.MaximumNArgs(1)),
		RunE: func(cmd *cobra.Command, args []string) error {
			interactive := isTerminal(a.in) && isTerminal(a.err) && !a.json
			if err := f.check(interactive); err != nil {
				return err
			}
			c, setup, err := a.setupArg(cmd.Context(), args)
			if err != nil {
				return err
			}
			g := a.guide(c, errand.SetupID(setup.ID), f, interactive)
			defer g.close()
			return g.finish(cmd.Context(), g.walk(cmd.Context()))
		},
	}
	a.endFlags(cmd, &f)
	return cmd
}

func (a *app) setupEditCommand() *cobra.Command {
	var verify, file string
	var ports bool
	cmd := &cobra.Command{
		Use: "edit [SETUP]", Short: "Change a setup's draft or its verify command", Args: usage(cobra.MaximumNArgs(1)),
		Long: `Change a setup's draft: in $EDITOR, or from a file ("-" is standard input).
With --ports, those that the latest proof found open come into it.`,
		Example: `errand setup edit
errand setup edit set-0a1b2c3d --file environment.json --verify "make check"
errand setup edit --ports`,
		RunE: func(cmd *cobra.Command, args []string) error {
			c, setup, err := a.setupArg(cmd.Context(), args)
			if err != nil {
				return err
			}
			var edit api.EditSetup
			if cmd.Flags().Changed("verify") {
				edit.Verify = &verify
			}
			edit.Ports = ports
			if file != "" || edit.Verify == nil && !ports {
				draft, err := a.newDraft(cmd.Context(), file, setup.Draft)
				if err != nil {
					return err
				}
				edit.Draft = &draft
			}
			setup, err = c.EditSetup(cmd.Context(), errand.SetupID(setup.ID), edit)
			if err == nil && a.json {
				return a.printJSON(setup)
			}
			return err
		},
	}
	cmd.Flags().StringVar(&verify, "verify", "", "the verify command; empty is none")
	cmd.Flags().BoolVar(&ports, "ports", false, "add the ports that the latest proof found open")
	cmd.Flags().StringVarP(&file, "file", "f", "", `read the draft from a file; "-" is standard input`)
	return cmd
}

// newDraft reads a draft from a file, or lets a person edit the old one.
func (a *app) newDraft(ctx context.Context, file, old string) (string, error) {
	switch file {
	case "":
		return a.edit(ctx, old)
	case "-":
		text, err := io.ReadAll(io.LimitReader(a.in, 1<<20))
		return string(text), err
	}
	text, err := os.ReadFile(file)
	if errors.Is(err, os.ErrNotExist) {
		return "", usageError("there is no file %s", file)
	}
	return string(text), err
}

func (a *app) setupRemoveCommand() *cobra.Command {
	return &cobra.Command{
		Use: "rm SETUP", Short: "End a setup and remove its machines", Args: usage(cobra.ExactArgs(1)),
		RunE: func(cmd *cobra.Command, args []string) error {
			c, setup, err := a.setupArg(cmd.Context(), args)
			if err != nil {
				return err
			}
			return c.DeleteSetup(cmd.Context(), errand.SetupID(setup.ID))
		},
	}
}

// shortSetup is enough of an id for people.
func shortSetup(id string) string { return id[:min(len(id), len("set-00000000"))] }

// setupArg connects and finds the setup that a command names: by its id, the
// beginning of it, or, without a name, the newest.
func (a *app) setupArg(ctx context.Context, args []string) (*client.Client, api.Setup, error) {
	var none api.Setup
	c, err := a.connect()
	if err != nil {
		return nil, none, err
	}
	name := "latest"
	if len(args) > 0 {
		name = strings.ToLower(args[0])
	}
	if id, err := errand.ParseSetupID(name); err == nil {
		setup, err := c.Setup(ctx, id)
		return c, setup, err
	}
	found := none
	for setup, err := range c.AllSetups(ctx) {
		switch {
		case err != nil:
			return nil, none, err
		case name == "latest" || name == "@":
			return c, setup, nil
		case !strings.HasPrefix(setup.ID, name) && !strings.HasPrefix(setup.ID, "set-"+name):
		case found.ID != "":
			return nil, none, usageError("%s begins more than one setup's id. Give more of it", name)
		default:
			found = setup
		}
	}
	if found.ID == "" {
		return nil, none, errand.Errorf(errand.NotFound, "setup_not_found", "No setup's id begins with %.40q. `errand setup ls` shows which there are; `errand setup` begins one.", name)
	}
	return c, found, nil
}

// writePatch puts a patch where a person wants it.
func (a *app) writePatch(patch, to string) (string, error) {
	if to == "-" {
		_, err := io.WriteString(a.out, patch)
		return "", err
	}
	path, err := filepath.Abs(to)
	if err != nil {
		return "", err
	}
	return to, os.WriteFile(path, []byte(patch), 0o644)
}
