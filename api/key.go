package api

import "time"

// Key is an API key. Its token is in no answer but that to its making.
type Key struct {
	ID        string     `json:"id"`
	Name      string     `json:"name"`
	Person    string     `json:"person,omitempty" doc:"Who signs the commits of agents that are made with it."`
	Email     string     `json:"email,omitempty"`
	CreatedAt time.Time  `json:"createdAt"`
	UsedAt    *time.Time `json:"usedAt,omitempty" doc:"Its last use, to the minute; left out where there was none."`
	RevokedAt *time.Time `json:"revokedAt,omitempty" doc:"Left out where it holds."`
	Own       bool       `json:"own,omitempty" doc:"The request was made with it."`
}

// Keys is one page of keys, newest first.
type Keys struct {
	Items      []Key  `json:"items"`
	NextCursor string `json:"nextCursor,omitempty" doc:"Left out on the last page."`
}

// CreateKey makes a key.
type CreateKey struct {
	Name   string `json:"name" minLength:"1" maxLength:"100" doc:"In one line; not that of another key that holds."`
	Person string `json:"person,omitempty" maxLength:"200" doc:"With email: who signs the commits of agents that are made with it."`
	Email  string `json:"email,omitempty" maxLength:"200"`
}

// CreatedKey is a key with its token, which is told this once.
type CreatedKey struct {
	Key
	Token string `json:"token"`
}
