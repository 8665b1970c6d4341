package runner

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"time"

	"github.com/errand-dev/errand"
	"github.com/errand-dev/errand/llm"
	"github.com/errand-dev/errand/store"
)

const (
	// trialFor is how long a model may take to answer when it is tried.
	trialFor = time.Minute
	// trialOutput bounds the answer in tokens. Some models think first.
	trialOutput = 1024
	// trialText bounds what is told of the answer, in bytes.
	trialText = 500
)

// Trial is what came back when a model was tried.
type Trial struct {
	Model string        // as the catalog names it
	Named string        // as the provider named it; "" where it answered nothing
	Text  string        // what it said
	Spent errand.Spent  // without Machine
	Took  time.Duration //
	Err   *llm.Error    // why it did not answer; nil: it did
	// Advice says in a sentence what to do about Err.
	Advice string
}

// Try asks a model for one word, through all that an agent's requests go through,
// and tells what came back. Only a model that cannot be asked at all is an error.
// What it used is counted as the caller's.
func (r *Runner) Try(ctx context.Context, caller errand.Caller, id string) (Trial, error) {
	model, entry, err := r.Models.Model(ctx, id)
	if err != nil {
		return Trial{}, err
	}
	t := Trial{Model: entry.ID}
	waiting, cancel := context.WithTimeout(ctx, trialFor)
	defer cancel()
	began := time.Now()
	answer, err := model.Do(waiting, &llm.Request{
		System:    "You are being tried out. Answer in one word.",
		Messages:  []llm.Message{{Role: llm.User, Blocks: []llm.Block{{Type: llm.Text, Text: "Say ready."}}}},
		MaxOutput: trialOutput, Key: "trial",
	}, nil)
	t.Took = time.Since(began)
	if ctx.Err() != nil {
		return t, ctx.Err()
	}
	if err != nil {
		t.Err, t.Advice = r.trialFault(entry, waiting.Err() != nil, err)
		return t, nil
	}
	t.Named, t.Text, t.Spent = answer.Model, r.said(answer), spent(entry, answer.Usage)
	of := errand.UsageOf{Model: entry.ID, Person: caller.Person()}
	return t, r.Store.Write(ctx, func(tx *store.Tx) error { return tx.AddUsage(of, t.Spent) })
}

// said gives the text of an answer, as it may be shown.
func (r *Runner) said(answer *llm.Response) string {
	var text strings.Builder
	for _, b := range answer.Blocks {
		if b.Type == llm.Text {
			text.WriteString(b.Text)
		}
	}
	said := r.Redactor.String(strings.TrimSpace(text.String()))
	return strings.ToValidUTF8(said[:min(len(said), trialText)], "")
}

func (r *Runner) trialFault(entry llm.Entry, late bool, err error) (*llm.Error, string) {
	var fault *llm.Error
	if !errors.As(err, &fault) {
		fault = &llm.Error{Provider: entry.Provider, Cause: llm.Broken, Message: err.Error()}
	}
	told := *fault
	told.Message, told.Err = r.Redactor.String(fault.Message), nil
	if late {
		told.Message = fmt.Sprintf("No answer within %s.", trialFor)
	}
	return &told, adviceOn(told.Cause, entry, r.Models.Providers[entry.Provider])
}

// adviceOn says what to do about a provider's refusal or failure.
func adviceOn(cause llm.Cause, entry llm.Entry, p Provider) string {
	switch cause {
	case llm.Denied:
		return fmt.Sprintf("The key is wrong, or may not use this model. Look at %s of the server, and start it again.", p.variable("KEY"))
	case llm.NoModel:
		return fmt.Sprintf("The provider has no model %q for this key. Look at its own list, or at %s.", entry.Name(), p.variable("BASE_URL"))
	case llm.NoCredit:
		return "The account has nothing left. Add credit with the provider."
	case llm.RateLimited:
		return "The provider takes no more requests for now. Agents wait and ask again; try later."
	case llm.Overloaded:
		return "The provider is overloaded or out of order. Agents wait and ask again; try later."
	case llm.Rejected, llm.TooLong:
		return "The provider does not take what Errand sends. Does this address speak the dialect of the model's entry?"
	}
	return fmt.Sprintf("Nothing usable came back. Can the server reach the provider, and is %s right?", p.variable("BASE_URL"))
}

// variable gives the name of a provider's setting by how it ends.
func (p Provider) variable(end string) string {
	for _, s := range p.Settings {
		if strings.HasSuffix(s.Name, end) {
			return s.Name
		}
	}
	return "the provider's settings"
}
