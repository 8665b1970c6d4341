package build

import (
	"context"
	"fmt"
	"path"
	"strings"

	"github.com/errand-dev/errand"
	"github.com/errand-dev/errand/environment"
	"github.com/errand-dev/errand/environment/file"
	"github.com/errand-dev/errand/git"
	"github.com/errand-dev/errand/journal"
	"github.com/errand-dev/errand/machine"
)

// Resolved is the environment that holds for an agent.
type Resolved struct {
	// Environment is the stored one; its ID is "" where there is none yet, and it
	// is not registered in the store where only RepositoryFile is set.
	Environment errand.Environment
	Version     errand.VersionID
	File        file.Environment // what it asks for
	Findings    []file.Finding   // what was odd about it
	Why         string           // how it was found, for people
	text        string           // of the repository's file
}

// Resolve finds the environment that holds for an agent: the one that was asked
// for, else the file in the repository at the agent's base, else what its
// caller has stored for the repository, else what the team has. What was
// settled once (Settle) holds for the agent's life. mirror may be nil. It
// writes nothing and needs no network.
func (b *Builds) Resolve(ctx context.Context, agent errand.Agent, mirror *git.Mirror) (Resolved, error) {
	var r Resolved
	var err error
	id, version := agent.Environment, agent.Version
	switch {
	case agent.Settings.EnvironmentJSON != "":
		r.Why = "the request has one of its own"
		return b.read(r, agent.Settings.EnvironmentJSON)
	case version == errand.NoVersion:
		return r, nil
	case version == "" && agent.Settings.Build != "":
		build, err := b.Store.Build(ctx, agent.Settings.Build)
		if err != nil {
			return r, err
		}
		id, version, r.Why = build.Environment, build.Version, "the build was asked for"
	case version == "" && agent.Settings.Environment != "":
		id, r.Why = agent.Settings.Environment, "it was asked for"
	}
	if id != "" {
		if r.Environment, err = b.Store.Environment(ctx, id); err != nil {
			return r, err
		}
	}
	if mirror != nil && (id == "" || r.Environment.RepositoryFile != nil) {
		found, err := b.inRepository(ctx, &r, agent, mirror)
		if err != nil || found {
			return r, err
		}
	}
	if id == "" && mirror != nil {
		found := false
		if r.Environment, found, err = b.Store.EnvironmentFor(ctx, agent.Caller.Person(), mirror.URL()); err != nil || !found {
			return r, err
		}
		r.Why = "stored for the repository by " + string(r.Environment.Owner)
	}
	return b.fromStore(ctx, r, version)
}

// inRepository reads the file of the agent's repository.
func (b *Builds) inRepository(ctx context.Context, r *Resolved, agent errand.Agent, mirror *git.Mirror) (bool, error) {
	found, findings, text, err := FileOf(ctx, mirror, agent.Base)
	if err != nil || found.File == "" {
		return false, err
	}
	r.File, r.Findings, r.text, r.Version = *found, findings, text, agent.Version
	if r.Environment.ID != "" {
		return true, nil
	}
	r.Why = "the repository has " + found.File
	where := errand.RepositoryFile{URL: mirror.URL(), Path: found.File}
	e, known, err := b.Store.EnvironmentOfFile(ctx, where)
	if !known {
		e = errand.Environment{RepositoryFile: &where}
	}
	r.Environment = e
	return true, err
}

// fromStore reads what the environment is at a version; "" is the current one.
func (b *Builds) fromStore(ctx context.Context, r Resolved, version errand.VersionID) (Resolved, error) {
	if r.Environment.ID == "" {
		return r, nil
	}
	text := r.Environment.JSON
	if r.Version = r.Environment.Version; version != "" && version != r.Version {
		v, err := b.Store.Version(ctx, r.Environment.ID, version)
		if err != nil {
			return r, err
		}
		r.Version, text = version, v.JSON
	}
	return b.read(r, text)
}

// read takes what the text of an environment asks for.
func (b *Builds) read(r Resolved, text string) (Resolved, error) {
	found, findings, err := parse(text)
	if err != nil {
		return r, err
	}
	r.File, r.Findings = *found, findings
	return r, nil
}

// Settle writes down, once in an agent's life, which environment holds for it,
// and gives both as they are then. An environment that stands in the repository
// is registered when it is used first, and follows its file on the default
// branch, which onDefault says the agent's base is on.
func (b *Builds) Settle(ctx context.Context, agent errand.Agent, run errand.RunID, r Resolved, onDefault func() (bool, error)) (errand.Agent, Resolved, error) {
	if agent.Version != "" {
		return agent, r, nil
	}
	follows := false
	if r.Environment.ID != "" && r.text != "" && r.text != r.Environment.JSON {
		var err error
		if follows, err = onDefault(); err != nil {
			return agent, r, err
		}
	}
	_, err := b.Journal.Decide(ctx, func(t *journal.Tx) error {
		now, err := t.Agent(ctx, agent.ID)
		if err != nil {
			return err
		}
		if r, err = settled(t, r, follows); err != nil {
			return err
		}
		now.Environment, now.Version = r.Environment.ID, r.Version
		agent = now
		if err := t.UpdateAgent(now); err != nil || r.Environment.ID == "" {
			return err
		}
		return t.Tell(agent.ID, run, errand.Fact{Kind: errand.EventEnvironment, Data: used(agent, r, "")})
	})
	return agent, r, err
}

