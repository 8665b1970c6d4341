package git

import (
	"bytes"
	"context"
	"fmt"
	"regexp"
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
	r, err := m.pushed(ctx, agent, url, base, head)
	if err != nil {
		return nil, nil, err
	}
	dir := r.dir
	if parted, err := m.git(ctx, dir, "merge-base", base, head); err == nil {
		base = strings.TrimSpace(string(parted))
	}
	raw, err := m.git(ctx, dir, "diff-tree", "-r", "-M", "-z", "--raw", "--numstat", base, head)
	if err != nil {
		return nil, nil, fmt.Errorf("comparing commits of %s: %w", r.url, err)
	}
	stats := ParseStats(raw)
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

// ParseStats reads what `git diff -z --raw --numstat` prints, of any pair of
// trees. It may come from a machine: what does not look right is left out.
func ParseStats(output []byte) []FileStat {
	// First all raw entries, each ":meta status\0path\0[to\0]", then all counts,
	// "added\tdeleted\tpath\0" or "added\tdeleted\t\0from\0to\0".
	fields := strings.Split(string(bytes.TrimSuffix(output, []byte{0})), "\x00")
	var stats []FileStat
	at := map[string]int{}
	next := func() (field string) {
		if len(fields) > 0 {
			field, fields = fields[0], fields[1:]
		}
		return field
	}
	for len(fields) > 0 {
		field := next()
		if m := rawPattern.FindStringSubmatch(field); m != nil {
			s := FileStat{Path: next(), Status: statuses[m[1]]}
			if m[1] == "R" || m[1] == "C" {
				s.OldPath, s.Path = s.Path, next()
			}
			at[s.Path] = len(stats)
			stats = append(stats, s)
			continue
		}
		count := strings.SplitN(field, "\t", 3)
		if len(count) != 3 {
			continue
		}
		path := count[2]
		if path == "" {
			next()
			path = next()
		}
		if n, ok := at[path]; ok {
			stats[n].Binary = count[0] == "-"
			stats[n].Added, _ = strconv.Atoi(count[0])
			stats[n].Deleted, _ = strconv.Atoi(count[1])
		}
	}
	return stats
}

var rawPattern = regexp.MustCompile(`^:[0-7]{6} [0-7]{6} [0-9a-f.]+ [0-9a-f.]+ ([AMDRCT])[0-9]*$`)

var statuses = map[string]string{"A": "added", "M": "modified", "D": "deleted", "R": "renamed", "C": "copied", "T": "type"}
