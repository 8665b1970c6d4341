// Package inside is what errand-buildkit does: BuildKit's client and linter, over
// their own libraries, for one task. It decides nothing: what is asked and what is
// made of the answer is package buildkit's.
package inside

import (
	"context"
	"errors"
	"net"

	"github.com/moby/buildkit/client"
	gateway "github.com/moby/buildkit/frontend/gateway/pb"
	"github.com/moby/buildkit/solver/errdefs"

	"github.com/errand-dev/errand/dockerfile"
	"github.com/errand-dev/errand/machine/buildkit/solver"
)

// Do does a task, for solver.Serve.
func Do(ctx context.Context, t solver.Task, tell func(status any) error) (digest string, odd []dockerfile.Finding, failure *solver.Failure) {
	var err error
	switch {
	case t.Solve != nil:
		digest, err = solve(ctx, t.Solve, tell)
	case t.Shrink != nil:
		err = shrink(ctx, t.Shrink)
	case t.Lint != nil:
		odd, err = Lint(ctx, t.Lint.Text)
	default:
		err = errors.New("the task is none that is known here; errand and errand-buildkit are of different versions: build both with make build")
	}
	if err != nil {
		failure = explain(err)
	}
	return digest, odd, failure
}

// explain takes out of an error what is said of it elsewhere.
func explain(err error) *solver.Failure {
	f := &solver.Failure{Text: err.Error(), Full: errors.Is(err, errFull)}
	for _, source := range errdefs.Sources(err) {
		for _, r := range source.Ranges {
			f.Line = int(r.Start.Line)
		}
	}
	var vertex *errdefs.VertexError
	if errors.As(err, &vertex) {
		f.Vertex = vertex.Digest
	}
	var exit *gateway.ExitError
	if errors.As(err, &exit) && exit.ExitCode != gateway.UnknownExitStatus {
		code := int(exit.ExitCode)
		f.ExitCode = &code
	}
	return f
}

// connect gives a client of the daemon at a socket. The caller closes it.
func connect(ctx context.Context, socket string) (*client.Client, error) {
	return client.New(ctx, "unix://"+socket, client.WithContextDialer(func(ctx context.Context, _ string) (net.Conn, error) {
		return (&net.Dialer{}).DialContext(ctx, "unix", socket)
	}))
}

// shrink has the daemon let go of steps.
func shrink(ctx context.Context, in *solver.Shrink) error {
	c, err := connect(ctx, in.Socket)
	if err != nil {
		return err
	}
	defer c.Close()
	records, err := c.DiskUsage(ctx)
	if err != nil {
		return err
	}
	keep := -in.Bytes
	for _, r := range records {
		keep += r.Size
	}
	// 1: to the daemon, 0 is no bound.
	return c.Prune(ctx, nil, client.PruneAll, client.WithKeepOpt(0, 0, max(1, keep), 0))
}
