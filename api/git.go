package api

import (
	"time"

	"github.com/errand-dev/errand/git"
)

// Commits are what an agent's branch has beyond its base, newest first.
type Commits struct {
	Items      []Commit `json:"items"`
	NextCursor string   `json:"nextCursor,omitempty" doc:"Left out on the last page."`
}

// Commit is one commit of an agent's branch.
type Commit struct {
	ID          string    `json:"id"`
	Title       string    `json:"title" doc:"The first line of its message."`
	Author      string    `json:"author"`
	CommittedAt time.Time `json:"committedAt"`
}

// FromCommit gives a commit's wire form.
func FromCommit(c git.Commit) Commit {
	return Commit{ID: c.ID, Title: c.Title, Author: c.Author, CommittedAt: c.Time}
}

// Refs are branches and tags of a repository: the default branch first, then
// branches and after them tags, both by their names.
type Refs struct {
	Items      []Ref  `json:"items"`
	NextCursor string `json:"nextCursor,omitempty" doc:"Left out on the last page."`
}

// Ref is a branch or a tag of a repository.
type Ref struct {
	Name    string `json:"name" doc:"As startingRef takes it."`
	Kind    string `json:"kind" enum:"branch,tag"`
	Commit  string `json:"commit" doc:"What it names; of an annotated tag, the tag itself."`
	Default bool   `json:"default,omitempty" doc:"It is what an agent starts from when nothing else is asked for."`
}

// FromRef gives a ref's wire form.
func FromRef(r git.Ref) Ref {
	wire := Ref{Kind: "branch", Commit: r.Commit, Default: r.Default}
	var tag bool
	if wire.Name, tag = r.Short(); tag {
		wire.Kind = "tag"
	}
	return wire
}
