package local

import (
	"context"
	"fmt"
	"io"
	"os"
	"regexp"
	"strings"

	"github.com/errand-dev/errand"
	"github.com/errand-dev/errand/api"
	"github.com/errand-dev/errand/client"
)

// carryFlag before a bridge's arguments names the repository that is carried to.
const carryFlag = "--carry"

// what git asks its ssh for: "git-upload-pack '/workspace'".
var asked = regexp.MustCompile(`^git[- ](upload-pack|receive-pack) '?/workspace'?$`)

// Bridge does what git asks of its ssh: it joins git's streams with the git of an
// agent's machine, or with what the server takes of local work. It gives the exit
// code of the other end.
func Bridge(ctx context.Context, c *client.Client, args []string, in io.Reader, out, complaints io.Writer) (int, error) {
	if len(args) > 1 && args[0] == carryFlag {
		return 0, carryTo(ctx, c, args[1], in, out)
	}
	for len(args) > 2 && strings.HasPrefix(args[0], "-") {
		args = args[2:] // -o SendEnv=GIT_PROTOCOL
	}
	if len(args) != 2 || !asked.MatchString(args[1]) {
		return 0, fmt.Errorf("git runs this command; it is nothing for people")
	}
	id, err := errand.ParseAgentID(args[0])
	if err != nil {
		return 0, err
	}
	start := api.ExecStart{Whole: true, Args: []string{"git", "-c", "core.hooksPath=/dev/null", asked.FindStringSubmatch(args[1])[1], "/workspace"}}
	if version := os.Getenv("GIT_PROTOCOL"); version != "" { // git's own, to its ssh
		start.Env = []string{"GIT_PROTOCOL=" + version}
	}
	exit, err := c.Exec(ctx, id, start, client.ExecIO{Stdin: in, Stdout: out, Stderr: complaints})
	return exit.Code, err
}

// carryTo is git's push in two calls: what the server has, and what git sends.
func carryTo(ctx context.Context, c *client.Client, url string, in io.Reader, out io.Writer) error {
	if err := c.Carried(ctx, url, out); err != nil {
		return err
	}
	return c.Carry(ctx, url, in, out)
}
