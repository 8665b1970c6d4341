package api

import (
	"time"

	"github.com/errand-dev/errand"
	"github.com/errand-dev/errand/presence"
)

// Takeover says who has an agent in hand. It is Errand's own.
type Takeover struct {
	By       string    `json:"by" doc:"Who has it."`
	Since    time.Time `json:"since"`
	Until    time.Time `json:"until" doc:"It is handed back by itself then."`
	Reminded int       `json:"reminded,omitempty" doc:"Reminders of that so far."`
	Ready    bool      `json:"ready,omitempty" doc:"What the machine held is recorded: all that is changed from now on is known to be theirs."`
	Ending   bool      `json:"ending,omitempty" doc:"It is being handed back."`
}

// TakeOver is the body of POST /v1/agents/{id}/takeover.
type TakeOver struct {
	Force bool `json:"force,omitempty" doc:"Take it from whoever has it."`
}

// HandBack is the body of POST /v1/agents/{id}/handback.
type HandBack struct {
	Note  string `json:"note,omitempty" maxLength:"65536" doc:"For the agent, in your words."`
	Force bool   `json:"force,omitempty" doc:"Also where somebody else has it."`
}

// HandedBack says what a person did while they had an agent in hand.
type HandedBack struct {
	By      string         `json:"by" doc:"Who had it."`
	Since   time.Time      `json:"since"`
	Why     string         `json:"why" enum:"handback,limit,cancelled,archived"`
	Changed errand.Changes `json:"changed"`
	Summary string         `json:"summary" doc:"What the model is told of it."`
}

// FromTakeover gives the wire form, nil for nobody.
func FromTakeover(t *errand.Takeover) *Takeover {
	if t == nil {
		return nil
	}
	return &Takeover{By: t.By.Called(), Since: t.Since, Until: t.Until, Reminded: t.Reminded, Ready: t.From != nil, Ending: t.Ending != nil}
}

// FromHandback gives the wire form of a take-over's end.
func FromHandback(e errand.TakeoverEnded) HandedBack {
	return HandedBack{By: e.Holder.Called(), Since: e.Since, Why: e.Ending.Why, Changed: e.Changed, Summary: e.Summary}
}

// Presence says who is at an agent just now.
type Presence struct {
	People []Present `json:"people"`
	More   int       `json:"more,omitempty" doc:"How many more there are."`
}

// Present is somebody who is there, by one of the things that they do.
type Present struct {
	Name     string `json:"name"`
	Doing    string `json:"doing" enum:"watching,terminal,command,preview,port,files" doc:"watching: they have its page open; command: a command or a shell of their own; preview: they look at a port in a browser; port: they have forwarded one; files: they watch the files."`
	Terminal string `json:"terminal,omitempty" doc:"The shared terminal that they are in."`
	Typing   bool   `json:"typing,omitempty"`
	Port     int    `json:"port,omitempty" doc:"With preview and port: which."`
}

// StreamPresence is the message of an agent's journal that tells who is there, where
// it was asked for. It has no id.
const StreamPresence = "presence"

// FromPresence gives the wire form of who is there.
func FromPresence(people []presence.Person, more int) Presence {
	out := Presence{People: []Present{}, More: more}
	for _, p := range people {
		out.People = append(out.People, Present{Name: p.Caller.Called(), Doing: p.Doing, Terminal: p.Terminal, Typing: p.Typing, Port: p.Port})
	}
	return out
}
