package guest

import (
	"testing"

	"github.com/google/go-cmp/cmp"
)

func TestParseTyped(t *testing.T) {
	const before = "\x01desk\x0277\n    3  from long ago\n\x01desk\x0277\n    4  make\n"
	const after = "\x01desk\x0277\n    4  make\n" + // Enter
		"\x01desk\x0277\n    5  go test ./...\n" +
		"\x01\x0299\n\n" + // a shell without a history
		"\x01\x0299\n    1* cat <<END\nEND\n"
	want := []Typed{{"desk", "go test ./..."}, {"", "cat <<END\nEND"}}
	if diff := cmp.Diff(want, parseTyped([]byte(before+after), int64(len(before)))); diff != "" {
		t.Error(diff)
	}
	if got := parseTyped([]byte("cut off\n\x01a\x02b"+"\n\x01\x01\x02\n\n"), 0); len(got) > 0 {
		t.Errorf("what is no entry gave %v", got)
	}
}