// settled brings the environment's own rows to where the agent finds them.
func settled(t *journal.Tx, r Resolved, follows bool) (Resolved, error) {
	e := &r.Environment
	switch {
	case e.ID == "" && e.RepositoryFile == nil:
		r.Version = errand.NoVersion
		return r, nil
	case e.ID == "":
		// Another agent may have been first.
		known, found, err := t.EnvironmentOfFile(t.Context(), *e.RepositoryFile)
		if err != nil {
			return r, err
		}
		if found {
			r.Environment, r.Version = known, known.Version
			return r, nil
		}
		return register(t, r)
	}
	now, err := t.Environment(t.Context(), e.ID) // it may have changed since it was resolved
	if err != nil {
		return r, err
	}
	if *e = now; e.RepositoryFile != nil {
		r.Version = e.Version
	}
	if follows {
		if r.Version, err = follow(t, e, e.RepositoryFile.Path, r.text); err != nil {
			return r, err
		}
	}
	e.UsedAt = t.Now()
	return r, t.UpdateEnvironment(*e)
}

// register keeps an environment that stands in a repository.
func register(t *journal.Tx, r Resolved) (Resolved, error) {
	where := *r.Environment.RepositoryFile
	e := errand.Environment{
		ID: errand.NewEnvironmentID(), Owner: errand.OwnerTeam, Repositories: []errand.Repository{{URL: where.URL}}, JSON: r.text,
		RepositoryFile: &where, CreatedAt: t.Now(), UpdatedAt: t.Now(), UsedAt: t.Now(),
	}
	v := version(t, e.ID, errand.VersionBackfilled, Change{Source: errand.SourceRepositoryFile}, "Found in the repository", errand.Caller{}, r.text)
	v.Description = "As an agent found " + where.Path + "."
	e.Version = v.ID
	// Two repositories may have the same last name, and a person may have given
	// it to another environment.
	base := strings.TrimSuffix(path.Base(where.URL), ".git")
	for n := 1; ; n++ {
		e.Name = base
		if n > 1 {
			e.Name = fmt.Sprintf("%s (%d)", base, n)
		}
		_, err := t.EnvironmentNamed(t.Context(), "", e.Name)
		if errand.KindOf(err) == errand.NotFound {
			break
		}
		if err != nil {
			return r, err
		}
	}
	r.Environment, r.Version = e, v.ID
	if err := t.InsertEnvironment(e); err != nil {
		return r, err
	}
	return r, t.InsertVersion(v)
}

func used(agent errand.Agent, r Resolved, build errand.BuildID) errand.EnvironmentUsed {
	u := errand.EnvironmentUsed{Environment: r.Environment.ID, Version: r.Version, Name: r.Environment.Name, Why: r.Why, Build: build}
	for _, repo := range agent.Repositories {
		u.Commits = append(u.Commits, errand.BuildCommit{URL: repo.URL, Branch: repo.Ref, Commit: agent.Base})
	}
	return u
}

// Disk finds the disk for an agent's machine, and the build that made it ("" is
// none that is known). A build that was asked for is taken as it is. A disk of
// the very key is taken as it is too. Otherwise, on the default branch, and
// with variables of the agent's own, install runs again on top of the active
// build's disk; on another branch that disk serves, and the agent is told how
// to install. Where the image cannot be had (w.Failed) the active build serves,
// unless somebody asked for that very image.
func (b *Builds) Disk(ctx context.Context, agent errand.Agent, r Resolved, w environment.Wanted, onDefault func() (bool, error)) (environment.Disk, errand.BuildID, error) {
	if agent.Settings.Build != "" {
		return b.asked(ctx, agent.Settings.Build, r, w)
	}
	if r.Environment.ID == "" {
		has, err := b.has(ctx, w.Key)
		return exact(w.Key, has, ""), "", err
	}
	if w.Failed != nil && agent.Settings.Image != "" {
		return environment.Disk{}, "", nil // no other serves for an image that was asked for
	}
	active, err := b.activeOf(ctx, r.Environment.ID)
	if err != nil {
		return environment.Disk{}, "", err
	}
	if w.Failed == nil {
		disk, id, err := b.ofKey(ctx, r.Environment.ID, active, w.Key)
		if err != nil || disk.Installed || w.Key == "" {
			return disk, id, err
		}
	}
	usable, err := b.has(ctx, machine.SnapshotKey(active.Snapshot))
	if err != nil {
		return environment.Disk{}, "", err
	}
	from := machine.SnapshotKey(active.Snapshot)
	switch {
	case active.ID == "":
		return environment.Disk{Note: changed(active, w.Parts)}, "", nil
	case active.Snapshot == "" && w.Failed != nil:
		return imageOf(active, w.Failed), active.ID, nil
	case active.Snapshot == "":
		return environment.Disk{Note: since(active, w.Parts)}, "", nil
	case !usable:
		return environment.Disk{Note: "the disk of " + string(active.ID) + " is gone"}, "", nil
	case w.Failed != nil:
		note := "The machine stands on the disk of " + string(active.ID) + " instead."
		return environment.Disk{From: from, Installed: true, Note: note, Notes: []string{w.Failed.Error() + " " + note}}, active.ID, nil
	case !sameImage(active.Parts, w.Parts):
		return environment.Disk{Note: since(active, w.Parts)}, "", nil
	case private(r.Environment, errand.Build{Parts: w.Parts}):
		return environment.Disk{From: from, Note: since(active, w.Parts)}, "", nil
	}
	here, err := onDefault()
	if err != nil || here {
		return environment.Disk{From: from, Note: since(active, w.Parts)}, "", err
	}
	why := since(active, w.Parts)
	return environment.Disk{From: from, Installed: true, Note: why, Notes: []string{fmt.Sprintf(
		"The machine's disk is that of build %s, made on the default branch: %s. If the work needs it, install again in %s: %s", active.ID, why, environment.Root, r.File.Install)},
	}, active.ID, nil
}

