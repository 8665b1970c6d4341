package guest_test

import (
	"fmt"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/errand-dev/errand/guest"
	"github.com/errand-dev/errand/guest/wire"
)

// TestStatusHolds tells the terminals what to show while somebody opens one that is
// there: in the end they show what was said last.
func TestStatusHolds(t *testing.T) {
	needTmux(t)
	_, l := plain(t)
	ctx := within(t, time.Minute)
	desk := guest.Terminal{Name: "desk"}
	must(t, l.OpenTerminal(ctx, desk))
	for i := range 40 {
		var both sync.WaitGroup
		check := func(err error) {
			if err != nil {
				t.Error(err)
			}
		}
		both.Go(func() { check(l.OpenTerminal(ctx, desk)) })
		both.Go(func() { check(l.SetStatus(ctx, fmt.Sprintf("said %d", i))) })
		both.Wait()
		var shown strings.Builder
		_, err := l.Run(ctx, guest.Command{ID: id(), Args: []string{"tmux", "-S", l.Hello().Tmux, "show-options", "-gv", wire.StatusOption}}, func(o guest.Output) { shown.Write(o.Data) })
		must(t, err)
		if got := strings.TrimSpace(shown.String()); got != l.Status() || got != fmt.Sprintf("said %d", i) {
			t.Fatalf("they show %q after %q", got, l.Status())
		}
	}
}
