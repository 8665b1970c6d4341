package bench

import (
	"context"
	"errors"
	"fmt"
	"strconv"
	"strings"
	"sync"
	"time"

	"github.com/errand-dev/errand/guest"
	"github.com/errand-dev/errand/machine"
)

// measureSpawn times the first machine of a fresh data directory, then further
// ones.
func measureSpawn(ctx context.Context, b *bench) error {
	return b.each(ctx, "spawn", func(r *rig) error {
		var cold, warm []float64
		for i := range b.size(20) + 1 {
			began := time.Now()
			s, err := r.spawn(ctx, fmt.Sprintf("spawn-%02d", i), machine.Spec{})
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
		b.keep("spawn", "spawn → first command done, cold", r.engine, "ms", cold, "image host, fresh data directory")
		b.keep("spawn", "spawn → first command done, warm", r.engine, "ms", warm, "")
		return nil
	})
}

// measureCrowd times 20 machines that are asked for at the same moment.
func measureCrowd(ctx context.Context, b *bench) error {
	const crowd = 20
	return b.each(ctx, "crowd", func(r *rig) error {
		first, err := r.spawn(ctx, "crowd-warm", machine.Spec{})
		if err != nil {
			return err
		}
		if err := first.end(ctx); err != nil {
			return err
		}
		var wg sync.WaitGroup
		took, failures := make([]float64, crowd), make([]error, crowd)
		began := time.Now()
		for i := range crowd {
			wg.Go(func() {
				_, failures[i] = r.spawn(ctx, fmt.Sprintf("crowd-%02d", i), machine.Spec{})
				took[i] = ms(time.Since(began))
			})
		}
		wg.Wait()
		whole := ms(time.Since(began))
		if err := errors.Join(failures...); err != nil {
			return err
		}
		b.keep("crowd", "20 spawns at once, each until its first command", r.engine, "ms", took, "")
		b.keep("crowd", "20 spawns at once, all", r.engine, "ms", []float64{whole}, "")
		return nil
	})
}

// measureExec times a command's way there and back, and what its process alone
// costs inside, where nothing travels.
func measureExec(ctx context.Context, b *bench) error {
	return b.each(ctx, "exec", func(r *rig) error {
		s, err := r.spawn(ctx, "exec", machine.Spec{})
		if err != nil {
			return err
		}
		n := b.size(500)
		trips, err := times(n, func(i int) error {
			_, err := s.line.Run(ctx, guest.Command{ID: "trip-" + strconv.Itoa(i), Args: []string{"/bin/true"}}, nil)
			return err
		})
		if err != nil {
			return err
		}
		alone, err := s.processAlone(ctx, n)
		if err != nil {
			return err
		}
		above := make([]float64, len(trips))
		for i, t := range trips {
			above[i] = t - median(alone)
		}
		b.keep("exec", "exec round trip of /bin/true", r.engine, "ms", trips, "")
		b.keep("exec", "the process alone, from a shell inside", r.engine, "ms", alone, "")
		b.keep("exec", "exec round trip above the process", r.engine, "ms", above, "each round trip less the median process")
		return nil
	})
}

// processAlone times the same process, begun and awaited by a shell inside: no
// line, no guest. It is bash because its clock is no process of its own.
func (s *spawned) processAlone(ctx context.Context, n int) ([]float64, error) {
	text, err := s.output(ctx, "alone", "bash", "-c", fmt.Sprintf(
		`for i in $(seq %d); do a=$EPOCHREALTIME; /bin/true; b=$EPOCHREALTIME; echo $(( ${b/./} - ${a/./} )); done`, n))
	if err != nil {
		return nil, err
	}
	var took []float64
	for line := range strings.Lines(text) {
		us, err := strconv.ParseFloat(strings.TrimSpace(line), 64)
		if err != nil {
			return nil, fmt.Errorf("reading the cost of a process: %w", err)
		}
		took = append(took, us/1000)
	}
	return took, nil
}

// install writes many small files under /workspace/m, a hundred in each folder.
func install(files int) string {
	return fmt.Sprintf(`mkdir -p /workspace/m; cd /workspace/m; for d in $(seq %d); do mkdir $d; for f in $(seq 100); do echo "module $d.$f" > $d/$f; done; done`, max(files/100, 1))
}

// measureSnapshot times keeping a disk on which many files were installed, and
// a machine that starts on it.
func measureSnapshot(ctx context.Context, b *bench) error {
	files := b.size(20_000)
	return b.each(ctx, "snapshot", func(r *rig) error {
		var took, forked []float64
		for i := range 5 {
			s, err := r.spawn(ctx, fmt.Sprintf("snap-%d", i), machine.Spec{})
			if err != nil {
				return err
			}
			if err := s.run(ctx, "install", "sh", "-c", install(files)); err != nil {
				return err
			}
			keeper, ok := s.Machine.(machine.Snapshotter)
			if !ok {
				return errors.New("this driver makes no snapshots")
			}
			s.detach()
			key := machine.SnapshotKey(fmt.Sprintf("b-%d", i))
			began := time.Now()
			if err := keeper.Snapshot(ctx, key); err != nil {
				return err
			}
			took = append(took, ms(time.Since(began)))
			began = time.Now()
			next, err := r.spawn(ctx, fmt.Sprintf("fork-%d", i), machine.Spec{From: key})
			if err != nil {
				return err
			}
			forked = append(forked, ms(time.Since(began)))
			if err := errors.Join(next.run(ctx, "look", "test", "-f", "/workspace/m/1/100"), next.end(ctx), s.Destroy(ctx)); err != nil {
				return err
			}
		}
		note := fmt.Sprintf("after an install of %d files; the end of the machine's processes included", files)
		b.keep("snapshot", "snapshot", r.engine, "ms", took, note)
		b.keep("snapshot", "spawn on that snapshot → first command done", r.engine, "ms", forked, "")
		return nil
	})
}
