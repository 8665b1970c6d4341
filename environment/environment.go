// Package environment makes a machine ready for a repository: it decides
// whether an earlier machine has done the work already, and brings a machine
// through image, checkout, install, start and terminals. Package file, below
// it, reads what people write of an environment.
//
// Two ideas carry it. An install runs once for each Key, the digest of all that
// decides its outcome; the disk it leaves is kept as a snapshot on which later
// machines start; a Dockerfile is built once for each key of its own. And Prepare can be killed and entered again at any point:
// what has been done is written on the machine's own disk, commands run under
// ids that the guest remembers, and what the journal holds already (a Progress)
// is not recorded a second time.
//
// It starts no runs, keeps no rows and knows no journal: facts go out by a
// function that the conductor hands in. What builds a Dockerfile is the driver.
package environment

import (
	"strings"

	"github.com/errand-dev/errand/environment/file"
)

// Environment is what an environment file asks for. Package file reads it.
type Environment = file.Environment

// firstLine gives the first line of a command for a message.
func firstLine(command string) string {
	line, _, _ := strings.Cut(command, "\n")
	return clip(line)
}

// clip bounds what a message repeats of a text of others.
func clip(text string) string {
	const most = 120
	if len(text) <= most {
		return text
	}
	return strings.ToValidUTF8(text[:most], "") + "…"
}
