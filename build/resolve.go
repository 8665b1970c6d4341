package build

import (
	"context"

	"github.com/errand-dev/errand"
	"github.com/errand-dev/errand/egress"
	"github.com/errand-dev/errand/environment"
	"github.com/errand-dev/errand/environment/file"
	"github.com/errand-dev/errand/git"
	"github.com/errand-dev/errand/journal"
	"github.com/errand-dev/errand/machine"
)

// FileOf reads the environment file that a repository has at a commit, and gives
// its text beside what was understood of it; without one, the zero Environment.
func FileOf(ctx context.Context, mirror *git.Mirror, commit string) (*file.Environment, []file.Finding, string, error) {
	texts := map[string]string{}
	found, findings, err := file.Find(func(path string) ([]byte, error) {
		data, err := mirror.ReadFile(ctx, commit, path)
		texts[path] = string(data)
		return data, err
	})
	if err == nil {
		err = (egress.Policy{Mode: egress.Listed, Allow: found.EgressAllowlist}).Check()
	}
	if err != nil {
		return nil, nil, "", err
	}
	return found, findings, texts[found.File], nil
}

// followFile makes an environment that stands in a repository what its file is
// on the default branch now, and gives its version.
func (b *Builds) followFile(ctx context.Context, id errand.EnvironmentID, path, text string) (errand.VersionID, error) {
	var version errand.VersionID
	_, err := b.Journal.Decide(ctx, func(t *journal.Tx) error {
		e, err := t.Environment(ctx, id)
		if err != nil {
			return err
		}
		version, err = follow(t, &e, path, text)
		return err
	})
	return version, err
}

// follow is followFile inside a transaction. The version is written only where
// the text has changed.
func follow(t *journal.Tx, e *errand.Environment, path, text string) (errand.VersionID, error) {
	if e.JSON == text {
		return e.Version, nil
	}
	v := version(t, e.ID, errand.VersionChanged, Change{Source: errand.SourceRepositoryFile, Description: "As " + path + " is on the default branch."},
		"Changed in the repository", errand.Caller{}, text)
	e.JSON, e.Version = text, v.ID
	if err := t.InsertVersion(v); err != nil {
		return "", err
	}
	return v.ID, t.UpdateEnvironment(*e)
}

// diskFor finds the disk that makes a build superfluous: its own, when it is
// entered again, or one that was made for the same key.
func (b *Builds) diskFor(build errand.Build) func(context.Context, environment.Wanted) (environment.Disk, error) {
	return func(ctx context.Context, w environment.Wanted) (environment.Disk, error) {
		if w.Key == "" {
			return environment.Disk{}, nil
		}
		if build.Force {
			own := ownDisk(build.ID)
			has, err := b.has(ctx, own)
			if err != nil || has {
				return exact(own, has, build.ID), err
			}
			return environment.Disk{Note: "asked for anew"}, nil
		}
		active, err := b.activeOf(ctx, build.Environment)
		if err != nil {
			return environment.Disk{}, err
		}
		disk, _, err := b.ofKey(ctx, build.Environment, active, w.Key)
		if err == nil && !disk.Installed {
			disk.Note = changed(active, w.Parts)
		}
		return disk, err
	}
}

// kept finds a build of an environment whose disk is of a key and still there.
func (b *Builds) kept(ctx context.Context, id errand.EnvironmentID, key machine.SnapshotKey) (errand.Build, bool, error) {
	all, err := b.Store.BuildsOfKey(ctx, id, string(key))
	if err != nil {
		return errand.Build{}, false, err
	}
	for _, build := range all {
		if has, err := b.has(ctx, machine.SnapshotKey(build.Snapshot)); err != nil || has {
			return build, has, err
		}
	}
	return errand.Build{}, false, nil
}

// has says whether there is a snapshot.
func (b *Builds) has(ctx context.Context, name machine.SnapshotKey) (bool, error) {
	snapshots, ok := b.Driver.(machine.Snapshots)
	if !ok || name == "" {
		return false, nil
	}
	return snapshots.HasSnapshot(ctx, name)
}

// changed says why the active build's disk does not do: "package.json changed
// since bld-…".
func changed(active errand.Build, parts []errand.KeyPart) string {
	if active.ID == "" {
		return "no build yet"
	}
	return since(active, parts)
}

// since says what has changed since a build.
func since(build errand.Build, parts []errand.KeyPart) string {
	why := environment.Explain(build.Parts, parts)
	if why == "" {
		return "the disk of " + string(build.ID) + " is gone"
	}
	return why + " since " + string(build.ID)
}
