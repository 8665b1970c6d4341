package errand

// Glance is an agent with what a list shows of its work.
type Glance struct {
	Agent
	Phase Phase // of the latest run; "" between phases
	Usage Usage // of all its runs
	// Last is the newest event that tells people something; its Seq is 0 where
	// there is none yet.
	Last Event
}
