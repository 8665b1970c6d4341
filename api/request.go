package api

import (
	"bytes"
	"encoding/base64"
	"encoding/json"
	"net/url"
	"strings"

	"github.com/errand-dev/errand"
)

// Bounds on what a client may send.
const (
	MaxPromptBytes = 1 << 20 // of a prompt's text
	MaxImages      = 5
	MaxImageBytes  = 15 << 20 // of one image, decoded
	MaxEnvVars     = 50
	MaxRepos       = 20

	mostDisk = 8 << 40 // of a machine, in bytes: a file that large is what host file systems hold
)

// Prompt is what a person asks.
type Prompt struct {
	Text   string  `json:"text" minLength:"1" doc:"What the agent is to do."`
	Images []Image `json:"images,omitempty" maxItems:"5" doc:"Maximum 5 images, 15 MB each."`
}

// Image is a picture: either Data with MIMEType, or URL.
type Image struct {
	Data      string     `json:"data,omitempty" doc:"Base64 encoded image bytes. Mutually exclusive with url."`
	URL       string     `json:"url,omitempty" format:"uri" doc:"HTTP or HTTPS URL that the server fetches."`
	MIMEType  string     `json:"mimeType,omitempty" doc:"image/png, image/jpeg, image/gif or image/webp. Required with data."`
	Dimension *Dimension `json:"dimension,omitempty"`
}

// Dimension is a picture's size in pixels. Errand does not need it.
type Dimension struct {
	Width  int `json:"width" minimum:"1"`
	Height int `json:"height" minimum:"1"`
}

// CreateAgent asks for an agent and its first run. Engine, Image, Limits, Branch,
// EnvironmentID and BuildID are Errand's own.
type CreateAgent struct {
	Prompt              Prompt            `json:"prompt"`
	Model               *ModelRef         `json:"model,omitempty"`
	Name                string            `json:"name,omitempty" maxLength:"100" doc:"Display name. Derived from the prompt when left out."`
	AgentID             string            `json:"agentId,omitempty" doc:"An id of the client's own, bc-<uuid>. Cannot be combined with envVars."`
	Env                 *Env              `json:"env,omitempty"`
	Repos               []Repo            `json:"repos,omitempty" maxItems:"20"`
	WorkOnCurrentBranch bool              `json:"workOnCurrentBranch,omitempty"`
	AutoCreatePR        bool              `json:"autoCreatePR,omitempty"`
	SkipReviewerRequest bool              `json:"skipReviewerRequest,omitempty"`
	EnvVars             map[string]string `json:"envVars,omitempty" doc:"Environment variables for the agent's machine; at most 50."`
	MCPServers          []json.RawMessage `json:"mcpServers,omitempty" maxItems:"50" doc:"Not offered yet: more than none is refused."`
	CustomSubagents     []Subagent        `json:"customSubagents,omitempty" maxItems:"20"`
	Mode                string            `json:"mode,omitempty" enum:"agent,plan"`
	Engine              string            `json:"engine,omitempty" enum:"gvisor,runc" doc:"What isolates the machine: gvisor or runc."`
	Image               string            `json:"image,omitempty" doc:"The machine's image: host or an OCI reference."`
	Snapshot            string            `json:"snapshot,omitempty" maxLength:"80" doc:"The name or key of a snapshot that the machine starts on, in place of an image."`
	Limits              *errand.Limits    `json:"limits,omitempty"`
	Branch              string            `json:"branch,omitempty" maxLength:"200" doc:"Name of the agent's own branch."`
	EnvironmentID       string            `json:"environmentId,omitempty" doc:"A stored environment, also beside repos. env.name of type cloud names one too."`
	BuildID             string            `json:"buildId,omitempty" doc:"The build to start on, even one that failed; the environment's active one when left out."`
}

// CreatedAgent is the answer to CreateAgent.
type CreatedAgent struct {
	Agent Agent `json:"agent"`
	Run   Run   `json:"run"`
}

// The choices of CreateRun.WhenBusy.
const (
	BusyReject    = "reject"
	BusyQueue     = "queue"
	BusyInterrupt = "interrupt"
)

// CreateRun sends a follow-up. WhenBusy is Errand's own.
type CreateRun struct {
	Prompt     Prompt            `json:"prompt"`
	Model      *ModelRef         `json:"model,omitempty" doc:"The model from this run on; the agent's when left out."`
	EnvVars    map[string]string `json:"envVars,omitempty" doc:"Not offered yet: more than none is refused. Create takes them."`
	MCPServers []json.RawMessage `json:"mcpServers,omitempty" maxItems:"50" doc:"Not offered yet: more than none is refused."`
	Mode       string            `json:"mode,omitempty" enum:"agent,plan"`
	WhenBusy   string            `json:"whenBusy,omitempty" enum:"reject,queue,interrupt" doc:"What to do while another run is under way; reject when left out."`
}

