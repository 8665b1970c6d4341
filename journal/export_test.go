package journal

// Reads gives how often those who follow have read from the store.
func Reads(j *Journal) int64 { return j.reads.Load() }
