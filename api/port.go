package api

import "time"

// Ports are what listens in an agent's machine, and what its environment names.
type Ports struct {
	Items []OpenPort `json:"items"`
	// Awake: a machine that sleeps has no listeners.
	Awake bool `json:"awake" doc:"Whether the machine runs. One that sleeps has no listeners; opening one of its ports wakes it."`
}

// OpenPort is a TCP port of an agent's machine.
type OpenPort struct {
	Port      int    `json:"port"`
	Name      string `json:"name,omitempty" doc:"As the environment calls it."`
	Listening bool   `json:"listening" doc:"Whether a program listens there now."`
	Loopback  bool   `json:"loopback,omitempty" doc:"It listens on the machine's loopback alone. It is reached all the same."`
	PID       int    `json:"pid,omitempty" doc:"Of the program, where that is known."`
	Command   string `json:"command,omitempty" doc:"The program's command line, clipped, as it says itself."`
}

// OpenPreview is the body that asks for a preview.
type OpenPreview struct {
	Path string `json:"path,omitempty" maxLength:"2000" doc:"Where to begin, with its query: /admin?tab=1. Without it at the root."`
}

// Preview is where a port can be looked at.
type Preview struct {
	URL       string    `json:"url" doc:"Lets one browser in, once. It then shows the port under a host name of its own."`
	Origin    string    `json:"origin" doc:"The preview's own scheme, host name and port, the same each time."`
	ExpiresAt time.Time `json:"expiresAt" doc:"Until when url lets a browser in."`
}

// StreamPorts names the event of a stream of Ports.
const StreamPorts = "ports"
