package inside

import (
	"context"
	"encoding/json"
	"strings"

	"github.com/moby/buildkit/client/llb"
	"github.com/moby/buildkit/client/llb/sourceresolver"
	"github.com/moby/buildkit/frontend/dockerfile/dockerfile2llb"
	"github.com/moby/buildkit/frontend/dockerfile/linter"
	"github.com/moby/buildkit/solver/pb"
	"github.com/opencontainers/go-digest"

	"github.com/errand-dev/errand/dockerfile"
)

// Lint says, by line, what BuildKit's own linter says of text. The images that the
// file names are not looked at: what depends on them is left out.
func Lint(ctx context.Context, text []byte) ([]dockerfile.Finding, error) {
	source := llb.NewSourceMap(nil, "Dockerfile", "Dockerfile", text)
	source.Definition = &llb.Definition{}
	results, err := dockerfile2llb.DockerfileLint(ctx, text, dockerfile2llb.ConvertOpt{SourceMap: source, MetaResolver: unseen{}})
	if err != nil {
		return nil, err
	}
	var all []dockerfile.Finding
	if e := results.Error; e != nil {
		all = append(all, dockerfile.Finding{Line: firstOf(&e.Location), Text: e.Message, Fatal: true})
	}
	for _, w := range results.Warnings {
		if f := (dockerfile.Finding{Line: firstOf(w.Location), Rule: w.RuleName, Text: w.Detail, URL: w.URL}); !guessed(f) {
			all = append(all, f)
		}
	}
	return all, nil
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
func guessed(f dockerfile.Finding) bool {
	return f.Rule == linter.RuleUndefinedVar.Name && !strings.Contains(f.Text, "did you mean")
}

// unseen answers for images that nobody has looked at: for the platform that is
// asked for, with nothing in them.
type unseen struct{}

func (unseen) ResolveImageConfig(_ context.Context, ref string, o sourceresolver.Opt) (string, digest.Digest, []byte, error) {
	config, err := json.Marshal(o.ImageOpt.Platform)
	return ref, "", config, err
}
