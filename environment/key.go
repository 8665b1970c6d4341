package environment

import (
	"context"
	"crypto/sha256"
	"encoding/hex"
	"fmt"
	"maps"
	"path"
	"slices"
	"strings"

	"github.com/errand-dev/errand"
	"github.com/errand-dev/errand/machine"
)

// keyVersion changes when what goes into a key, or what Prepare leaves on the
// disk before a snapshot, changes: snapshots of before are not found again.
const keyVersion = "e1"

// KeyInput is all that decides what an install leaves on the disk.
type KeyInput struct {
	Image       string // resolved: "host" with its version, or a digest reference
	URL         string // the repository; "" for none
	Environment *Environment
	// Variables stand for the agent's own, which install sees: what it does with
	// them must not reach an agent that has others. A key is kept, so they never
	// hold a value, nor what a value could be guessed from.
	Variables []KeyPart
	// Tree has the content id of each file, by path from the root.
	Tree map[string]string
	// TreeID gives the content id of a directory, "." being the root.
	TreeID func(dir string) (string, error)
	// Read gives a file's content, so that scripts which install runs are
	// looked into. Nil: they are not.
	Read func(path string) ([]byte, error)
}

// KeyPart is one thing that a key depends on.
type KeyPart = errand.KeyPart

// ImagePart is the part of a key that names the image, as it was resolved.
const ImagePart = "image"

// VariablesPart is the part of a key that stands for the agent's own variables.
const VariablesPart = "the agent's variables"

// PersonalPart begins the name of a part that stands for a secret of one person.
const PersonalPart = "personal secret "

// Private says whether what parts decide holds something that is one agent's, or
// one person's.
func Private(parts []KeyPart) (agents, persons bool) {
	for _, p := range parts {
		agents = agents || p.Name == VariablesPart
		persons = persons || strings.HasPrefix(p.Name, PersonalPart)
	}
	return agents, persons
}

// Key gives the key of the disk that an install leaves, and what went into it:
// the image, the repository's URL, install's own text, user and variables, the
// manifests and lockfiles of the tree, and every file and directory that the
// install names, itself or in a script that it runs. "." is the whole tree
// below where the command stands at that point.
//
// The key is a guess made to be safe where it is cheap to be: an install that
// reads what it does not name is not run again when that changes. What an install
// names is looked at up to a bound, and no longer than ctx.
func Key(ctx context.Context, in KeyInput) (machine.SnapshotKey, []KeyPart, error) {
	e := in.Environment
	parts := map[string]string{
		ImagePart: in.Image,
		"url":     in.URL,
		"user":    e.User,
		"install": digest(e.Install),
	}
	for name, value := range e.Env {
		parts["variable "+name] = digest(value)
	}
	for _, v := range in.Variables {
		parts[v.Name] = v.Value
	}
	for file, id := range in.Tree {
		if isManifest(file) {
			parts[file] = id
		}
	}
	if err := newNaming(in, parts).follow(ctx, e.Install, ""); err != nil {
		return "", nil, err
	}
	hash := sha256.New()
	var sorted []KeyPart
	for _, name := range slices.Sorted(maps.Keys(parts)) {
		fmt.Fprintf(hash, "%q %q\n", name, parts[name])
		sorted = append(sorted, KeyPart{Name: name, Value: parts[name]})
	}
	return machine.SnapshotKey(keyVersion + "-" + hex.EncodeToString(hash.Sum(nil))), sorted, nil
}

func digest(text string) string {
	sum := sha256.Sum256([]byte(text))
	return hex.EncodeToString(sum[:])
}

// Explain tells in a few words why two keys differ, as in "package-lock.json
// changed". It is "" where they do not, or where nothing is known of before.
func Explain(before, now []KeyPart) string {
	if len(before) == 0 {
		return ""
	}
	old := map[string]string{}
	for _, part := range before {
		old[part.Name] = part.Value
	}
	var said []string
	for _, part := range now {
		value, known := old[part.Name]
		switch {
		case !known:
			said = append(said, part.Name+" is new")
		case value != part.Value:
			said = append(said, part.Name+" changed")
		}
		delete(old, part.Name)
	}
	for _, name := range slices.Sorted(maps.Keys(old)) {
		said = append(said, name+" is gone")
	}
	const most = 3
	if more := len(said) - most; more > 0 {
		said = append(said[:most], fmt.Sprintf("%d more", more))
	}
	return strings.Join(said, ", ")
}

// manifests are the files by which package managers know what to install, as
// patterns for a file's name.
var manifests = []string{
	"package.json", "package-lock.json", "npm-shrinkwrap.json", "yarn.lock", "pnpm-lock.yaml", "pnpm-workspace.yaml",
	".pnpmfile.cjs", "bun.lock", "bun.lockb", ".npmrc", ".yarnrc", ".yarnrc.yml", ".nvmrc", ".node-version", "lerna.json",
	"deno.json", "deno.jsonc", "deno.lock",
	"requirements*.txt", "constraints*.txt", "pyproject.toml", "poetry.lock", "uv.lock", "pdm.lock", "Pipfile", "Pipfile.lock",
	"setup.py", "setup.cfg", "environment.yml", "environment.yaml", "conda-lock.yml", ".python-version",
	"go.mod", "go.sum", "go.work", "go.work.sum",
	"Cargo.toml", "Cargo.lock", "rust-toolchain", "rust-toolchain.toml",
	"Gemfile", "Gemfile.lock", "*.gemspec", ".ruby-version",
	"composer.json", "composer.lock",
	"pom.xml", "build.gradle", "build.gradle.kts", "settings.gradle", "settings.gradle.kts", "gradle.properties",
	"gradle.lockfile", "gradle-wrapper.properties", "libs.versions.toml", "build.sbt",
	"*.csproj", "*.fsproj", "packages.lock.json", "global.json", "Directory.Packages.props", "nuget.config",
	"mix.exs", "mix.lock", "rebar.config", "rebar.lock", "pubspec.yaml", "pubspec.lock",
	"Package.swift", "Package.resolved", "Podfile", "Podfile.lock", "*.cabal", "cabal.project", "stack.yaml",
	"vcpkg.json", "conanfile.txt", "conanfile.py", "flake.nix", "flake.lock",
	".tool-versions", "mise.toml", ".mise.toml", ".sdkmanrc", "Brewfile", "Aptfile", ".gitmodules",
}

// isManifest says whether a file's name is that of a manifest or lockfile.
// Those of vendored and example code install nothing.
func isManifest(file string) bool {
	dir, name := path.Split(file)
	for part := range strings.SplitSeq(strings.Trim(dir, "/"), "/") {
		if part == "node_modules" || part == "vendor" || part == "testdata" {
			return false
		}
	}
	return slices.ContainsFunc(manifests, func(pattern string) bool {
		ok, _ := path.Match(pattern, name)
		return ok
	})
}
