package cli

import (
	"os"
	"sync"
	"time"

	"github.com/errand-dev/errand/api"
)

// watchSize gives each new size of the terminal f until stop is called. Windows
// tells nobody of a new size, so it looks.
func watchSize(f *os.File) (sizes <-chan api.Size, stop func()) {
	out, done := make(chan api.Size), make(chan struct{})
	var ended sync.WaitGroup
	ended.Go(func() {
		tick := time.NewTicker(500 * time.Millisecond)
		defer tick.Stop()
		for last := terminalSize(f); ; {
			select {
			case <-tick.C:
			case <-done:
				return
			}
			now := terminalSize(f)
			if now == last {
				continue
			}
			last = now
			select {
			case out <- now:
			case <-done:
				return
			}
		}
	})
	return out, func() {
		close(done)
		ended.Wait()
	}
}
