package dockerfile

import (
	"context"
	"encoding/json"
	"slices"
	"strings"

	"github.com/moby/buildkit/client/llb"
	"github.com/moby/buildkit/client/llb/sourceresolver"
	"github.com/moby/buildkit/frontend/dockerfile/dockerfile2llb"
	"github.com/moby/buildkit/frontend/dockerfile/linter"
	"github.com/moby/buildkit/solver/pb"
	"github.com/opencontainers/go-digest"
)

// Finding is one thing that is odd about a Dockerfile.
type Finding struct {
	Line  int    // from 1; 0 where the file as a whole is meant
	Rule  string // the linter's name for it, such as "MaintainerDeprecated"; may be ""
	Text  string // a sentence
	URL   string // where it is explained; may be ""
	Fatal bool   // it cannot be built
}

// Lint says, by line, what BuildKit's own linter says of text, and why it cannot
// be built where Parse would refuse it. The images that the file names are not
// looked at: what depends on them is left out.
func Lint(text []byte) []Finding {
	var all findings
	if len(text) > MaxSize {
		_, err := Parse("The file", text, nil)
		return []Finding{{Text: err.Error(), Fatal: true}}
	}
	var file File
	if err := file.parse(text, nil); err != nil {
		line, said := located(err)
		all.add(Finding{Line: line, Text: said, Fatal: true})
		return all
	}
	if file.lint > maxWeight {
		all.add(Finding{Text: "The file was not looked through: " + errHeavy.Error()})
		return all
	}
	source := llb.NewSourceMap(nil, "Dockerfile", "Dockerfile", text)
	source.Definition = &llb.Definition{}
	results, err := dockerfile2llb.DockerfileLint(context.Background(), text, dockerfile2llb.ConvertOpt{SourceMap: source, MetaResolver: unseen{}})
	if err != nil {
		all.add(Finding{Text: err.Error()})
		return all
	}
	if e := results.Error; e != nil {
		all.add(Finding{Line: firstOf(&e.Location), Text: e.Message, Fatal: true})
	}
	for _, w := range results.Warnings {
		if f := (Finding{Line: firstOf(w.Location), Rule: w.RuleName, Text: w.Detail, URL: w.URL}); !guessed(f) {
			all.add(f)
		}
	}
	slices.SortStableFunc(all, func(a, b Finding) int { return a.Line - b.Line })
	return all
}

// firstOf gives the line that a place begins on; 0 is none.
func firstOf(place *pb.Location) int {
	if ranges := place.GetRanges(); len(ranges) > 0 {
		return int(ranges[0].Start.Line)
	}
	return 0
}

// guessed says whether a finding is about a variable that an image may define.
// Where the linter knows one with nearly that name, it is taken for a slip.
func guessed(f Finding) bool {
	return f.Rule == linter.RuleUndefinedVar.Name && !strings.Contains(f.Text, "did you mean")
}

// findings are each there once.
type findings []Finding

func (all *findings) add(f Finding) {
	if f.Text = strings.TrimSpace(f.Text); f.Text != "" && !strings.HasSuffix(f.Text, ".") {
		f.Text += "."
	}
	if !slices.Contains(*all, f) {
		*all = append(*all, f)
	}
}

// unseen answers for images that nobody has looked at: for the platform that is
// asked for, with nothing in them.
type unseen struct{}

func (unseen) ResolveImageConfig(_ context.Context, ref string, o sourceresolver.Opt) (string, digest.Digest, []byte, error) {
	config, err := json.Marshal(o.ImageOpt.Platform)
	return ref, "", config, err
}