// CreatedRun is the answer to CreateRun.
type CreatedRun struct {
	Run Run `json:"run"`
}

// Check says what is wrong with a request beyond what its schema tells. Errors
// are Invalid errors in the words of the request.
func (c CreateAgent) Check() error {
	if c.AgentID != "" {
		if _, err := errand.ParseAgentID(c.AgentID); err != nil {
			return err
		}
		if len(c.EnvVars) > 0 {
			return invalid("agentId cannot be combined with envVars. Leave agentId out and the server makes one.")
		}
	}
	if len(c.Repos) > 0 && c.Env != nil && c.Env.Name != "" {
		return invalid("repos cannot be combined with a named env. Send one of the two.")
	}
	if c.EnvironmentID != "" {
		if _, err := errand.ParseEnvironmentID(c.EnvironmentID); err != nil {
			return err
		}
	}
	if c.BuildID != "" {
		if _, err := errand.ParseBuildID(c.BuildID); err != nil {
			return err
		}
	}
	if err := checkRepos(c.Repos); err != nil {
		return err
	}
	if c.Snapshot != "" && c.Image != "" {
		return invalid("image and snapshot cannot both be set: a snapshot stands on an image of its own.")
	}
	if err := checkEnvVars(c.EnvVars); err != nil {
		return err
	}
	if l := c.Limits; l != nil && (l.CPUs < 0 || l.Memory < 0 || l.PIDs < 0 || l.Disk < 0) {
		return invalid("limits cannot be negative. Leave out what should have the server's default.")
	}
	if c.Limits != nil && c.Limits.Disk > mostDisk {
		return invalid("limits.disk is at most %d bytes; %d were asked for.", int64(mostDisk), c.Limits.Disk)
	}
	return checkPrompt(c.Prompt, c.MCPServers)
}

// Check says what is wrong with a request beyond what its schema tells.
func (c CreateRun) Check() error {
	if len(c.EnvVars) > 0 {
		return errand.Errorf(errand.Invalid, "not_implemented", "This server gives an agent variables only when it is made. Leave envVars out, or start a new agent with them.")
	}
	return checkPrompt(c.Prompt, c.MCPServers)
}

// Settings gives the choices of the request as a word of Errand.
func (c CreateAgent) Settings() errand.Settings {
	s := errand.Settings{
		Model: c.Model.Model(), Engine: c.Engine, Image: c.Image,
		WorkOnCurrentBranch: c.WorkOnCurrentBranch,
		AutoCreatePR:        c.AutoCreatePR,
		SkipReviewerRequest: c.SkipReviewerRequest,
		Environment:         errand.EnvironmentID(strings.ToLower(c.EnvironmentID)),
		Build:               errand.BuildID(strings.ToLower(c.BuildID)),
	}
	if c.Snapshot != "" {
		s.Image = errand.SnapshotImage + c.Snapshot
	}
	if c.Limits != nil {
		s.Limits = *c.Limits
	}
	if c.Env != nil {
		s.Extra = map[string]any{"env": *c.Env}
	}
	if len(c.CustomSubagents) > 0 {
		if s.Extra == nil {
			s.Extra = map[string]any{}
		}
		s.Extra["customSubagents"] = c.CustomSubagents
	}
	return s
}

// Environment names the stored environment that env asks for; "" is none.
func (c CreateAgent) Environment() string {
	if c.Env == nil || c.Env.Type != "cloud" {
		return ""
	}
	return c.Env.Name
}

// Repositories gives the request's repositories as words of Errand.
func (c CreateAgent) Repositories() []errand.Repository {
	var repos []errand.Repository
	for _, r := range c.Repos {
		repos = append(repos, errand.Repository{URL: r.URL, Ref: r.StartingRef})
	}
	return repos
}

func checkRepos(repos []Repo) error {
	for i, r := range repos {
		if r.PRURL != "" {
			return errand.Errorf(errand.Invalid, "pr_resolution_failed", "repos[%d].prUrl: this server cannot look up pull requests yet. Send the branch as startingRef instead.", i)
		}
		if strings.TrimSpace(r.URL) == "" {
			return invalid("repos[%d].url is empty. Name a repository's URL.", i)
		}
	}
	return nil
}

