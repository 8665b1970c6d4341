// Package local joins a person's own repository with an agent's: Pull brings the
// agent's branch here, Push sends local work to the agent's machine, and Carry
// brings what only stands here to the server, for an agent to start from.
//
// All of it is git's: the person's git at this end, the machine's or the server's
// at the other, and between them Bridge, which git takes for ssh and which speaks
// to the server with the person's key. So nothing of it is in the machine, and no
// port is open there.
//
// Uncommitted work travels as a commit that no branch leads to, made through an
// index of its own, and is laid into the other working tree path by path: over a
// path that was changed there as well nothing is laid, and then nothing at all.
// What was brought last is remembered (refs/errand/AGENT), so that a person and an
// agent can hand the same files back and forth.
//
// The package prints nothing and decides nothing about machines; it needs the git
// program, 2.31 or newer, and runs wherever Go does.
package local
