package build

import (
	"slices"
	"testing"

	"github.com/errand-dev/errand"
	"github.com/errand-dev/errand/egress"
)

// TestProposalOpensNothing builds what an agent proposes behind the
// environment's own list, whatever the proposal says.
func TestProposalOpensNothing(t *testing.T) {
	b := New(Options{})
	listed := errand.Environment{JSON: `{"egressAllowlist": ["registry.npmjs.org"]}`}
	for _, c := range []struct {
		trigger errand.BuildTrigger
		text    string
		allow   []string // nil is open
	}{
		{errand.TriggerAgent, `{}`, []string{"registry.npmjs.org"}},
		{errand.TriggerAgent, `{"egressAllowlist": ["example.com"]}`, []string{"registry.npmjs.org"}},
		{errand.TriggerManual, `{}`, nil},
		{errand.TriggerManual, `{"egressAllowlist": ["example.com"]}`, []string{"example.com"}},
	} {
		asks, _, err := parse(c.text)
		if err != nil {
			t.Fatal(err)
		}
		p, err := b.policy(errand.Build{Trigger: c.trigger}, listed, *asks)
		if err != nil || (p.Mode == egress.Listed) != (c.allow != nil) || !slices.Equal(p.Allow, c.allow) {
			t.Errorf("%s of %s: the policy is %+v, %v", c.trigger, c.text, p, err)
		}
	}
}
