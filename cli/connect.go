package cli

import (
	"cmp"
	"context"
	"iter"
	"os"
	"path/filepath"
	"strings"

	"github.com/errand-dev/errand"
	"github.com/errand-dev/errand/client"
)

// What `errand serve` leaves in its data directory for the commands beside it.
const (
	urlFile = "url" // where the server listens
	keyFile = "key" // a key for whoever may read it
)

// defaultListen is where a server listens unless told otherwise.
const defaultListen = "127.0.0.1:7070"

// dataDir is where a server on this machine keeps everything.
func (a *app) dataDir() string {
	if dir := a.getenv("ERRAND_DATA"); dir != "" {
		return dir
	}
	if os.Geteuid() == 0 {
		return "/var/lib/errand"
	}
	home, err := os.UserHomeDir()
	if err != nil {
		return filepath.Join(os.TempDir(), "errand")
	}
	return filepath.Join(home, ".local", "share", "errand")
}

// connect gives a client of the server that is meant: what the flag or the
// environment say, or else the server of the data directory.
func (a *app) connect() (*client.Client, error) {
	dir := a.dataDir()
	named := cmp.Or(a.url, a.getenv("ERRAND_URL"))
	local := readLine(filepath.Join(dir, urlFile))
	url := cmp.Or(named, local, "http://"+defaultListen)
	key := a.getenv("ERRAND_API_KEY")
	if named == "" && local == "" && key == "" {
		return nil, &exitError{code: ExitUnreachable, err: errand.Errorf(errand.Unavailable, "no_server",
			"No server runs on the data directory %s. Start one with errand serve, or say which one is meant with ERRAND_DATA, or with ERRAND_URL and ERRAND_API_KEY.", dir)}
	}
	if key == "" && strings.TrimSuffix(url, "/") == local {
		key = readLine(filepath.Join(dir, keyFile)) // only ever sent to the server it belongs to
	}
	if key == "" {
		return nil, errand.Errorf(errand.Unauthorized, "unauthorized",
			"No API key for %s. Set ERRAND_API_KEY; whoever runs the server makes one with: errand key create NAME", url)
	}
	return client.New(client.Options{URL: url, Key: key, UserAgent: "errand/" + a.version})
}

func readLine(path string) string {
	text, err := os.ReadFile(path)
	if err != nil {
		return ""
	}
	line, _, _ := strings.Cut(string(text), "\n")
	return strings.TrimSpace(line)
}

// findAgent gives the agent that a person named: a whole id, the beginning of
// one that only one agent has (with or without "bc-"), or "latest" or "@" for
// the newest.
func findAgent(ctx context.Context, c *client.Client, name string) (errand.AgentID, error) {
	if id, err := errand.ParseAgentID(name); err == nil {
		return id, nil
	}
	if name == "latest" || name == "@" {
		page, err := c.Agents(ctx, client.AgentQuery{Limit: 1})
		if err != nil {
			return "", err
		}
		if len(page.Items) == 0 {
			return "", errand.Errorf(errand.NotFound, "agent_not_found", `There is no agent yet. Make one: errand run "what it is to do"`)
		}
		return errand.AgentID(page.Items[0].ID), nil
	}
	prefix := strings.ToLower(name)
	if !strings.HasPrefix(prefix, "bc-") {
		prefix = "bc-" + prefix
	}
	if prefix == "bc-" || strings.Trim(prefix[3:], "0123456789abcdef-") != "" {
		return "", usageError("%q is not an agent. Name one by its id or the beginning of it, or as latest", name)
	}
	return findPrefix(ctx, c, prefix)
}

func findPrefix(ctx context.Context, c *client.Client, prefix string) (errand.AgentID, error) {
	var found errand.AgentID
	for agent, err := range c.AllAgents(ctx, client.AgentQuery{Limit: 100, IncludeArchived: true}) {
		switch {
		case err != nil:
			return "", err
		case !strings.HasPrefix(agent.ID, prefix):
		case found != "":
			return "", usageError("%s begins more than one agent's id (%s and %s). Give more of it", prefix, shortID(string(found)), shortID(agent.ID))
		default:
			found = errand.AgentID(agent.ID)
		}
	}
	if found == "" {
		return "", errand.Errorf(errand.NotFound, "agent_not_found", "No agent's id begins with %s. `errand ls` shows which there are.", prefix)
	}
	return found, nil
}

// shortID is enough of an id for people.
func shortID(id string) string {
	if len(id) > 11 && strings.HasPrefix(id, "bc-") {
		return id[:11]
	}
	if len(id) > 12 && (strings.HasPrefix(id, "run-") || strings.HasPrefix(id, "env-")) {
		return id[:12]
	}
	if most := len("bld-20060102-00000000"); len(id) > most && strings.HasPrefix(id, "bld-") {
		return id[:most]
	}
	return id
}

// agentArg connects and finds the agent that a command's first argument names.
func (a *app) agentArg(ctx context.Context, args []string) (*client.Client, errand.AgentID, error) {
	c, err := a.connect()
	if err != nil {
		return nil, "", err
	}
	name := "latest"
	if len(args) > 0 {
		name = args[0]
	}
	id, err := findAgent(ctx, c, name)
	if err != nil {
		return nil, "", err
	}
	return c, id, nil
}

// gather gives what a list holds, page by page: at most limit, all of it with 0.
// A list of nothing is one too, for JSON.
func gather[T any](list iter.Seq2[T, error], limit int) ([]T, error) {
	all := []T{}
	for one, err := range list {
		if err != nil {
			return nil, err
		}
		if all = append(all, one); len(all) == limit {
			break
		}
	}
	return all, nil
}
