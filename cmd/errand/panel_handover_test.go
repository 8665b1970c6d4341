package main_test

import (
	"strings"
	"testing"

	"github.com/errand-dev/errand"
)

// TestPanelHandover drives a take-over in the browser, with a second person at the
// command line: in a terminal of the machine, and taking the agent by force.
func TestPanelHandover(t *testing.T) {
	t.Parallel()
	p := openPanel(t, "testdata/panel_handover.json")
	grace := p.in.person("Grace", "grace@example.com")
	exec := func(id, command string) { p.in.said(p.in.as(grace, "exec", id, "--", "sh", "-c", command)) }
	var desk *typist
	var left func() int
	p.drive("handover.mjs", remote(t, map[string]string{"greet.sh": "echo helo\n"}), func(asked string) bool {
		what, id, _ := strings.Cut(asked, " ")
		switch what {
		case "begun":
			exec(id, "until [ -e /tmp/begun ]; do sleep 0.05; done")
		case "grace":
			desk, left = p.in.sit(p.in.as(grace, "attach", id, "desk"))
			desk.expect("here: ")
			desk.types("echo from''-grace\n")
			desk.expect("from-grace")
		case "left":
			desk.types("\x02d")
			if code := left(); code != 0 {
				t.Errorf("leaving the terminal ended with %d", code)
			}
		case "edit":
			exec(id, "sed -i s/helo/hello/ greet.sh && git commit -qam 'Mend the greeting' && echo more > NEW && touch /tmp/go")
		case "force":
			p.in.said(p.in.as(grace, "takeover", "--force", id))
		default:
			return false
		}
		return true
	})
}

// TestPanelForgottenHandover: a notice of the browser calls to mind that somebody
// has an agent in hand, them alone.
func TestPanelForgottenHandover(t *testing.T) {
	p := openPanel(t, "testdata/panel_handover.json", "--takeover-limit", "20s")
	grace := p.in.person("Grace", "grace@example.com")
	p.drive("forgotten.mjs", remote(t, map[string]string{"greet.sh": "echo helo\n"}), func(asked string) bool {
		what, id, _ := strings.Cut(asked, " ")
		switch what {
		case "begun":
			p.in.await(id, errand.EventToolCalled)
			p.in.exec(id, "", "sh", "-c", "until [ -e /tmp/begun ]; do sleep 0.05; done")
		case "grace":
			p.in.said(p.in.as(grace, "takeover", id))
		case "go":
			p.in.exec(id, "", "touch", "/tmp/go")
		default:
			return false
		}
		return true
	})
}
