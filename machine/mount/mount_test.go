//go:build linux

package mount

import (
	"fmt"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
)

// What is mounted is found behind a line of any length: what is not found is
// removed with all that it holds.
func TestPointsUnder(t *testing.T) {
	t.Parallel()
	var lowers []string
	for i := range 500 {
		lowers = append(lowers, fmt.Sprintf("lowerdir+=/run/errand/m/%d/%s", i, strings.Repeat("x", 200)))
	}
	table := "30 1 0:1 / /run rw - tmpfs tmpfs rw\n" +
		"31 30 0:2 / /run/errand/m/1/root rw shared:1 - overlay errand rw," + strings.Join(lowers, ",") + "\n" +
		"32 30 0:3 / /run/errand/m/1/with\\040space rw - tmpfs errand rw\n" +
		"33 30 0:4 / /run/errand-other rw - tmpfs errand rw\n"
	want := []string{"/run/errand/m/1/with space", "/run/errand/m/1/root"}
	if diff := cmp.Diff(want, pointsUnder("/run/errand", table)); diff != "" {
		t.Errorf("(-want +got):\n%s", diff)
	}
}
