package errand

// Glance is an agent with what a list shows of its work.
type Glance struct {
	Agent
	// State is the status of the run that the agent is at: the one under way, else
	// the first that waits, else the last that had begun.
	State   RunStatus
	Waiting int   // runs that wait behind that one
	Phase   Phase // of that run; "" between phases
	Usage   Usage // of all its runs
	// Last is the newest event that tells people something; its Seq is 0 where
	// there is none yet.
	Last Event
}
