package inside

import (
	"context"
	"errors"

	"github.com/google/go-containerregistry/pkg/authn"
	"github.com/moby/buildkit/client"
	"github.com/moby/buildkit/exporter/containerimage/exptypes"
	"github.com/moby/buildkit/session"
	"github.com/moby/buildkit/session/secrets/secretsprovider"
	"github.com/tonistiigi/fsutil"

	"github.com/errand-dev/errand/machine/buildkit/solver"
)

// solve has the daemon build, tells of the steps, and gives the digest of the
// manifest that was handed over.
func solve(ctx context.Context, in *solver.Solve, tell func(status any) error) (string, error) {
	c, err := connect(ctx, in.Socket)
	if err != nil {
		return "", err
	}
	defer c.Close()
	to, err := newOutlet(in)
	if err != nil {
		return "", err
	}
	opts, err := options(in, to)
	if err != nil {
		return "", err
	}
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	status := make(chan *client.SolveStatus)
	told := make(chan error, 1)
	go func() {
		var failed error
		for s := range status { // to its end: the client waits for whoever takes it
			if failed == nil && len(s.Vertexes)+len(s.Logs) > 0 {
				failed = tell(&client.SolveStatus{Vertexes: s.Vertexes, Logs: s.Logs})
			}
			if failed != nil {
				cancel() // nobody listens
			}
		}
		told <- failed
	}()
	done, err := c.Solve(ctx, nil, opts, status)
	if untold := <-told; untold != nil {
		err = errors.Join(untold, err)
	}
	if full := to.space.refused(); full != nil {
		return "", full
	}
	if err != nil {
		return "", err
	}
	return done.ExporterResponse[exptypes.ExporterImageDigestKey], nil
}

func options(in *solver.Solve, to outlet) (client.SolveOpt, error) {
	mounts := map[string]fsutil.FS{}
	for name, dir := range in.Mounts {
		fs, err := fsutil.NewFS(dir)
		if err != nil {
			return client.SolveOpt{}, err
		}
		mounts[name] = fs
	}
	return client.SolveOpt{
		Frontend: "dockerfile.v0", FrontendAttrs: in.Attrs, LocalMounts: mounts,
		Session: []session.Attachable{credentials{keychain: authn.DefaultKeychain}, secretsprovider.FromMap(in.Secrets)},
		Exports: []client.ExportEntry{{
			Type: client.ExporterOCI, OutputStore: to,
			Attrs: map[string]string{"tar": "false", "compression": "uncompressed"},
		}},
	}, nil
}
