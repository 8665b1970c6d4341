package cli

import (
	"cmp"
	"context"
	"fmt"
	"os"
	"strings"

	"github.com/spf13/cobra"

	"github.com/errand-dev/errand"
	"github.com/errand-dev/errand/api"
	"github.com/errand-dev/errand/cli/local"
	"github.com/errand-dev/errand/client"
)

// bridgeName is the command that git runs in place of ssh.
const bridgeName = "git-bridge"

func (a *app) bridgeCommand() *cobra.Command {
	return &cobra.Command{
		Use: bridgeName, Hidden: true, DisableFlagParsing: true, Short: "What git runs in place of ssh",
		RunE: func(cmd *cobra.Command, args []string) error {
			c, err := a.connect()
			if err != nil {
				return err
			}
			code, err := local.Bridge(cmd.Context(), c, args, a.in, a.out, a.err)
			if err == nil && code != 0 {
				return &exitError{code: code}
			}
			return err
		},
	}
}

// repository opens the repository that the person is in, with a bridge to c's
// server.
func (a *app) repository(ctx context.Context, c *client.Client) (*local.Repository, error) {
	r, err := local.Open(ctx, ".")
	if err != nil {
		return nil, err
	}
	self, err := os.Executable()
	if err != nil {
		return nil, fmt.Errorf("finding this program: %w", err)
	}
	r.Bridge, r.Env = []string{self, bridgeName}, []string{"ERRAND_URL=" + c.URL(), "NO_COLOR=1"}
	if isTerminal(a.err) && !a.json {
		r.Progress = a.err
	}
	return r, nil
}

func (a *app) pullCommand() *cobra.Command {
	var p local.Pull
	cmd := &cobra.Command{
		Use: "pull AGENT", Short: "Bring an agent's branch into the repository here", Args: usage(cobra.ExactArgs(1)),
		Long: `Bring an agent's branch, as it stands in its machine, into the repository that you
are in: a local branch of the same name is made, or moved forward. --uncommitted
checks it out and brings what the agent has not committed too, as changes of your
working tree; what you have changed yourself is never overwritten.`,
		Example: "errand pull latest\nerrand pull --uncommitted latest",
		RunE: func(cmd *cobra.Command, args []string) error {
			c, id, err := a.agentArg(cmd.Context(), args)
			if err != nil {
				return err
			}
			r, err := a.repository(cmd.Context(), c)
			if err != nil {
				return err
			}
			p.Agent = id
			done, err := r.Pull(cmd.Context(), c, p)
			if err != nil {
				return err
			}
			if a.json {
				return a.printJSON(done)
			}
			a.tellPulled(done, p)
			return nil
		},
	}
	f := cmd.Flags()
	f.StringVar(&p.As, "as", "", "bring it into a local branch of this name")
	f.BoolVarP(&p.Uncommitted, "uncommitted", "u", false, "uncommitted work too, into the working tree")
	f.BoolVarP(&p.Switch, "switch", "s", false, "check the branch out")
	return cmd
}

func (a *app) tellPulled(done local.Pulled, p local.Pull) {
	what := "is at"
	switch {
	case done.Before == "":
		what = "is new, at"
	case done.Ahead:
		what = "has all of the agent's, and more, since"
	case done.Before == done.Commit:
		what = "was already at"
	}
	fmt.Fprintf(a.out, "%s %s %.12s\n", printable(done.Branch), what, done.Commit)
	for _, name := range done.Files {
		fmt.Fprintf(a.out, "  %s\n", printable(name))
	}
	if p.Uncommitted && len(done.Files) == 0 {
		fmt.Fprintln(a.err, "Nothing uncommitted that is not here.")
	}
	if !done.CheckedOut && isTerminal(a.err) {
		fmt.Fprintf(a.err, "Look at it: git switch %s\n", printable(done.Branch))
	}
}

func (a *app) pushCommand() *cobra.Command {
	var p local.Push
	var busy bool
	cmd := &cobra.Command{
		Use: "push AGENT [BRANCH]", Short: "Send local work to an agent's machine", Args: usage(cobra.RangeArgs(1, 2)),
		Long: `Send the commits of the agent's branch that you have, or of another BRANCH, into
the working tree of its machine; --uncommitted sends uncommitted work too. Where
the agent has commits that you lack, or changes that would be lost, nothing is
changed. Its next run pushes the branch on to the remote.

While a run is under way the push is refused, since the agent would not know that
its files have changed; --while-running sends all the same.`,
		Example: "errand push latest\nerrand push --uncommitted latest",
		RunE: func(cmd *cobra.Command, args []string) error {
			ctx := cmd.Context()
			c, id, err := a.agentArg(ctx, args)
			if err != nil {
				return err
			}
			r, err := a.repository(ctx, c)
			if err != nil {
				return err
			}
			if !busy {
				if err := resting(ctx, c, id); err != nil {
					return err
				}
			}
			p.Agent = id
			if len(args) > 1 {
				p.From = args[1]
			}
			done, err := r.Push(ctx, c, p)
			if err != nil {
				return err
			}
			if a.json {
				return a.printJSON(done)
			}
			what := "is at"
			if done.Before == done.Commit {
				what = "was already at"
			}
			fmt.Fprintf(a.out, "%s in the machine %s %.12s\n", printable(done.Branch), what, done.Commit)
			for _, name := range done.Files {
				fmt.Fprintf(a.out, "  %s\n", printable(name))
			}
			return nil
		},
	}
	f := cmd.Flags()
	f.BoolVarP(&p.Uncommitted, "uncommitted", "u", false, "uncommitted work too")
	f.BoolVar(&busy, "while-running", false, "also while the agent is at work")
	return cmd
}

// resting refuses an agent that is at work.
func resting(ctx context.Context, c *client.Client, id errand.AgentID) error {
	runs, err := c.Runs(ctx, id, 100, "")
	if err != nil {
		return err
	}
	for _, run := range runs.Items {
		if !run.Ended() {
			short := shortID(string(id))
			return errand.Errorf(errand.Conflict, "agent_busy", "Agent %s is at work, and would not know that its files have changed. Wait (errand logs -f %s), end its run (errand cancel %s), or send all the same with --while-running.", short, short, short)
		}
	}
	return nil
}

// carryHere brings the working tree here to the server and gives what an agent
// starts from.
func (a *app) carryHere(ctx context.Context, remote string) ([]api.Repo, error) {
	c, err := a.connect()
	if err != nil {
		return nil, err
	}
	r, err := a.repository(ctx, c)
	if err != nil {
		return nil, err
	}
	if remote == "" {
		if remote, err = r.Remote(ctx); err != nil {
			return nil, err
		}
	}
	url := localPath(remote)
	id, files, err := r.Carry(ctx, url)
	if err != nil {
		return nil, err
	}
	if isTerminal(a.err) && !a.json {
		fmt.Fprintf(a.err, "From %s at %.12s, with %s\n", r.Dir(), id, cmp.Or(strings.Join(firstFew(files), ", "), "nothing uncommitted"))
	}
	return []api.Repo{{URL: url, StartingRef: id}}, nil
}

// firstFew shortens a list for a line.
func firstFew(names []string) []string {
	const most = 5
	var shown []string
	for i, name := range names {
		if i == most {
			return append(shown, fmt.Sprintf("and %d more", len(names)-most))
		}
		shown = append(shown, printable(name))
	}
	return shown
}
