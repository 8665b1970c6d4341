package git

// ParseStats reads what `git diff --raw --numstat -z` prints, of any pair of
// trees and also in a machine: what does not look right is left out.
func ParseStats(output []byte) []FileStat { return parseStats(output) }
