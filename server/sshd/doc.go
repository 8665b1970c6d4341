// Package sshd lets people walk into agents' machines with the ssh that they
// have: a shell, single commands, files by SFTP and scp, forwarded ports. The
// user's name is the agent's id.
//
// It speaks SSH (RFC 4251 to 4254, and OpenSSH's PROTOCOL) to the person only.
// What is asked for is done over the guest's line as everything else is, so there
// is no ssh server in a machine, no key that would let anybody in there, and all
// engines are the same. A machine that sleeps is woken; what runs there holds it
// awake.
//
// Who may come is package auth's to say, and what stands behind an agent's id the
// runner's. Terminals pass the redactor; commands, files and ports are programs
// that speak to each other, and pass as they are.
package sshd
