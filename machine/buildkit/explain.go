//go:build linux

package buildkit

import (
	"context"
	"errors"
	"fmt"
	"regexp"
	"strings"

	pb "github.com/moby/buildkit/frontend/gateway/pb"
	"github.com/moby/buildkit/solver/errdefs"
	"github.com/opencontainers/go-digest"

	"github.com/errand-dev/errand"
)

// explain makes what the daemon says of a failed build into an error that
// points to the Dockerfile's line.
func (o *build) explain(ctx context.Context, err error, steps *steps) error {
	if ctx.Err() != nil {
		return ctx.Err()
	}
	if !o.builder.daemon.alive() {
		return errand.Errorf(errand.Unavailable, "builder_lost", "The image builder ended in the middle of the build: %w%s. Try again; what it has done is kept.", err, o.builder.daemon.said.String())
	}
	line := 0
	for _, source := range errdefs.Sources(err) {
		for _, r := range source.Ranges {
			line = int(r.Start.Line)
		}
	}
	var exit *pb.ExitError
	if errors.As(err, &exit) && exit.ExitCode != pb.UnknownExitStatus {
		return o.commandError(err, line, int(exit.ExitCode), steps)
	}
	return errand.Errorf(errand.Invalid, "dockerfile_failed", "%s: %s%s", o.file.At(line), reason(err), o.quote(line))
}

// commandError tells of a RUN that failed.
func (o *build) commandError(err error, line, code int, steps *steps) error {
	known := errand.Errorf(errand.Invalid, "dockerfile_failed", "%s: the command ended with exit code %d.%s\nIts output is below. Correct the Dockerfile or what it runs, and try again.",
		o.file.At(line), code, o.quote(line))
	known.ExitCode = &code
	var vertex *errdefs.VertexError
	if errors.As(err, &vertex) {
		if s := steps.all[digest.Digest(vertex.Digest)]; s != nil {
			known.Output = strings.ToValidUTF8(string(s.tail), "")
		}
	}
	return known
}

func (o *build) quote(line int) string {
	if text := o.file.Text(line); text != "" {
		return fmt.Sprintf("\n%4d | %s", line, text)
	}
	return ""
}

var noise = regexp.MustCompile(`^(failed to solve|failed to load cache key|failed to read dockerfile|dockerfile parse error on line \d+|rpc error: code = \w+ desc =): `)

// reason gives what the daemon says without the layers that it came through.
func reason(err error) string {
	said := err.Error()
	for {
		rest := noise.ReplaceAllString(said, "")
		if rest == said {
			return said
		}
		said = rest
	}
}
