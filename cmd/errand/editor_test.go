package main_test

import (
	"context"
	"os/exec"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/errand-dev/errand"
	"github.com/errand-dev/errand/api"
	"github.com/errand-dev/errand/guest/guesttest"
)

// standIn is a program in an editor's place: it takes the flags of one and serves
// the pages of the tests' program on the port that they name.
const standIn = `#!/bin/sh
echo "$0 $*" >>/tmp/editor.args
while [ $# -gt 0 ]; do
	case "$1" in
	--bind-addr) port=${2#127.0.0.1:} ;;
	--port) port=$2 ;;
	esac
	shift
done
exec node /tmp/preview.mjs "$port" 127.0.0.1
`

// TestEditor opens editors for browsers: one that the machine has, one that has to
// be downloaded, one that cannot be had. What is downloaded comes from a curl of
// the test's own, which looks where it is asked for.
func TestEditor(t *testing.T) {
	t.Parallel()
	if _, err := exec.LookPath("node"); err != nil {
		guesttest.Lacking(t, "this test needs node")
	}
	in := install(t, here())
	for _, engine := range []string{"gvisor", "runc"} {
		t.Run(engine, func(t *testing.T) {
			made := in.agent("Be there", remote(t, map[string]string{"README": "hello\n"}), engine)
			id := made.Agent.ID
			in.finished(id, made.Run.ID)
			in.program(id, 3000, "127.0.0.1") // leaves its file there

			in.exec(id, "#!/bin/sh\necho 'curl: (6) Could not resolve host: github.com' >&2; exit 6\n", "sh", "-c", "cat >/usr/local/bin/curl && chmod +x /usr/local/bin/curl")
			if out, err := in.command("ide", id, "--print").CombinedOutput(); err == nil || !strings.Contains(string(out), "Put code-server into the environment's image") || !strings.Contains(string(out), "Could not resolve host: github.com") {
				t.Errorf("without an editor it says %v %s", err, out)
			}
			if left := in.exec(id, "", "sh", "-c", "ls -A ~/.local/lib"); left != "" {
				t.Errorf("a download that failed left %s", left)
			}
			in.exec(id, release, "sh", "-c", "cat >/usr/local/bin/curl")
			in.exec(id, standIn, "sh", "-c", "cat >/tmp/code-server")
			l := newLooker(t, in)
			for range 2 { // the second time the one that runs
				if starts := l.editor(id, 1, "/root/.local/bin/code-server --bind-addr 127.0.0.1:13337 --auth none ", " /workspace\n"); starts != 1 {
					t.Errorf("editors were started %d times", starts)
				}
			}

			// A terminal whose command has ended for good is opened anew. Under gVisor
			// what it had started would go on, and keep the port.
			in.exec(id, "", "pkill", "-KILL", "-f", "^[^ ]+ tend ")
			in.editorEnded(id)
			in.exec(id, "", "sh", "-c", "pkill -KILL -f '[p]review.mjs 13337' || :")
			in.portsUntil(id, func(p api.Ports) bool {
				return !slices.ContainsFunc(p.Items, func(one api.OpenPort) bool { return one.Port == 13337 && one.Listening })
			})
			in.exec(id, standIn, "sh", "-c", "cat >/usr/local/bin/openvscode-server && chmod +x /usr/local/bin/openvscode-server")
			l.editor(id, 2, "/usr/local/bin/openvscode-server --host 127.0.0.1 --port 13337 --without-connection-token ", " --default-folder /workspace\n")
		})
	}
}

// release is a curl that gives a release of code-server, if it is asked for one as
// its publisher names them.
const release = `#!/bin/sh
while [ $# -gt 1 ]; do
	[ "$1" = -o ] && to=$2
	shift
done
echo "$1" | grep -qE '^https://github.com/coder/code-server/releases/download/v([0-9.]+)/code-server-\1-linux-(amd64|arm64).tar.gz$' || exit 22
cd "$(mktemp -d)" && mkdir -p code-server/bin && cp /tmp/code-server code-server/bin/code-server && chmod +x code-server/bin/code-server &&
	tar -czf "$to" code-server
`

// editor opens the editor, waits until editors have been started at least so often,
// and wants the last one to have been started so, and to answer. It gives how often.
func (l *looker) editor(id string, least int, begins, ends string) (starts int) {
	l.Helper()
	p, err := l.in.client.OpenEditor(l.Context(), errand.AgentID(id))
	if err != nil {
		l.Fatal(err)
	}
	if !strings.HasPrefix(p.Origin, "http://13337--"+strings.TrimPrefix(id, "bc-")) {
		l.Errorf("the editor is at %s", p.Origin)
	}
	all := l.in.editors(id)
	for deadline := time.Now().Add(time.Minute); len(all) < least && time.Now().Before(deadline); all = l.in.editors(id) {
		time.Sleep(50 * time.Millisecond) // a program that is started tells nobody
	}
	l.in.listening(id, 13337)
	l.origin = p.Origin
	if status, _, body := l.ask("GET", p.URL, nil, "Sec-Fetch-Mode", "navigate", "Sec-Fetch-Site", "cross-site"); status != 200 || !strings.Contains(body, "It works") {
		l.Errorf("the editor shows %d %s", status, body)
	}
	all = l.in.editors(id)
	if last := len(all) - 1; last < least-1 || !strings.HasPrefix(all[last], begins) || !strings.HasSuffix(all[last], ends) {
		l.Errorf("editors were started as %q", all)
	}
	terminals, err := l.in.client.Terminals(l.Context(), errand.AgentID(id))
	if err != nil {
		l.Fatal(err)
	}
	for _, t := range terminals.Items {
		if t.Name == "editor" && t.Running && t.Health != nil {
			return len(all)
		}
	}
	l.Errorf("the editor's terminal is not there: %+v", terminals.Items)
	return len(all)
}

// editors gives how editors were started so far, a line each.
func (in *installation) editors(id string) []string {
	in.t.Helper()
	return slices.Collect(strings.Lines(in.exec(id, "", "sh", "-c", "cat /tmp/editor.args || :")))
}

// editorEnded waits until the editor's terminal is seen to have ended, which tmux
// does not tell of.
func (in *installation) editorEnded(id string) {
	in.t.Helper()
	ctx, cancel := context.WithTimeout(in.t.Context(), time.Minute)
	defer cancel()
	for {
		terminals, err := in.client.Terminals(ctx, errand.AgentID(id))
		if err != nil {
			in.t.Fatal(err)
		}
		if !slices.ContainsFunc(terminals.Items, func(t api.Terminal) bool { return t.Name == "editor" && t.Running }) {
			return
		}
		time.Sleep(50 * time.Millisecond)
	}
}
