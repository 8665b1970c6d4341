package bench

import (
	"context"
	"errors"
	"fmt"
	"path/filepath"
	"strconv"
	"strings"
	"sync"
	"time"

	"github.com/errand-dev/errand/guest"
	"github.com/errand-dev/errand/image"
	"github.com/errand-dev/errand/machine"
)

// driver opens a driver of its own for an engine and a part.
func (b *bench) driver(part, engine string) (machine.Driver, error) {
	dir := filepath.Join(b.Dir, part+"-"+engine)
	images, err := image.Open(image.Options{Dir: filepath.Join(dir, "images"), Log: b.Log})
	if err != nil {
		return nil, err
	}
	return b.Driver(filepath.Join(dir, "machines"), engine, images)
}

// spawned is a machine with a line to it.
type spawned struct {
	machine.Machine
	line *guest.Line
}

func (s spawned) end(ctx context.Context) error {
	return errors.Join(s.line.Close(), s.Destroy(ctx))
}

// spawn makes a machine and runs its first command: what a person waits for.
func spawn(ctx context.Context, d machine.Driver, id string, spec machine.Spec) (spawned, error) {
	m, err := d.Create(ctx, machine.ID(id), spec)
	if err != nil {
		return spawned{}, err
	}
	line, err := guest.Open(ctx, m.Dial, guest.Options{Gone: func(err error) bool { return errors.Is(err, machine.ErrStopped) }})
	if err != nil {
		return spawned{}, errors.Join(err, m.Destroy(ctx))
	}
	s := spawned{m, line}
	if err := s.run(ctx, "first", "true"); err != nil {
		return spawned{}, errors.Join(err, s.end(ctx))
	}
	return s, nil
}

// run runs a command that must succeed.
func (s spawned) run(ctx context.Context, id string, args ...string) error {
	_, err := s.output(ctx, id, args...)
	return err
}

func (s spawned) output(ctx context.Context, id string, args ...string) (string, error) {
	var out strings.Builder
	exit, err := s.line.Run(ctx, guest.Command{ID: id, Args: args}, func(o guest.Output) { out.Write(o.Data) })
	if err == nil && exit.Code != 0 {
		err = fmt.Errorf("%s ended with %d: %s", args[0], exit.Code, out.String())
	}
	return out.String(), errors.Join(err, s.line.Forget(ctx, id))
}

// measureSpawn times the first machine of a fresh data directory, then further
// ones.
func measureSpawn(ctx context.Context, b *bench) error {
	for _, engine := range b.Engines {
		d, err := b.driver("spawn", engine)
		if err != nil {
			return err
		}
		var cold, warm []float64
		for i := range b.size(20) + 1 {
			began := time.Now()
			s, err := spawn(ctx, d, fmt.Sprintf("spawn-%d", i), machine.Spec{Engine: engine})
			if err != nil {
				return err
			}
			took := ms(time.Since(began))
			if i == 0 {
				cold = append(cold, took)
			} else {
				warm = append(warm, took)
			}
			if err := s.end(ctx); err != nil {
				return err
			}
		}
		b.keep("spawn", "spawn → first command done, cold", engine, "ms", cold, "image host, fresh data directory")
		b.keep("spawn", "spawn → first command done, warm", engine, "ms", warm, "")
	}
	return nil
}

// measureCrowd times 20 machines that are asked for at the same moment.
func measureCrowd(ctx context.Context, b *bench) error {
	const crowd = 20
	for _, engine := range b.Engines {
		d, err := b.driver("crowd", engine)
		if err != nil {
			return err
		}
		first, err := spawn(ctx, d, "crowd-warm", machine.Spec{Engine: engine})
		if err != nil {
			return err
		}
		if err := first.end(ctx); err != nil {
			return err
		}
		var wg sync.WaitGroup
		took, all, failures := make([]float64, crowd), make([]spawned, crowd), make([]error, crowd)
		began := time.Now()
		for i := range crowd {
			wg.Go(func() {
				all[i], failures[i] = spawn(ctx, d, fmt.Sprintf("crowd-%d", i), machine.Spec{Engine: engine})
				took[i] = ms(time.Since(began))
			})
		}
		wg.Wait()
		whole := ms(time.Since(began))
		for i, s := range all {
			if failures[i] == nil {
				failures[i] = s.end(ctx)
			}
		}
		if err := errors.Join(failures...); err != nil {
			return err
		}
		b.keep("crowd", "20 spawns at once, each until its first command", engine, "ms", took, "")
		b.keep("crowd", "20 spawns at once, all", engine, "ms", []float64{whole}, "")
	}
	return nil
}

