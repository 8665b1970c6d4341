// Package file reads the environment file that people keep beside their code:
// .errand/environment.json, or .cursor/environment.json in the same form.
//
// People write these files by hand, so Parse takes what is meant, says with line
// and column what it had to guess, and refuses only what cannot be understood.
//
// It opens no files itself and does nothing of what they ask for: that is
// package environment's.
package file

import (
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"

	"github.com/errand-dev/errand"
)

// Environment is what an environment file asks for, as it was understood. The
// zero Environment asks for nothing: the default image, no install.
type Environment struct {
	File string `json:"file,omitempty"` // where it was read; "" for none
	Name string `json:"name,omitempty"` // for people
	// User is whom install, start, terminals and the agent run as: a name or
	// uid[:gid] in the machine. "" is root.
	User string `json:"user,omitempty"`
	// Install runs from the project root, once for each Key. Only the disk
	// survives it.
	Install string `json:"install,omitempty"`
	// Start runs at each start of an agent's machine, before the terminals.
	Start string `json:"start,omitempty"`
	// Image is "host" or an OCI reference; "" is the server's default.
	Image string `json:"image,omitempty"`
	// Snapshot is the name of a kept disk on which the machine stands.
	Snapshot  string     `json:"snapshot,omitempty"`
	Build     *BuildSpec `json:"build,omitempty"`
	Terminals []Terminal `json:"terminals,omitempty"`
	Ports     []Port     `json:"ports,omitempty"`
	// RepositoryDependencies widen what git access is granted, as
	// "github.com/org/repo". They are not cloned.
	RepositoryDependencies []string `json:"repositoryDependencies,omitempty"`
	// AgentCanUpdateSnapshot is nil where the file does not say.
	AgentCanUpdateSnapshot *bool             `json:"agentCanUpdateSnapshot,omitempty"`
	EgressAllowlist        []string          `json:"egressAllowlist,omitempty"`
	EgressMode             EgressMode        `json:"egressMode,omitempty"` // "" where the file does not say
	MCP                    MCP               `json:"mcp,omitzero"`
	Env                    map[string]string `json:"env,omitempty"` // variables of the machine
	// Extra keeps the keys that nothing here acts on, as standard JSON.
	Extra map[string]json.RawMessage `json:"extra,omitempty"`
}

// CanUpdateSnapshot says whether an agent may replace the disk that later
// agents start on: where the base is a snapshot or the default image, unless
// the file forbids it.
func (e *Environment) CanUpdateSnapshot() bool {
	if may := e.AgentCanUpdateSnapshot; may != nil && !*may {
		return false
	}
	return e.Snapshot != "" || e.Build == nil && e.Image == ""
}

// BuildSpec says which Dockerfile makes the image. One of Dockerfile and Contents
// is set.
type BuildSpec struct {
	Dockerfile string `json:"dockerfile,omitempty"`         // relative to the environment file's folder
	Contents   string `json:"dockerfileContents,omitempty"` // the Dockerfile itself
	// Context is relative to the environment file's folder; "" is that folder,
	// ".", "./" and ".." are the repository's root.
	Context string `json:"context,omitempty"`
}

// Terminal is a named command that people and the agent share.
type Terminal struct {
	Name        string `json:"name"`              // unique in its environment
	Command     string `json:"command,omitempty"` // "" is a shell
	Description string `json:"description,omitempty"`
	// Window counts from 0. Terminals that the file groups in an inner array
	// share one.
	Window int `json:"window"`
}

// Port is a port that something in the machine listens on.
type Port struct {
	Name string `json:"name,omitempty"`
	Port int    `json:"port"` // 1 to 65535
}

// EgressMode says how an environment's allowlist and the server's settings
// combine.
type EgressMode string

// The modes of the file format.
const (
	EgressAllowAll            EgressMode = "allow_all"
	EgressParentPlusSettings  EgressMode = "parent_plus_network_settings"
	EgressDefaultWithSettings EgressMode = "default_with_network_settings"
	EgressNetworkSettingsOnly EgressMode = "network_settings_only"
)

// MCP says which tool servers an agent may use.
type MCP struct {
	DisableAll bool        `json:"disableAllMcpServers,omitempty"`
	Allow      []MCPServer `json:"mcpServerAllowlist,omitempty"`
}

// MCPServer names an allowed tool server by its URL or its command.
type MCPServer struct {
	Name    string   `json:"name,omitempty"`
	URL     string   `json:"serverUrl,omitempty"`
	Command string   `json:"command,omitempty"`
	Tools   []string `json:"toolAllowlist,omitempty"` // none named: all
}

// Severity says how much a finding matters.
type Severity string

const (
	// Error: the file cannot be understood, or what it asks for cannot be done.
	Error Severity = "error"
	// Warning: the file departs from the format, or what it says has no effect.
	Warning Severity = "warning"
)

// Finding tells where a file departs from the format and what was made of it.
type Finding struct {
	File     string   `json:"file"`
	Line     int      `json:"line"`   // from 1; 0 where the file as a whole is meant
	Column   int      `json:"column"` // from 1, in characters
	Severity Severity `json:"severity"`
	Text     string   `json:"text"` // what is odd and how it was understood, a sentence
	// Edits correct it, in order. There are none where people must decide, or
	// where the edits of another finding have it within them.
	Edits []Edit `json:"edits,omitempty"`
}

// String gives the finding in the form of a compiler: file:line:column: text.
func (f Finding) String() string {
	if f.Line == 0 {
		return fmt.Sprintf("%s: %s", f.File, f.Text)
	}
	return fmt.Sprintf("%s:%d:%d: %s", f.File, f.Line, f.Column, f.Text)
}

// The places of the environment file in a repository. The first that exists is
// used.
const (
	Path       = ".errand/environment.json"
	CursorPath = ".cursor/environment.json"
)

// Find reads a repository's environment file through read, which takes a path
// from the repository's root and returns a NotFound error for what is not
// there. A repository without one has the zero Environment.
func Find(read func(path string) ([]byte, error)) (*Environment, []Finding, error) {
	own, err := readIfThere(read, Path)
	if err != nil {
		return nil, nil, err
	}
	other, err := readIfThere(read, CursorPath)
	if err != nil {
		return nil, nil, err
	}
	switch {
	case own == nil && other == nil:
		return &Environment{}, nil, nil
	case own == nil:
		return Parse(CursorPath, other)
	}
	e, warnings, err := Parse(Path, own)
	if other != nil {
		warnings = append(warnings, Finding{File: CursorPath, Severity: Warning, Text: "This file is not used, because there is also " + Path + "."})
	}
	return e, warnings, err
}

// readIfThere gives nil for a file that does not exist, and never nil for one
// that does.
func readIfThere(read func(string) ([]byte, error), path string) ([]byte, error) {
	data, err := read(path)
	switch {
	case errand.KindOf(err) == errand.NotFound, errors.Is(err, fs.ErrNotExist):
		return nil, nil
	case err != nil:
		return nil, fmt.Errorf("reading %s: %w", path, err)
	case data == nil:
		return []byte{}, nil
	}
	return data, nil
}
