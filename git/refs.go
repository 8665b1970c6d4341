package git

import (
	"context"
	"errors"
	"slices"
	"strings"

	"github.com/errand-dev/errand"
)

// Ref is a branch or a tag of a remote.
type Ref struct {
	Name    string // in full: "refs/heads/main"
	Commit  string // what it names; of an annotated tag, the tag
	Default bool   // it is the remote's default branch
}

// Short is the name as people write it, and whether it is a tag's.
func (r Ref) Short() (name string, tag bool) {
	if name, tag = strings.CutPrefix(r.Name, "refs/tags/"); tag {
		return name, true
	}
	return strings.TrimPrefix(r.Name, "refs/heads/"), false
}

// maxRefs bounds what a remote may say of its refs to a person, in bytes: some
// hundred thousand of them.
const maxRefs = 32 << 20

// Refs asks the remote for its branches, the default one first, and then its
// tags, both by their names. It makes no mirror and takes one exchange with the
// remote, which ends with ctx. Errors are those of Fetch, and TooLarge.
func (m *Mirrors) Refs(ctx context.Context, url string) ([]Ref, error) {
	url, err := CleanOpen(url)
	if err != nil {
		return nil, err
	}
	r := Mirror{mirrors: m, url: url}
	named, head, err := r.remoteRefs(ctx, maxRefs)
	if errors.Is(err, errTooMuch) {
		return nil, errand.Errorf(errand.TooLarge, "too_many_refs", "The repository %s has more branches and tags than can be listed. Type the name of the one you want.", url)
	}
	if err != nil {
		return nil, accessError("Listing the branches of", url, err)
	}
	refs := make([]Ref, 0, len(named))
	for name, commit := range named {
		refs = append(refs, Ref{Name: name, Commit: commit, Default: name == head})
	}
	slices.SortFunc(refs, func(a, b Ref) int {
		switch {
		case a.Default:
			return -1
		case b.Default:
			return 1
		}
		return strings.Compare(a.Name, b.Name) // heads come before tags
	})
	return refs, nil
}