// imageOf gives what a build serves with that had nothing to install: its image,
// in place of one that could not be had.
func imageOf(active errand.Build, failed error) environment.Disk {
	note := "The machine stands on the image of " + string(active.ID) + " instead."
	return environment.Disk{Image: partOf(active.Parts, environment.ImagePart), Installed: true, Note: note, Notes: []string{failed.Error() + " " + note}}
}

// asked gives the disk of a build that somebody wants to start on, as it is.
func (b *Builds) asked(ctx context.Context, id errand.BuildID, r Resolved, w environment.Wanted) (environment.Disk, errand.BuildID, error) {
	build, err := b.Store.Build(ctx, id)
	if err != nil || build.Snapshot == "" && build.Status == errand.BuildSucceeded {
		return environment.Disk{}, id, err // there was nothing to install
	}
	from := machine.SnapshotKey(build.Snapshot)
	has, err := b.has(ctx, from)
	if err != nil {
		return environment.Disk{}, "", err
	}
	if !has {
		return environment.Disk{}, "", errand.Errorf(errand.Gone, "snapshot_missing", "The disk of build %s is not kept any more. Start a new one: errand build start %s", id, build.Environment)
	}
	disk := environment.Disk{From: from, Installed: true, Note: "the disk of " + string(id) + ", which was asked for"}
	switch {
	case build.Status == errand.BuildFailed:
		disk.Notes = []string{fmt.Sprintf("The machine's disk is that of build %s, which failed: %s The install command is: %s", id, build.Failure.Error.Message, r.File.Install)}
	case w.Failed == nil && build.Key != string(w.Key):
		disk.Notes = []string{fmt.Sprintf("The machine's disk is that of build %s: %s. If the work needs it, install again in %s: %s", id, since(build, w.Parts), environment.Root, r.File.Install)}
	}
	return disk, id, nil
}

// ofKey finds a disk of exactly the key: the active build's first.
func (b *Builds) ofKey(ctx context.Context, id errand.EnvironmentID, active errand.Build, key machine.SnapshotKey) (environment.Disk, errand.BuildID, error) {
	switch {
	case key == "" && active.Key == "":
		return environment.Disk{}, active.ID, nil // neither has anything to install
	case key == "":
		return environment.Disk{}, "", nil
	case active.Key == string(key):
		has, err := b.has(ctx, machine.SnapshotKey(active.Snapshot))
		if err != nil || has {
			return exact(machine.SnapshotKey(active.Snapshot), has, active.ID), active.ID, err
		}
	}
	build, kept, err := b.kept(ctx, id, key)
	if err != nil || kept {
		return exact(machine.SnapshotKey(build.Snapshot), kept, build.ID), build.ID, err
	}
	has, err := b.has(ctx, key)
	return exact(key, has, ""), "", err
}

// exact gives a disk that has all that is wanted, or none.
func exact(from machine.SnapshotKey, has bool, build errand.BuildID) environment.Disk {
	switch {
	case !has:
		return environment.Disk{}
	case build != "":
		return environment.Disk{From: from, Installed: true, Note: string(build) + " has it"}
	}
	return environment.Disk{From: from, Installed: true, Note: "the snapshot " + environment.Short(from) + " has it"}
}

// activeOf gives an environment's active build; its ID is "" where there is none.
func (b *Builds) activeOf(ctx context.Context, id errand.EnvironmentID) (errand.Build, error) {
	e, err := b.Store.Environment(ctx, id)
	if err != nil || e.Active == "" {
		return errand.Build{}, err
	}
	return b.Store.Build(ctx, e.Active)
}

func sameImage(a, b []errand.KeyPart) bool {
	return partOf(a, environment.ImagePart) == partOf(b, environment.ImagePart)
}

func partOf(parts []errand.KeyPart, name string) string {
	for _, p := range parts {
		if p.Name == name {
			return p.Value
		}
	}
	return ""
}