// measureExec times a command's way there and back, and what its process alone
// costs inside, where nothing travels.
func measureExec(ctx context.Context, b *bench) error {
	for _, engine := range b.Engines {
		d, err := b.driver("exec", engine)
		if err != nil {
			return err
		}
		s, err := spawn(ctx, d, "exec", machine.Spec{Engine: engine})
		if err != nil {
			return err
		}
		if err := b.execIn(ctx, s, engine); err != nil {
			return errors.Join(err, s.end(ctx))
		}
		if err := s.end(ctx); err != nil {
			return err
		}
	}
	return nil
}

func (b *bench) execIn(ctx context.Context, s spawned, engine string) error {
	n := b.size(500)
	var trips []float64
	for i := range n {
		began := time.Now()
		if _, err := s.line.Run(ctx, guest.Command{ID: "trip-" + strconv.Itoa(i), Args: []string{"/bin/true"}}, nil); err != nil {
			return err
		}
		trips = append(trips, ms(time.Since(began)))
		if err := s.line.Forget(ctx, "trip-"+strconv.Itoa(i)); err != nil {
			return err
		}
	}
	// The same process, begun and awaited by a shell inside: no line, no guest.
	text, err := s.output(ctx, "alone", "bash", "-c", fmt.Sprintf(
		`a=$(date +%%s%%N); for i in $(seq %[1]d); do /bin/true; done; b=$(date +%%s%%N); echo $(( (b-a) / %[1]d ))`, n))
	if err != nil {
		return err
	}
	alone, err := strconv.ParseFloat(strings.TrimSpace(text), 64)
	if err != nil {
		return fmt.Errorf("reading the cost of a process: %w", err)
	}
	above := make([]float64, len(trips))
	for i, t := range trips {
		above[i] = t - alone/1e6
	}
	b.keep("exec", "exec round trip of /bin/true", engine, "ms", trips, "")
	b.keep("exec", "the process alone, from a shell inside", engine, "ms", []float64{alone / 1e6}, fmt.Sprintf("mean of %d", n))
	b.keep("exec", "exec round trip above the process", engine, "ms", above, "")
	return nil
}

// measureSnapshot times keeping a disk on which many files were installed, and
// a machine that starts on it.
func measureSnapshot(ctx context.Context, b *bench) error {
	files := b.size(20_000)
	install := fmt.Sprintf(`mkdir -p /workspace/m; cd /workspace/m; for d in $(seq %d); do mkdir $d; for f in $(seq 100); do echo "module $d.$f" > $d/$f; done; done`, max(files/100, 1))
	for _, engine := range b.Engines {
		d, err := b.driver("snapshot", engine)
		if err != nil {
			return err
		}
		var took, forked []float64
		for i := range 3 {
			s, err := spawn(ctx, d, fmt.Sprintf("snap-%d", i), machine.Spec{Engine: engine})
			if err != nil {
				return err
			}
			if err := s.run(ctx, "install", "sh", "-c", install); err != nil {
				return errors.Join(err, s.end(ctx))
			}
			keeper, ok := s.Machine.(machine.Snapshotter)
			if !ok {
				return errors.Join(errors.New("this driver makes no snapshots"), s.end(ctx))
			}
			if err := s.line.Close(); err != nil {
				return err
			}
			key := machine.SnapshotKey(fmt.Sprintf("b-%d", i))
			began := time.Now()
			if err := keeper.Snapshot(ctx, key); err != nil {
				return errors.Join(err, s.Destroy(ctx))
			}
			took = append(took, ms(time.Since(began)))
			began = time.Now()
			next, err := spawn(ctx, d, fmt.Sprintf("fork-%d", i), machine.Spec{Engine: engine, From: key})
			if err != nil {
				return errors.Join(err, s.Destroy(ctx))
			}
			forked = append(forked, ms(time.Since(began)))
			if err := errors.Join(next.run(ctx, "look", "test", "-f", "/workspace/m/1/100"), next.end(ctx), s.Destroy(ctx)); err != nil {
				return err
			}
		}
		note := fmt.Sprintf("after an install of %d files; the end of the machine's processes included", files)
		b.keep("snapshot", "snapshot", engine, "ms", took, note)
		b.keep("snapshot", "spawn on that snapshot → first command done", engine, "ms", forked, "")
	}
	return nil
}
