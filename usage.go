package errand

import "time"

// UsageOf says for what something was used.
type UsageOf struct {
	Model      string // as the catalog names it
	Repository string // the agent's first; "" for none
	Person     string // whose it was, as Caller's Person gives it
}

// Spent is what was used of models and machines.
type Spent struct {
	Usage    Usage
	Unpriced int64         // tokens of Usage whose price is not known
	Cost     int64         // of the others, in billionths of a US dollar
	Machine  time.Duration // that machines ran
}

// UsageIn is what was used in a day or a week, of all or of one name.
type UsageIn struct {
	Start  time.Time // the day, or the week's Monday; UTC
	Name   string    // of the model, repository or person; "" where there is none
	Others bool      // all those together that have no figures of their own
	Spent
}

// Add gives the sum of both.
func (s Spent) Add(o Spent) Spent {
	return Spent{s.Usage.Add(o.Usage), s.Unpriced + o.Unpriced, s.Cost + o.Cost, s.Machine + o.Machine}
}
