// Package preview opens the ports of agents' machines to browsers, each under a
// host name of its own.
//
// What a program in a machine serves is untrusted: it may be a page that tries to
// act as whoever looks at it. So a preview shares nothing with the panel: its host
// name says which agent and port it is, PORT--AGENT.localhost or, below a domain
// that the server was given, PORT--AGENT.example.net, and browsers keep cookies,
// storage and workers of host names apart. Who may look is decided here by a pass
// of package auth that holds for this one port and for nothing of the API. It is
// taken out of what goes to the machine.
//
// Requests go over the guest's line to the machine's loopback, with the Host that a
// program there expects; WebSockets and server-sent events pass. Nothing is kept
// about a preview: its name says all, and a restarted server goes on. Somebody
// who comes to look wakes the machine; what a page does by itself does not.
//
// The same ports are forwarded as plain connections (Tunnel), for `errand port`.
package preview
