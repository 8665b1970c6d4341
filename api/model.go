package api

import (
	"maps"
	"slices"

	"github.com/errand-dev/errand"
	"github.com/errand-dev/errand/llm"
)

// ModelRef names a model and its parameters.
type ModelRef struct {
	ID     string       `json:"id" minLength:"1" doc:"Explicit model ID returned by GET /v1/models."`
	Params []ModelParam `json:"params,omitempty"`
}

// ModelParam is one parameter of a model.
type ModelParam struct {
	ID    string `json:"id" minLength:"1"`
	Value string `json:"value" minLength:"1"`
}

// Model gives the reference as a word of Errand. A nil reference is the zero
// Model: the server's default.
func (m *ModelRef) Model() errand.Model {
	if m == nil {
		return errand.Model{}
	}
	model := errand.Model{ID: m.ID}
	for _, p := range m.Params {
		if model.Params == nil {
			model.Params = map[string]string{}
		}
		model.Params[p.ID] = p.Value
	}
	return model
}

// fromModel gives nil for the zero Model.
func fromModel(m errand.Model) *ModelRef {
	if m.ID == "" {
		return nil
	}
	ref := &ModelRef{ID: m.ID}
	for _, id := range slices.Sorted(maps.Keys(m.Params)) {
		ref.Params = append(ref.Params, ModelParam{ID: id, Value: m.Params[id]})
	}
	return ref
}

// Models is the list of models that can be named.
type Models struct {
	Items []Model `json:"items"`
}

// Model is one model that can be named. Provider, Window and MaxOutput are
// Errand's own.
type Model struct {
	ID          string           `json:"id" minLength:"1"`
	DisplayName string           `json:"displayName" minLength:"1"`
	Aliases     []string         `json:"aliases,omitempty"`
	Parameters  []ModelParameter `json:"parameters,omitempty"`
	Provider    string           `json:"provider,omitempty" doc:"Whose it is: a name of GET /v1/settings."`
	Window      int              `json:"window,omitempty" doc:"Tokens of conversation and answer that fit together."`
	MaxOutput   int              `json:"maxOutput,omitempty" doc:"Tokens of one answer."`
}

// ModelParameter is something that may be set for a model.
type ModelParameter struct {
	ID          string       `json:"id" minLength:"1"`
	DisplayName string       `json:"displayName,omitempty"`
	Values      []ModelValue `json:"values" minItems:"1"`
}

// ModelValue is a value that a parameter may have.
type ModelValue struct {
	Value       string `json:"value" minLength:"1"`
	DisplayName string `json:"displayName,omitempty"`
}

// FromEntries gives the wire form of a catalog.
func FromEntries(entries []llm.Entry) Models {
	models := Models{Items: []Model{}}
	for _, e := range entries {
		m := Model{
			ID: e.ID, DisplayName: e.DisplayName, Aliases: e.Aliases, Provider: e.Provider,
			Window: e.Window, MaxOutput: e.MaxOutput,
		}
		if m.DisplayName == "" {
			m.DisplayName = e.ID
		}
		for _, p := range e.Parameters {
			mp := ModelParameter{ID: p.ID, DisplayName: p.DisplayName}
			for _, v := range p.Values {
				mp.Values = append(mp.Values, ModelValue{Value: v})
			}
			if len(mp.Values) > 0 {
				m.Parameters = append(m.Parameters, mp)
			}
		}
		models.Items = append(models.Items, m)
	}
	return models
}
