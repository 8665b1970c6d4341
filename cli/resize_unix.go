//go:build unix

package cli

import (
	"os"
	"os/signal"
	"sync"
	"syscall"

	"github.com/errand-dev/errand/api"
)

// watchSize gives each new size of the terminal f until stop is called.
func watchSize(f *os.File) (sizes <-chan api.Size, stop func()) {
	changed := make(chan os.Signal, 1)
	signal.Notify(changed, syscall.SIGWINCH)
	out, done := make(chan api.Size), make(chan struct{})
	var ended sync.WaitGroup
	ended.Go(func() {
		for {
			select {
			case <-changed:
			case <-done:
				return
			}
			select {
			case out <- terminalSize(f):
			case <-done:
				return
			}
		}
	})
	return out, func() {
		signal.Stop(changed)
		close(done)
		ended.Wait()
	}
}
