package environment

import (
	"testing"

	"github.com/errand-dev/errand/guest"
	"github.com/errand-dev/errand/machine"
)

// TestBuildLogCounts: what is said to have run are steps of the file.
func TestBuildLogCounts(t *testing.T) {
	var shown string
	l := buildLog{take: func(o guest.Output) { shown += string(o.Data) }}
	for _, s := range []machine.ImageStep{
		{ID: "a", Name: "[internal] load metadata for base", Ended: true},
		{ID: "b", Name: "[1/3] FROM base", Line: 1, Ended: true, Cached: true},
		{ID: "c", Name: "[2/3] RUN one", Line: 2, Ended: true, Cached: true},
		{ID: "d", Name: "[3/3] RUN two", Line: 3, Output: []byte("two\n")},
		{ID: "d", Name: "[3/3] RUN two", Line: 3, Ended: true},
		{ID: "e", Name: "exporting to image", Ended: true},
	} {
		l.tell(s)
	}
	if got := l.note("Dockerfile"); got != "Dockerfile: 1 of 3 steps ran" {
		t.Errorf("note: %s", got)
	}
	const want = "DONE [internal] load metadata for base (0s)\nCACHED [1/3] FROM base\nCACHED [2/3] RUN one\n[3/3] RUN two\ntwo\nDONE [3/3] RUN two (0s)\nDONE exporting to image (0s)\n"
	if shown != want {
		t.Errorf("shown:\n%s", shown)
	}
}
