package build

import (
	"context"

	"github.com/errand-dev/errand"
	"github.com/errand-dev/errand/environment"
	"github.com/errand-dev/errand/environment/file"
	"github.com/errand-dev/errand/journal"
	"github.com/errand-dev/errand/vault"
)

// Keyed gives what stands for secrets in the key of an install: which value each
// has, without telling it. Those of one person are told from the others, so that
// what was installed with them does not come to be everybody's.
func Keyed(o vault.Opened) []environment.KeyPart {
	personal := map[string]bool{}
	for _, use := range o.Uses {
		personal[use.Name] = personal[use.Name] || use.Scope == errand.ScopeUser
	}
	var parts []environment.KeyPart
	for name, version := range o.Versions {
		label := "secret " + name
		if personal[name] {
			label = environment.PersonalPart + name
		}
		parts = append(parts, environment.KeyPart{Name: label, Value: version})
	}
	return parts
}

// unlock opens the secrets that hold for a build and puts their use on record.
// Those of a person reach the builds of that person's own environments only.
func (b *Builds) unlock(ctx context.Context, build errand.Build, e errand.Environment, asks *file.Environment) (vault.Opened, error) {
	if b.Vault == nil {
		return vault.Opened{}, nil
	}
	f := vault.For{BuildID: build.ID, Environment: e.ID, Build: asks.Build != nil}
	if e.Owner == errand.OwnerPersonal {
		f.Caller = errand.CallerOf(e.Person)
	}
	for _, r := range e.Repositories {
		f.Repositories = append(f.Repositories, r.URL)
	}
	var opened vault.Opened
	err := vault.Unchanged(func() (err error) {
		if opened, err = b.Vault.Open(ctx, f); err != nil || len(opened.Uses) == 0 {
			return err
		}
		return b.recordUses(ctx, build.ID, opened.Uses)
	})
	return opened, err
}

// recordUses puts on record what a build is about to be given.
func (b *Builds) recordUses(ctx context.Context, build errand.BuildID, uses []errand.SecretUse) error {
	for i := range uses {
		uses[i].Build = build
	}
	_, err := b.Journal.Decide(ctx, func(t *journal.Tx) error {
		fresh, err := t.PutSecretUses(uses)
		if err != nil || len(fresh) == 0 {
			return err
		}
		return t.Tell(build, "", errand.Fact{Kind: errand.EventSecretsUsed, Data: errand.SecretsUsed{Secrets: fresh}})
	})
	return err
}
