package dockerfile

import (
	"bytes"
	"crypto/sha256"
	"encoding/hex"
	"fmt"
	"maps"
	"path"
	"slices"
	"strings"

	"github.com/moby/patternmatcher"
	"github.com/moby/patternmatcher/ignorefile"

	"github.com/errand-dev/errand"
)

// Context is what a file takes of its context. The zero Context is nothing.
type Context struct {
	// Whole is set where it may take any of it.
	Whole bool
	// Sources are the paths and patterns that it takes, relative to the
	// context; a directory stands for all below it.
	Sources []string
}

// Used says whether the file takes anything of its context.
func (c Context) Used() bool { return c.Whole || len(c.Sources) > 0 }

// maxSources is how many sources are told apart: each is held against each file
// of a context.
const maxSources = 500

// take notes sources as COPY, ADD or a bind mount name them.
func (c *Context) take(sources []string) {
	for _, source := range sources {
		if c.Whole {
			return
		}
		clean := strings.TrimPrefix(path.Clean("/"+source), "/")
		if clean == "" || strings.ContainsAny(source, "$\\") || strings.Contains(source, "**") {
			c.Whole = true
		} else if !slices.Contains(c.Sources, clean) {
			c.Sources = append(c.Sources, clean)
			c.Whole = len(c.Sources) > maxSources
		}
	}
}

// Follow notes that the file at name, relative to the context, is a symbolic
// link. The build takes what a source that is one leads to, and what lies behind
// one on a source's way, which may be any of the context.
func (c *Context) Follow(name string) {
	parts := strings.Split(name, "/")
	for _, source := range c.Sources {
		on := strings.Split(source, "/")
		if len(on) >= len(parts) && covers(strings.Join(on[:len(parts)], "/"), name) {
			c.Whole = true
			return
		}
	}
}

// Takes says whether the file takes the file at name, a slash-separated path
// relative to the context.
func (c Context) Takes(name string) bool {
	if c.Whole {
		return true
	}
	return slices.ContainsFunc(c.Sources, func(source string) bool { return covers(source, name) })
}

// covers says whether source names name or a directory above it.
func covers(source, name string) bool {
	depth := strings.Count(source, "/") + 1
	parts := strings.Split(name, "/")
	if len(parts) < depth {
		return false
	}
	ok, err := path.Match(source, strings.Join(parts[:depth], "/"))
	return ok || err != nil // a pattern that cannot be read is the build's to refuse
}

// Serves says whether all that a trigger takes of the context is taken by the
// file's own instructions. A trigger is an instruction that a base image has for
// ONBUILD; which a base has is known when it was pulled.
func (f *File) Serves(trigger string) bool {
	own, err := Parse(f.Name, []byte("FROM "+Scratch+"\n"+trigger+"\n"), nil)
	if f.Context.Whole || err != nil { // what cannot be read is the build's to refuse
		return true
	}
	return !own.Context.Whole && !slices.ContainsFunc(own.Context.Sources, func(source string) bool { return !slices.Contains(f.Context.Sources, source) })
}

// Ignore is a .dockerignore. The nil Ignore leaves nothing out.
type Ignore struct {
	matcher *patternmatcher.PatternMatcher
}

// Each pattern is held against each file of a context and the folders above it.
const (
	maxIgnoreSize     = 64 << 10 // bytes
	maxIgnorePatterns = 1_000
)

// ParseIgnore reads a .dockerignore that people know as name. A pattern that
// cannot be read is an *errand.Error of kind Invalid, and too many are one of
// kind TooLarge.
func ParseIgnore(name string, text []byte) (*Ignore, error) {
	if len(text) > maxIgnoreSize {
		return nil, errand.Errorf(errand.TooLarge, "invalid_dockerfile", "%s has %d bytes; it may have %d. Name folders rather than the files in them.", name, len(text), maxIgnoreSize)
	}
	patterns, err := ignorefile.ReadAll(bytes.NewReader(text))
	if len(patterns) > maxIgnorePatterns {
		return nil, errand.Errorf(errand.TooLarge, "invalid_dockerfile", "%s has %d patterns; it may have %d. Name folders rather than the files in them.", name, len(patterns), maxIgnorePatterns)
	}
	if err == nil {
		var m *patternmatcher.PatternMatcher
		if m, err = patternmatcher.New(patterns); err == nil {
			return &Ignore{m}, nil
		}
	}
	return nil, errand.Errorf(errand.Invalid, "invalid_dockerfile", "%s cannot be read: %w. Write one pattern a line, as in .gitignore.", name, err)
}

// Excludes says whether the file at name, relative to the context, is left out.
func (i *Ignore) Excludes(name string) bool {
	if i == nil {
		return false
	}
	excluded, err := i.matcher.MatchesOrParentMatches(name)
	return err == nil && excluded
}

// keyVersion changes when images are built otherwise from the same input.
const keyVersion = "d1"

// KeyInput is all that decides what a Dockerfile makes. Secrets are not in it:
// what a build does with them is not kept.
type KeyInput struct {
	File   []byte
	Args   map[string]string
	Target string
	// Content has the content id of each file that is taken of the context, by
	// path relative to it.
	Content map[string]string
}

// Key gives the name of the outcome: lower-case hex and a dash. The images that
// the file names count by name: to build on a newer one of the same name,
// change the name, or remove the image.
func Key(in KeyInput) string {
	hash := sha256.New()
	fmt.Fprintf(hash, "%d\n%s\n%q\n", len(in.File), in.File, in.Target)
	for _, part := range []map[string]string{in.Args, in.Content} {
		fmt.Fprintf(hash, "%d\n", len(part))
		for _, name := range slices.Sorted(maps.Keys(part)) {
			fmt.Fprintf(hash, "%q %q\n", name, part[name])
		}
	}
	return keyVersion + "-" + hex.EncodeToString(hash.Sum(nil))
}
