package bench

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"path/filepath"
	"time"

	"github.com/errand-dev/errand"
	"github.com/errand-dev/errand/api"
)

// measureUnchanged times runs of new agents until their first command is done:
// of a repository without an environment, and of the same files with one whose
// build is kept. The two take turns, so that whatever else the host does meets
// both.
func measureUnchanged(ctx context.Context, b *bench) error {
	plain, built := filepath.Join(b.Dir, "plain.git"), filepath.Join(b.Dir, "built.git")
	for _, url := range []string{plain, built} {
		if err := makeHistory(ctx, url, 1); err != nil {
			return fmt.Errorf("making a repository: %w", err)
		}
	}
	if err := fastImport(ctx, built, writeEnvironment); err != nil {
		return fmt.Errorf("giving a repository its environment: %w", err)
	}
	for _, engine := range b.Engines {
		if err := b.unchangedOn(ctx, engine, plain, built); err != nil {
			return fmt.Errorf("on %s: %w", engine, err)
		}
	}
	return nil
}

// writeEnvironment writes a commit that adds an environment file.
func writeEnvironment(w io.Writer) error {
	const text = `{"install": "mkdir -p /opt/m && for i in $(seq 1000); do echo $i >/opt/m/$i; done"}`
	_, err := fmt.Fprintf(w, "commit refs/heads/main\ncommitter Ada Lovelace <ada@example.com> 1700000060 +0000\ndata 3\nadd\nfrom refs/heads/main^0\n"+
		"M 100644 inline .cursor/environment.json\ndata %d\n%s\n", len(text), text)
	return err
}

func (b *bench) unchangedOn(ctx context.Context, engine, plain, built string) (err error) {
	s, err := b.serve("unchanged-" + engine)
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, s.close(ctx)) }()
	s.engine = engine
	if err := s.start(ctx, ServerOptions{Runs: 1, Idle: time.Hour}); err != nil {
		return err
	}
	// The first of each is not counted: it makes the mirror, and the build.
	for _, url := range []string{plain, built} {
		if _, err := s.firstCommand(ctx, url, false); err != nil {
			return err
		}
	}
	var without, with, adds []float64
	for range b.size(20) {
		p, err := s.firstCommand(ctx, plain, true)
		if err != nil {
			return err
		}
		e, err := s.firstCommand(ctx, built, true)
		if err != nil {
			return err
		}
		without, with, adds = append(without, p), append(with, e), append(adds, e-p)
	}
	note := fmt.Sprintf("a new agent, from the request to the result of its model's first call; %d files checked out, mirror up to date", repositoryFiles)
	b.keep("unchanged", "run → first command done, no environment", engine, "ms", without, note)
	b.keep("unchanged", "run → first command done, unchanged environment", engine, "ms", with, note)
	b.keep("unchanged", "an unchanged environment adds", engine, "ms", adds, "each such run less the one without before it")
	return nil
}

// firstCommand makes an agent of a repository and gives the milliseconds until
// its first command was done. The agent is gone afterwards. With kept, an
// install that runs is an error: another thing would be measured.
func (s *served) firstCommand(ctx context.Context, url string, kept bool) (float64, error) {
	began := time.Now()
	made, err := s.client.CreateAgent(ctx, api.CreateAgent{Prompt: api.Prompt{Text: promptCommand}, Engine: s.engine, Repos: []api.Repo{{URL: url}}}, "")
	if err != nil {
		return 0, err
	}
	after, err := s.await(ctx, made.Agent.ID, 0, func(e errand.Event) (bool, error) {
		if ran, err := installed(e); err != nil {
			return false, err
		} else if ran && kept {
			return false, errors.New("install ran although its build was kept")
		}
		if over, err := finished(e); err != nil {
			return false, err
		} else if over {
			return false, errors.New("the run ended without a command")
		}
		return e.Kind == errand.EventToolEnded, nil
	})
	took := ms(time.Since(began))
	if err != nil {
		return 0, err
	}
	if _, err := s.await(ctx, made.Agent.ID, after, finished); err != nil {
		return 0, err
	}
	return took, s.client.Delete(ctx, errand.AgentID(made.Agent.ID))
}

// installed is an install that ran.
func installed(e errand.Event) (bool, error) {
	var d errand.PhaseEnded
	if e.Kind != errand.EventPhaseEnded {
		return false, nil
	}
	err := json.Unmarshal(e.Data, &d)
	return d.Phase == errand.PhaseInstall && !d.Cached, err
}
