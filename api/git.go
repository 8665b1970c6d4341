package api

import "time"

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
