package errand_test

import (
	"errors"
	"fmt"
	"io/fs"
	"strings"
	"testing"

	"github.com/errand-dev/errand"
)

func TestIDs(t *testing.T) {
	a, r := errand.NewAgentID(), errand.NewRunID()
	if got, err := errand.ParseAgentID(strings.ToUpper(string(a))); err != nil || got != a {
		t.Errorf("ParseAgentID(upper case of %s) = %s, %v", a, got, err)
	}
	if got, err := errand.ParseRunID(string(r)); err != nil || got != r {
		t.Errorf("ParseRunID(%s) = %s, %v", r, got, err)
	}
	for _, bad := range []string{"", "bc-", string(r), string(a) + "0", "../" + string(a), "bc-" + strings.Repeat("x", 36), string(a) + "\n"} {
		if _, err := errand.ParseAgentID(bad); errand.KindOf(err) != errand.Invalid {
			t.Errorf("ParseAgentID(%q) gave %v, want an Invalid error", bad, err)
		}
	}
	if _, err := errand.ParseRunID(strings.Repeat("a", 1<<20)); len(err.Error()) > 300 {
		t.Errorf("the error for a huge id is %d bytes long", len(err.Error()))
	}
}

func TestErrors(t *testing.T) {
	e := errand.Errorf(errand.NotFound, "agent_not_found", "reading: %w", fs.ErrNotExist)
	wrapped := fmt.Errorf("showing: %w", e)
	if got := errand.KindOf(wrapped); got != errand.NotFound {
		t.Errorf("KindOf = %q", got)
	}
	if !errors.Is(wrapped, fs.ErrNotExist) {
		t.Error("the cause is lost")
	}
	if got := errand.AsError(wrapped); got != e {
		t.Errorf("AsError = %v", got)
	}
	if got := errand.AsError(fs.ErrClosed); got.Kind != errand.Internal || got.Message != fs.ErrClosed.Error() {
		t.Errorf("AsError of a plain error = %+v", got)
	}
	if errand.AsError(nil) != nil || errand.KindOf(nil) != "" {
		t.Error("nil is not nil")
	}
}

func TestRunStatuses(t *testing.T) {
	all := []errand.RunStatus{errand.RunQueued, errand.RunPreparing, errand.RunRunning, errand.RunFinished, errand.RunFailed, errand.RunCancelled, errand.RunExpired}
	for i, from := range all {
		for j, to := range all {
			if to == errand.RunFinished && from != errand.RunRunning && from.MayBecome(to) {
				t.Errorf("%s may become %s without having run", from, to)
			}
			if from.Ended() && from.MayBecome(to) || i == j && from.MayBecome(to) {
				t.Errorf("%s may become %s", from, to)
			}
		}
		if from.Ended() != (i >= 3) {
			t.Errorf("%s.Ended() = %v", from, from.Ended())
		}
	}
}
