package environment

import (
	"context"
	"sync"

	"github.com/errand-dev/errand/machine"
)

// Builds lets one of several preparations that want the same snapshot run the
// install while the others wait for it. The zero value is ready; one is shared
// by all preparations of a process.
type Builds struct {
	mu    sync.Mutex
	under map[machine.SnapshotKey]chan struct{} // closed when that install has ended
}

// enter takes the install of key. leave, never nil, ends what was taken and may
// be called again. Where another has it, enter waits for its end instead,
// having called waiting, and takes nothing: who comes back then finds the
// snapshot, or does without if that install failed. A nil Builds keeps nobody
// waiting.
func (b *Builds) enter(ctx context.Context, key machine.SnapshotKey, waiting func() error) (leave func(), err error) {
	nothing := func() {}
	if b == nil {
		return nothing, nil
	}
	b.mu.Lock()
	ended, busy := b.under[key]
	if busy {
		b.mu.Unlock()
		if err := waiting(); err != nil {
			return nothing, err
		}
		select {
		case <-ended:
			return nothing, nil
		case <-ctx.Done():
			return nothing, ctx.Err()
		}
	}
	defer b.mu.Unlock()
	if b.under == nil {
		b.under = map[machine.SnapshotKey]chan struct{}{}
	}
	ended = make(chan struct{})
	b.under[key] = ended
	return sync.OnceFunc(func() {
		b.mu.Lock()
		delete(b.under, key)
		b.mu.Unlock()
		close(ended)
	}), nil
}
