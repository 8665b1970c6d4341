package local

import (
	"context"
	"fmt"
	"path/filepath"
	"strings"

	"github.com/errand-dev/errand"
)

// carriedRef is how the server wants local work called: see git.CarriedRef.
const carriedRef = "refs/errand/carried"

// Carry brings HEAD with all uncommitted and untracked work, but nothing that is
// ignored, to the server, and gives the commit that an agent can start from. What
// the server's mirror of url has is not sent again. Neither branch, index nor file
// changes here.
func (r *Repository) Carry(ctx context.Context, url string) (id string, files []string, err error) {
	at, err := branch(ctx, r)
	if err != nil {
		return "", nil, err
	}
	message := "Uncommitted work"
	if at != "" {
		message += " on " + at
	}
	id, head, err := snapshot(ctx, r, message)
	if err != nil {
		return "", nil, err
	}
	out, err := r.git(ctx, nil, "", "diff-tree", "-r", "-z", "--no-renames", "--name-only", head, id)
	if err != nil {
		return "", nil, err
	}
	args := []string{"push", "--no-verify", "--no-signed", "--recurse-submodules=no", "--no-follow-tags"}
	if r.Progress == nil {
		args = append(args, "--quiet")
	}
	if err := r.carry(ctx, []string{carryFlag, url}, append(args, "ssh://errand/carried", id+":"+carriedRef)...); err != nil {
		return "", nil, carried("Bringing your work to the server", err)
	}
	return id, names(out), nil
}

// Remote gives the URL that the branch which is checked out is pushed to, without
// a credential.
func (r *Repository) Remote(ctx context.Context) (string, error) {
	name, err := r.remoteName(ctx)
	if err != nil {
		return "", err
	}
	url, err := r.line(ctx, "remote", "get-url", "--push", name)
	if err != nil {
		return "", declined(err, "The URL of %s is not known", name)
	}
	url = userinfo.ReplaceAllString(url, "$1")
	if strings.HasPrefix(url, "./") || strings.HasPrefix(url, "../") {
		url = filepath.Join(r.dir, url)
	}
	return url, nil
}

func (r *Repository) remoteName(ctx context.Context) (string, error) {
	at, err := branch(ctx, r)
	if err != nil {
		return "", err
	}
	for _, setting := range []string{"branch." + at + ".pushRemote", "remote.pushDefault", "branch." + at + ".remote"} {
		if name, err := r.line(ctx, "config", "--get", setting); err == nil && name != "" && name != "." {
			return name, nil
		}
	}
	all, err := r.line(ctx, "remote")
	if err != nil {
		return "", err
	}
	remotes := strings.Fields(all)
	for _, name := range remotes {
		if name == "origin" || len(remotes) == 1 {
			return name, nil
		}
	}
	return "", errand.Errorf(errand.Invalid, "no_remote", "%s, so it is not known where the agent's branch is to be pushed. Name the repository: --repo URL", fmt.Sprintf("%s has %d remotes", r.dir, len(remotes)))
}
