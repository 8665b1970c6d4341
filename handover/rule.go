package handover

import (
	"fmt"
	"strings"
	"time"

	"github.com/errand-dev/errand"
)

// last is how long before its end the last reminder of a take-over comes; of a
// short one, a tenth before.
const last = 5 * time.Minute

// Reminder gives when a take-over that may last for length is to be called to mind
// next, and false where that has been done: at half of it, and shortly before its
// end.
func Reminder(t errand.Takeover, length time.Duration) (time.Time, bool) {
	switch t.Reminded {
	case 0:
		return t.Until.Add(-length / 2), true
	case 1:
		return t.Until.Add(-min(last, length/10)), true
	}
	return time.Time{}, false
}

// Status is what the machine's terminals show: who has it in hand, nil for nobody,
// and who is there where there are several. "" is nothing.
func Status(t *errand.Takeover, here []string) string {
	var all []string
	if t != nil {
		all = append(all, fmt.Sprintf("taken over by %s until %s", t.By.Called(), t.Until.Local().Format("15:04")))
	}
	if len(here) > 1 {
		all = append(all, "here: "+strings.Join(here, ", "))
	}
	return strings.Join(all, " · ")
}

// Reminding is what the terminals are told of the end.
func Reminding(left time.Duration) string {
	return fmt.Sprintf("The agent is handed back by itself in %s. Take over again to have it longer.", left.Round(time.Second))
}
