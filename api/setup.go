package api

import (
	"time"

	"github.com/errand-dev/errand"
)

// CreateSetup asks for the setup of a repository's environment.
type CreateSetup struct {
	Repository Repo              `json:"repository"`
	Mode       errand.SetupMode  `json:"mode,omitempty" enum:"propose,person,agent" doc:"Who makes the draft work: nobody yet (propose, the default), a person in a machine, or an agent's model."`
	Model      *ModelRef         `json:"model,omitempty" doc:"In mode agent."`
	Engine     string            `json:"engine,omitempty" doc:"What isolates its machines: gvisor or runc."`
	Branch     string            `json:"branch,omitempty" doc:"For the commit; made from a name when left out."`
	Verify     string            `json:"verify,omitempty" doc:"The command that shows that the environment works; found in the repository when left out."`
	Answers    map[string]string `json:"answers,omitempty" doc:"To the survey's questions, by id."`
}

// EditSetup changes a setup's draft. What is left out stays.
type EditSetup struct {
	Draft   *string           `json:"draft,omitempty" doc:"The text of the environment file."`
	Verify  *string           `json:"verify,omitempty" doc:"The verify command; empty is none."`
	Answers map[string]string `json:"answers,omitempty" doc:"Answers to questions, by id; the draft is proposed anew with them."`
	Ports   bool              `json:"ports,omitempty" doc:"Add the ports that the latest proof found open without being named in the draft; the proof holds for the draft with them."`
}

// OpenSetup opens a machine for work on a setup's draft.
type OpenSetup struct {
	Mode  errand.SetupMode `json:"mode" enum:"person,agent"`
	Model *ModelRef        `json:"model,omitempty" doc:"In mode agent."`
}

// ProveSetup asks for a proof of the draft.
type ProveSetup struct {
	FromMachine bool `json:"fromMachine,omitempty" doc:"Take the draft from the file in the opened machine first."`
}

// AcceptSetup asks for a draft to be written.
type AcceptSetup struct {
	As       string       `json:"as" enum:"commit,patch,stored"`
	Name     string       `json:"name,omitempty" doc:"Of the stored environment; the repository's when left out."`
	Owner    errand.Owner `json:"owner,omitempty" enum:"personal,team" doc:"Of the stored environment; personal when left out."`
	Branch   string       `json:"branch,omitempty" doc:"For the commit."`
	Unproved bool         `json:"unproved,omitempty" doc:"Write the draft although it was not shown to work."`
}

// Setup is the guided way to a working environment for a repository.
type Setup struct {
	ID         string             `json:"id"`
	Status     errand.SetupStatus `json:"status" doc:"surveying, opening, working, proving and writing are under way; proposed and proved wait for people; accepted is the end."`
	Mode       errand.SetupMode   `json:"mode"`
	Repository Repo               `json:"repository"`
	Model      *ModelRef          `json:"model,omitempty"`
	Engine     string             `json:"engine,omitempty"`
	Commit     string             `json:"commit,omitempty" doc:"What was looked at and is checked out."`
	Proposal   *errand.Proposal   `json:"proposal,omitempty" doc:"What the survey came to; missing before it."`
	Draft      string             `json:"draft,omitempty" doc:"The text of the environment file as it stands."`
	Verify     string             `json:"verify,omitempty" doc:"The command that shows that the environment works."`
	MachineID  string             `json:"machineAgentId,omitempty" doc:"The agent in whose machine the draft is worked on."`
	Proof      *errand.Proof      `json:"proof,omitempty" doc:"The latest proof."`
	Acceptance *errand.Acceptance `json:"acceptance,omitempty" doc:"What is to be written or was."`
	Error      *Error             `json:"error,omitempty" doc:"Why the last thing that was tried did not succeed."`
	CreatedAt  time.Time          `json:"createdAt"`
	UpdatedAt  time.Time          `json:"updatedAt"`
}

// FromSetup gives the wire form of a setup.
func FromSetup(s errand.Setup) Setup {
	out := Setup{
		ID: string(s.ID), Status: s.Status, Mode: s.Mode, Repository: Repo{URL: s.Repository.URL, StartingRef: s.Repository.Ref},
		Engine: s.Engine, Commit: s.Commit, Proposal: s.Proposal, Draft: s.Draft, Verify: s.Verify, MachineID: string(s.Machine),
		Proof: s.Proof, Acceptance: s.Accept, CreatedAt: s.CreatedAt, UpdatedAt: s.UpdatedAt,
	}
	if s.Model.ID != "" {
		out.Model = &ModelRef{ID: s.Model.ID}
	}
	if s.Error != nil {
		e := fromError(s.Error)
		out.Error = &e
	}
	return out
}

// Setups is a page of setups.
type Setups struct {
	Items      []Setup `json:"items"`
	NextCursor string  `json:"nextCursor,omitempty"`
}
