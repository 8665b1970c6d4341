package git

import (
	"context"
	"fmt"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"time"

	"github.com/errand-dev/errand"
)

// Commit is one commit of a branch as lists show it.
type Commit struct {
	ID     string
	Title  string // the first line of its message
	Author string
	Time   time.Time // when it was committed
}

// LogArgs are git's arguments to print what head has beyond base, newest first,
// for ParseLog.
func LogArgs(base, head string, limit, skip int) []string {
	return []string{"-c", "log.showSignature=false", "log", "-z", "--no-color", "--no-decorate", "--no-patch", "--format=%H%x1f%an%x1f%ct%x1f%s",
		"--max-count=" + strconv.Itoa(limit), "--skip=" + strconv.Itoa(skip), head, "--not", base, "--"}
}

// ParseLog reads what LogArgs made git print. It may come from a machine: what
// does not look right is left out.
func ParseLog(output []byte) []Commit {
	var commits []Commit
	for entry := range strings.SplitSeq(string(output), "\x00") {
		fields := strings.SplitN(entry, "\x1f", 4)
		if len(fields) != 4 || !hexID.MatchString(fields[0]) {
			continue
		}
		seconds, err := strconv.ParseInt(fields[2], 10, 64)
		if err != nil {
			continue
		}
		commits = append(commits, Commit{ID: fields[0], Author: fields[1], Time: time.Unix(seconds, 0).UTC(), Title: fields[3]})
	}
	return commits
}

// Log gives what the agent's commit head has beyond base, newest first: at most
// limit after the first skip. It knows the commits that Diff knows.
func (m *Mirrors) Log(ctx context.Context, agent errand.AgentID, url, base, head string, limit, skip int) ([]Commit, error) {
	from, err := m.pushed(ctx, agent, url, base, head)
	if err != nil {
		return nil, err
	}
	out, err := m.git(ctx, from.dir, LogArgs(base, head, limit, skip)...)
	if err != nil {
		return nil, fmt.Errorf("reading the history of %s: %w", from.url, err)
	}
	return ParseLog(out), nil
}

// pushed gives the repository that has what the agent pushed: the mirror itself
// where that is nothing yet. A commit that it lacks is NotFound.
func (m *Mirrors) pushed(ctx context.Context, agent errand.AgentID, url string, commits ...string) (*Mirror, error) {
	r, err := m.mirror(url)
	if err != nil {
		return nil, err
	}
	dir, err := m.agentRepositoryDir(agent, r.url)
	if err != nil {
		return nil, err
	}
	if _, err := os.Stat(filepath.Join(dir, "objects", "info", "alternates")); err != nil {
		dir = r.dir // nothing was pushed yet
	}
	from := &Mirror{mirrors: m, dir: dir, url: r.url}
	return from, from.mustHave(ctx, commits...)
}
