package api

// Settings are what the server was told when it was started. None of them can be
// changed while it runs.
type Settings struct {
	Flags     []Flag     `json:"flags" doc:"The flags of errand serve, by name."`
	Providers []Provider `json:"providers" doc:"The providers of models, by name."`
}

// Flag is one flag of `errand serve`.
type Flag struct {
	Name  string `json:"name"`
	Usage string `json:"usage" doc:"What it means, with its default."`
	Value string `json:"value,omitempty" doc:"What it was set to; left out where it was not."`
	Set   bool   `json:"set"`
}

// Provider is one provider of models.
type Provider struct {
	Name     string     `json:"name"`
	Usable   bool       `json:"usable"`
	Missing  string     `json:"missing,omitempty" doc:"What has to be set for the server before it can be used."`
	Settings []Variable `json:"settings" doc:"What it is set up from."`
}

// Variable is one variable of the server's environment.
type Variable struct {
	Name  string `json:"name"`
	Set   bool   `json:"set"`
	Value string `json:"value,omitempty" doc:"Left out for what is secret."`
}

// TryModel asks for one answer of a model.
type TryModel struct {
	Model string `json:"model,omitempty" maxLength:"200" doc:"An id of GET /v1/models; left out: the server's default."`
}

// ModelTrial is what came back from a model that was asked for one word.
type ModelTrial struct {
	Model     string      `json:"model"`
	OK        bool        `json:"ok" doc:"It answered."`
	Named     string      `json:"named,omitempty" doc:"What the provider calls the model that answered."`
	Text      string      `json:"text,omitempty" doc:"What it said, at most 500 bytes."`
	Usage     Usage       `json:"usage"`
	CostCents float64     `json:"costCents,omitempty" doc:"Left out where the price is not known."`
	Ms        int64       `json:"ms" doc:"How long it took."`
	Error     *TrialError `json:"error,omitempty" doc:"Why it did not answer."`
}

// TrialError is a provider's refusal or failure.
type TrialError struct {
	Provider string `json:"provider"`
	Cause    string `json:"cause" doc:"denied, no_model, no_credit, rate_limited, overloaded, rejected, too_long or broken."`
	Status   int    `json:"status,omitempty" doc:"The provider's HTTP status; left out where there was none."`
	Message  string `json:"message" doc:"The provider's own words."`
	Advice   string `json:"advice" doc:"What to do about it."`
}
