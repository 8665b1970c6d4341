package cli

import (
	"context"
	"fmt"
	"iter"
	"slices"
	"strings"
	"time"

	"github.com/spf13/cobra"

	"github.com/errand-dev/errand"
	"github.com/errand-dev/errand/api"
	"github.com/errand-dev/errand/client"
)

// completeLimit is how long a person who pressed Tab waits for the server.
const completeLimit = 2 * time.Second

// mostCompleted is how many names a Tab shows.
const mostCompleted = 50

// lister gives what a word of a command's usage can stand for. args are those
// before it.
type lister func(ctx context.Context, c *client.Client, args []string) ([]cobra.Completion, error)

// listers are the words of usage that name something on the server.
var listers = map[string]lister{
	"AGENT": func(ctx context.Context, c *client.Client, _ []string) ([]cobra.Completion, error) {
		return named(c.AllAgents(ctx, client.AgentQuery{}), func(a api.AgentSummary) (string, string) { return shortID(a.ID), a.Name })
	},
	"SETUP": func(ctx context.Context, c *client.Client, _ []string) ([]cobra.Completion, error) {
		return named(c.AllSetups(ctx), func(s api.Setup) (string, string) {
			return shortSetup(s.ID), fmt.Sprintf("%s, %s", s.Status, s.Repository.URL)
		})
	},
	"ENVIRONMENT": func(ctx context.Context, c *client.Client, _ []string) ([]cobra.Completion, error) {
		return named(c.AllEnvironments(ctx), func(e api.EnvironmentSummary) (string, string) { return e.Name, e.ID })
	},
	"BUILD": func(ctx context.Context, c *client.Client, args []string) ([]cobra.Completion, error) {
		id, err := findEnvironment(ctx, c, args[0])
		if err != nil {
			return nil, err
		}
		return named(c.AllBuilds(ctx, id), func(b api.Build) (string, string) { return b.ID, string(b.Status) })
	},
	"SNAPSHOT": func(ctx context.Context, c *client.Client, _ []string) ([]cobra.Completion, error) {
		return named(c.AllSnapshots(ctx), func(s errand.Snapshot) (string, string) { return s.Key, s.Name })
	},
}

// named gives what a list holds as completions: a name, and what it is.
func named[T any](list iter.Seq2[T, error], of func(T) (name, what string)) ([]cobra.Completion, error) {
	all, err := gather(list, mostCompleted)
	var out []cobra.Completion
	for _, one := range all {
		name, what := of(one)
		out = append(out, cobra.CompletionWithDesc(name, clip(what, 60)))
	}
	return out, err
}

// completeNames lets the shell complete the names that commands take, as their
// usage lines tell them: [AGENT], ENVIRONMENT, SNAPSHOT....
func (a *app) completeNames(cmd *cobra.Command) {
	for _, c := range cmd.Commands() {
		a.completeNames(c)
	}
	words := strings.FieldsFunc(cmd.Use, func(r rune) bool { return strings.ContainsRune(" []", r) })[1:]
	if cmd.ValidArgsFunction != nil || !slices.ContainsFunc(words, func(w string) bool { return listers[strings.TrimSuffix(w, "...")] != nil }) {
		return
	}
	cmd.ValidArgsFunction = func(cmd *cobra.Command, args []string, _ string) ([]cobra.Completion, cobra.ShellCompDirective) {
		at := len(args)
		if last := len(words) - 1; at > last && strings.HasSuffix(words[last], "...") {
			at = last
		}
		if at >= len(words) {
			return nil, cobra.ShellCompDirectiveNoFileComp
		}
		list := listers[strings.TrimSuffix(words[at], "...")]
		if list == nil {
			return nil, cobra.ShellCompDirectiveDefault
		}
		c, err := a.connect()
		if err != nil {
			return nil, cobra.ShellCompDirectiveError
		}
		ctx, cancel := context.WithTimeout(cmd.Context(), completeLimit)
		defer cancel()
		all, err := list(ctx, c, args)
		if err != nil {
			return nil, cobra.ShellCompDirectiveError
		}
		return all, cobra.ShellCompDirectiveNoFileComp
	}
}
