// Package process ends processes of this host that are not our children: those of
// machines, which outlive the server and are found again by what it wrote down of
// them. A process is its number and the time at which it started, so that a later
// one with its number is never taken for it.
//
// It starts none, and knows nothing of children: who needs those to end as well
// names a process that takes them with it, as the first of a PID namespace does.
package process