func checkEnvVars(vars map[string]string) error {
	if len(vars) > MaxEnvVars {
		return invalid("envVars has %d entries; at most %d are taken.", len(vars), MaxEnvVars)
	}
	for name, value := range vars {
		switch {
		case name == "" || len(name) > 255 || strings.ContainsAny(name, "=\x00"):
			return invalid("envVars: %.80q is not a name for a variable. A name has 1 to 255 bytes and no equals sign.", name)
		case strings.HasPrefix(name, "CURSOR_") || strings.HasPrefix(name, "ERRAND_"):
			return invalid("envVars: %.80q is kept for the server. Choose a name that starts neither with CURSOR_ nor with ERRAND_.", name)
		case value == "" || len(value) > 4096 || strings.Contains(value, "\x00"):
			return invalid("envVars: the value of %.80q must have 1 to 4096 bytes, none of them zero.", name)
		}
	}
	return nil
}

func checkPrompt(p Prompt, mcp []json.RawMessage) error {
	if len(mcp) > 0 {
		return errand.Errorf(errand.Invalid, "not_implemented", "This server does not run MCP servers yet. Leave mcpServers out.")
	}
	if strings.TrimSpace(p.Text) == "" {
		return invalid("prompt.text is empty. Say what the agent is to do.")
	}
	if len(p.Text) > MaxPromptBytes {
		return errand.Errorf(errand.TooLarge, "validation_error", "prompt.text has %d bytes; at most %d are taken. Put what is long into a file of the repository and name it.", len(p.Text), MaxPromptBytes)
	}
	if len(p.Images) > MaxImages {
		return invalid("prompt.images has %d images; at most %d are taken.", len(p.Images), MaxImages)
	}
	for i, img := range p.Images {
		if err := img.check(); err != nil {
			return invalid("prompt.images[%d]: %s", i, err.Error())
		}
	}
	return nil
}

func (img Image) check() error {
	switch {
	case img.Data != "" && img.URL != "":
		return invalid("data and url exclude each other. Send one of the two.")
	case img.URL != "":
		if img.MIMEType != "" {
			return invalid("mimeType must be left out when url is sent.")
		}
		u, err := url.Parse(img.URL)
		if err != nil || u.Host == "" || (u.Scheme != "http" && u.Scheme != "https") {
			return invalid("url must be an http or https URL.")
		}
		return nil
	case img.Data == "":
		return invalid("one of data and url is needed.")
	case !KnownImage(img.MIMEType):
		return invalid("mimeType must be image/png, image/jpeg, image/gif or image/webp.")
	}
	return nil
}

// KnownImage says whether models are shown pictures of this MIME type.
func KnownImage(mime string) bool {
	switch mime {
	case "image/png", "image/jpeg", "image/gif", "image/webp":
		return true
	}
	return false
}

// Decode gives the picture that came with the request. It is for images with
// Data; those with a URL are fetched by package server.
func (img Image) Decode() (errand.Image, error) {
	text := img.Data
	if strings.HasPrefix(text, "data:") { // a data URL, as browsers make them
		_, text, _ = strings.Cut(text, ",")
	}
	data, err := base64.StdEncoding.DecodeString(text)
	if err != nil {
		if data, err = base64.RawStdEncoding.DecodeString(text); err != nil {
			return errand.Image{}, invalid("an image's data is not base64: %v.", err)
		}
	}
	if len(data) > MaxImageBytes {
		return errand.Image{}, errand.Errorf(errand.TooLarge, "validation_error", "An image has %d bytes; at most %d (15 MB) are taken.", len(data), MaxImageBytes)
	}
	if !looksLike(img.MIMEType, data) {
		return errand.Image{}, invalid("an image's data is not %s.", img.MIMEType)
	}
	return errand.Image{MIME: img.MIMEType, Data: data}, nil
}

// looksLike compares the first bytes with what the type always starts with.
func looksLike(mime string, data []byte) bool {
	switch mime {
	case "image/png":
		return bytes.HasPrefix(data, []byte("\x89PNG\r\n\x1a\n"))
	case "image/jpeg":
		return bytes.HasPrefix(data, []byte("\xff\xd8\xff"))
	case "image/gif":
		return bytes.HasPrefix(data, []byte("GIF8"))
	case "image/webp":
		return len(data) >= 12 && string(data[:4]) == "RIFF" && string(data[8:12]) == "WEBP"
	}
	return false
}

func invalid(format string, args ...any) error {
	return errand.Errorf(errand.Invalid, "validation_error", format, args...)
}
