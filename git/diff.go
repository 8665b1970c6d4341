package git

import (
	"bytes"
	"context"
	"fmt"
	"os"
	"strconv"
	"strings"

	"github.com/errand-dev/errand"
)

// FileStat is what a diff does to one file.
type FileStat struct {
	Path    string `json:"path"`
	OldPath string `json:"oldPath,omitempty"` // where it was, for a renamed file
	Status  string `json:"status"`            // "added", "modified", "deleted", "renamed", "copied", "type"
	Added   int    `json:"added"`             // lines; 0 for a binary file
	Deleted int    `json:"deleted"`
	Binary  bool   `json:"binary,omitempty"`
}

// maxDiff bounds a patch, in bytes.
const maxDiff = 32 << 20

// Diff gives what the agent's commit head adds to base, from where the two
// parted: a unified patch and a line for each file. It knows what the agent
// pushed and what the mirror has; a commit that is in neither is NotFound. A
// patch above 32 MiB is TooLarge, and the stats are given all the same.
func (m *Mirrors) Diff(ctx context.Context, agent errand.AgentID, url, base, head string) ([]byte, []FileStat, error) {
	r, err := m.mirror(url)
	if err != nil {
		return nil, nil, err
	}
	dir, err := m.agentRepositoryDir(agent, r.url)
	if err != nil {
		return nil, nil, err
	}
	if _, err := os.Stat(dir); err != nil {
		dir = r.dir
	}
	from := Mirror{mirrors: m, dir: dir, url: r.url}
	if err := from.mustHave(ctx, base, head); err != nil {
		return nil, nil, err
	}
	if parted, err := m.git(ctx, dir, "merge-base", base, head); err == nil {
		base = strings.TrimSpace(string(parted))
	}
	raw, err := m.git(ctx, dir, "diff-tree", "-r", "-M", "-z", "--raw", "--numstat", base, head)
	if err != nil {
		return nil, nil, fmt.Errorf("comparing commits of %s: %w", r.url, err)
	}
	stats := parseStats(raw)
	patch := limited{max: maxDiff}
	_, _, err = m.run(ctx, command{dir: dir, stdout: &patch,
		args: []string{"diff-tree", "-r", "-M", "-p", "--full-index", "--no-color", "--no-ext-diff", "--no-textconv", base, head}})
	if patch.full {
		return nil, stats, errand.Errorf(errand.TooLarge, "diff_too_large", "The diff has more than %d MiB. Fetch the branch and look at it with git.", maxDiff>>20)
	}
	if err != nil {
		return nil, nil, fmt.Errorf("comparing commits of %s: %w", r.url, err)
	}
	return patch.buf.Bytes(), stats, nil
}

func (r *Mirror) mustHave(ctx context.Context, commits ...string) error {
	names := make([]string, len(commits))
	for i, c := range commits {
		if !hexID.MatchString(c) {
			return errand.Errorf(errand.Invalid, "validation_error", "%q is not the id of a commit.", clip(c))
		}
		names[i] = c + "^{commit}"
	}
	if !r.exists() {
		return errand.Errorf(errand.NotFound, "repository_access", "There is no mirror of %s yet. Fetch it first.", r.url)
	}
	found, err := r.look(ctx, names...)
	if err != nil {
		return err
	}
	for i, f := range found {
		if f.kind != "commit" {
			return errand.Errorf(errand.NotFound, "commit_not_found", "The commit %s of %s is not on the server. Push the agent's branch first.", commits[i], r.url)
		}
	}
	return nil
}

var statuses = map[byte]string{'A': "added", 'M': "modified", 'D': "deleted", 'R': "renamed", 'C': "copied", 'T': "type"}

// parseStats reads `diff-tree -z --raw --numstat`: first all raw entries, each
// ":meta status\0path\0[to\0]", then all counts, "added\tdeleted\tpath\0" or
// "added\tdeleted\t\0from\0to\0".
func parseStats(out []byte) []FileStat {
	fields := strings.Split(string(bytes.TrimSuffix(out, []byte{0})), "\x00")
	var stats []FileStat
	at := map[string]int{}
	for i := 0; i < len(fields); i++ {
		f := fields[i]
		if meta, ok := strings.CutPrefix(f, ":"); ok && i+1 < len(fields) {
			status := meta[strings.LastIndexByte(meta, ' ')+1:]
			s := FileStat{Path: fields[i+1], Status: statuses[status[0]]}
			i++
			if (status[0] == 'R' || status[0] == 'C') && i+1 < len(fields) {
				s.OldPath, s.Path = s.Path, fields[i+1]
				i++
			}
			at[s.Path] = len(stats)
			stats = append(stats, s)
			continue
		}
		count := strings.SplitN(f, "\t", 3)
		if len(count) != 3 {
			continue
		}
		path := count[2]
		if path == "" && i+2 < len(fields) {
			path = fields[i+2]
			i += 2
		}
		n, ok := at[path]
		if !ok {
			continue
		}
		stats[n].Binary = count[0] == "-"
		stats[n].Added, _ = strconv.Atoi(count[0])
		stats[n].Deleted, _ = strconv.Atoi(count[1])
	}
	return stats
}
