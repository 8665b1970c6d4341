//go:build linux

package buildkit

import (
	"context"
	"errors"
	"fmt"
	"net/http"
	"regexp"
	"strconv"
	"strings"

	"github.com/google/go-containerregistry/pkg/name"

	"github.com/errand-dev/errand"
	"github.com/errand-dev/errand/machine"
	"github.com/errand-dev/errand/machine/buildkit/solver"
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
	var failure *solver.Failure
	if !errors.As(err, &failure) {
		return fmt.Errorf("building an image: %w", err)
	}
	if failure.Full {
		return o.builder.fullError()
	}
	line, output := failure.Line, steps.outputOf(failure.Vertex)
	if known := o.limitError(err, line, output); known != nil {
		known.Output = output
		return known
	}
	if failure.ExitCode != nil {
		return o.commandError(line, *failure.ExitCode, output)
	}
	if strings.Contains(err.Error(), pulling) {
		return o.pullError(err, line)
	}
	return errand.Errorf(errand.Invalid, "dockerfile_failed", "%s: %s%s", o.file.At(line), reason(err), o.quote(line))
}

// pulling is what the daemon says before why it could not get an image.
const pulling = "failed to resolve source metadata for "

// answered is how the daemon tells what a registry answered.
var answered = regexp.MustCompile(`unexpected status from \w+ request to \S+: (\d{3})`)

// pullError tells of an image that could not be pulled: which, from where, and
// what the registry answered.
func (o *build) pullError(err error, line int) error {
	said := err.Error()
	_, said, _ = strings.Cut(said, pulling)
	image, why, _ := strings.Cut(said, ": ")
	registry := image
	if ref, err := name.ParseReference(image); err == nil {
		registry = ref.Context().RegistryStr()
	}
	status := statusIn(why)
	kind, advice := errand.Unavailable, "Try again later."
	switch status {
	case 0:
		return errand.Errorf(errand.Unavailable, "image_failed", "%s: the image %s could not be pulled from %s: %s. Check the name, and that the registry can be reached.%s",
			o.file.At(line), image, registry, why, o.quote(line))
	case http.StatusNotFound:
		kind, advice = errand.NotFound, "Check the image's name and tag."
	case http.StatusUnauthorized, http.StatusForbidden:
		kind, advice = errand.Forbidden, "It does not exist or needs a login: run \"docker login "+registry+"\" as the user that runs the server, or check the name."
	}
	return errand.Errorf(kind, "image_failed", "%s: the image %s could not be pulled: its registry %s answered %d %s. %s%s",
		o.file.At(line), image, registry, status, http.StatusText(status), advice, o.quote(line))
}

// statusIn finds what a registry answered in what the daemon says; 0 is that it
// did not answer.
func statusIn(said string) int {
	switch m := answered.FindStringSubmatch(said); {
	case m != nil:
		code, _ := strconv.Atoi(m[1]) // three digits
		return code
	case strings.HasSuffix(said, ": not found"):
		return http.StatusNotFound
	case strings.Contains(said, "insufficient_scope"), strings.Contains(said, "authorization failed"), strings.Contains(said, "pull access denied"):
		return http.StatusUnauthorized
	}
	return 0
}

// commandError tells of a RUN that failed.
func (o *build) commandError(line, code int, output string) error {
	known := errand.Errorf(errand.Invalid, "dockerfile_failed", "%s: the command ended with exit code %d.%s\nIts output is below. Correct the Dockerfile or what it runs, and try again.",
		o.file.At(line), code, o.quote(line))
	known.ExitCode, known.Output = &code, output
	return known
}

// outputOf gives the end of what a step printed.
func (s *steps) outputOf(vertex string) string {
	if failed := s.all[vertex]; failed != nil {
		return strings.ToValidUTF8(string(failed.tail), "")
	}
	return ""
}

// starvedError tells of a base image that takes files for which nobody knew that
// the build has to do with them.
func (o *build) starvedError(s *machine.ImageStep) error {
	_, does, _ := strings.Cut(s.Name, "] ")
	return errand.Errorf(errand.Invalid, "dockerfile_failed", "%s: the base image adds %q, which takes files that this Dockerfile does not name, so the build does not have them. Name them in a COPY of the Dockerfile too, or build on an image without ONBUILD.%s",
		o.file.At(s.Line), does, o.quote(s.Line))
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
