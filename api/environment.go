package api

import (
	"time"

	"github.com/errand-dev/errand"
	"github.com/errand-dev/errand/environment/file"
)

// CreateEnvironment asks for a stored environment.
type CreateEnvironment struct {
	Owner           errand.Owner `json:"owner,omitempty" enum:"personal,team" doc:"For whom it is; team when left out."`
	Name            string       `json:"name" minLength:"1" maxLength:"255" doc:"Unique for its owner."`
	Repos           []RepoURL    `json:"repos,omitempty" maxItems:"100" doc:"The repositories it is for; builds check out the first."`
	EnvironmentJSON string       `json:"environmentJson,omitempty" doc:"The text of an environment file. Left out it asks for nothing."`
	Title           string       `json:"title,omitempty" maxLength:"255" doc:"Of the version, in the history."`
	Description     string       `json:"description,omitempty" maxLength:"4096"`
}

// RepoURL names a repository.
type RepoURL struct {
	URL string `json:"url" minLength:"1" doc:"Repository URL, or an absolute path on the server's machine."`
}

// EditEnvironment changes an environment; what is left out stays. Repos, Title
// and Description are Errand's own.
type EditEnvironment struct {
	Name            *string   `json:"name,omitempty" maxLength:"255"`
	EnvironmentJSON *string   `json:"environmentJson,omitempty" doc:"The text of an environment file. A new text is a new version."`
	Repos           []RepoURL `json:"repos,omitempty" maxItems:"100"`
	Title           string    `json:"title,omitempty" maxLength:"255" doc:"Of the version, in the history."`
	Description     string    `json:"description,omitempty" maxLength:"4096"`
}

// EnvironmentSummary is an environment in lists. ActiveBuildID and UsedAt are
// Errand's own.
type EnvironmentSummary struct {
	ID            string       `json:"id" doc:"Unique environment identifier." example:"env-00000000-0000-0000-0000-000000000001"`
	Name          string       `json:"name"`
	Owner         errand.Owner `json:"owner" enum:"personal,team"`
	Repos         []RepoURL    `json:"repos"`
	CreatedAt     time.Time    `json:"createdAt"`
	UpdatedAt     time.Time    `json:"updatedAt"`
	ActiveBuildID string       `json:"activeBuildId,omitempty" doc:"The build that agents start on."`
	UsedAt        time.Time    `json:"usedAt" doc:"By an agent, a change or a build by hand."`
}

// Environment is an environment in full.
type Environment struct {
	EnvironmentSummary
	RepoFile        *RepoFile `json:"repoFile,omitempty" doc:"Where it stands, if it is a file in a repository."`
	EnvironmentJSON string    `json:"environmentJson,omitempty"`
	VersionID       string    `json:"versionId,omitempty"`
}

// RepoFile is an environment file in a repository.
type RepoFile struct {
	URL  string `json:"url"`
	Path string `json:"path"`
}

// Environments is one page of environments, newest first.
type Environments struct {
	Items      []EnvironmentSummary `json:"items"`
	NextCursor string               `json:"nextCursor,omitempty" doc:"Left out on the last page."`
}

// EnvironmentVersion is one entry of an environment's history.
type EnvironmentVersion struct {
	ID              string               `json:"id"`
	CreatedAt       time.Time            `json:"createdAt"`
	Kind            errand.VersionKind   `json:"kind" enum:"created,updated,deleted,backfilled,changed,proposed"`
	Title           string               `json:"title"`
	Description     string               `json:"description"`
	Source          errand.VersionSource `json:"source" enum:"dashboard,setup_flow,restore,api,agent_run,repo_file,request_override"`
	Current         bool                 `json:"current"`
	EnvironmentJSON string               `json:"environmentJson,omitempty"`
	By              string               `json:"by,omitempty" doc:"Who did it."`
}

// EnvironmentHistory is one page of an environment's versions, newest first.
type EnvironmentHistory struct {
	Items      []EnvironmentVersion `json:"items"`
	NextCursor string               `json:"nextCursor,omitempty"`
}

// EnvironmentDiff is what one version changed against another.
type EnvironmentDiff struct {
	Version string `json:"version"`
	Against string `json:"against,omitempty" doc:"Left out where it is the version before."`
	Patch   string `json:"patch" doc:"A unified diff; empty where both are the same."`
}

// FromEnvironmentSummary gives an environment's wire form in lists.
func FromEnvironmentSummary(e errand.Environment) EnvironmentSummary {
	wire := EnvironmentSummary{
		ID: string(e.ID), Name: e.Name, Owner: e.Owner, Repos: []RepoURL{}, CreatedAt: e.CreatedAt, UpdatedAt: e.UpdatedAt,
		ActiveBuildID: string(e.Active), UsedAt: e.UsedAt,
	}
	for _, r := range e.Repositories {
		wire.Repos = append(wire.Repos, RepoURL{r.URL})
	}
	return wire
}

// FromEnvironment gives an environment's wire form.
func FromEnvironment(e errand.Environment) Environment {
	wire := Environment{EnvironmentSummary: FromEnvironmentSummary(e), EnvironmentJSON: e.JSON, VersionID: string(e.Version)}
	if f := e.RepositoryFile; f != nil {
		wire.RepoFile = &RepoFile{f.URL, f.Path}
	}
	return wire
}

// FromVersion gives a version's wire form. current is the environment's.
func FromVersion(v errand.EnvironmentVersion, current errand.VersionID) EnvironmentVersion {
	return EnvironmentVersion{
		ID: string(v.ID), CreatedAt: v.CreatedAt, Kind: v.Kind, Title: v.Title, Description: v.Description, Source: v.Source,
		Current: v.ID == current, EnvironmentJSON: v.JSON, By: by(v.Caller),
	}
}

// CheckEnvironment asks what is odd about the text of an environment file.
type CheckEnvironment struct {
	EnvironmentJSON string `json:"environmentJson" maxLength:"262144" doc:"The text of an environment file."`
	Path            string `json:"path,omitempty" maxLength:"1024" doc:"Where the file stands in its repository; a stored environment's when left out."`
}

// EnvironmentCheck is what was found in the text of an environment file.
type EnvironmentCheck struct {
	Failed    bool                 `json:"failed" doc:"There is an error among the findings: the text would be refused."`
	Corrected string               `json:"corrected" doc:"The text with all corrections made, and those that come to light then. It means the same."`
	Findings  []EnvironmentFinding `json:"findings" doc:"By line and column."`
}

// EnvironmentFinding is one thing that is odd about an environment file.
type EnvironmentFinding struct {
	file.Finding
	Corrected string `json:"corrected,omitempty" doc:"The lines as they should be."`
}

// FromReport gives a check's wire form.
func FromReport(r file.Report) EnvironmentCheck {
	wire := EnvironmentCheck{Failed: r.Failed(), Corrected: string(r.Corrected()), Findings: []EnvironmentFinding{}}
	for _, f := range r.Findings {
		wire.Findings = append(wire.Findings, EnvironmentFinding{f, r.Shown(f)})
	}
	return wire
}

// Repositories gives the repositories as words of Errand; nil for none.
func Repositories(repos []RepoURL) []errand.Repository {
	var all []errand.Repository
	for _, r := range repos {
		all = append(all, errand.Repository{URL: r.URL})
	}
	return all
}
