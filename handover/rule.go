package handover

import (
	"fmt"
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

// Status is what the machine's terminals show while it is taken over.
func Status(t errand.Takeover) string {
	return fmt.Sprintf("taken over by %s until %s; the agent waits. Give it back: errand handback", t.By.Called(), t.Until.Local().Format("15:04"))
}

// Reminding is what the terminals are told of the end.
func Reminding(left time.Duration) string {
	return fmt.Sprintf("The agent is handed back by itself in %s. Take over again to have it longer.", left.Round(time.Second))
}
