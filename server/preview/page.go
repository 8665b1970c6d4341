package preview

import (
	"crypto/rand"
	_ "embed"
	"fmt"
	"html"
	"io"
	"net/http"
	"strings"

	"github.com/errand-dev/errand"
)

// page is what a preview's host says itself, in place of a program.
type page struct {
	status int
	title  string
	text   string   // sentences; what they say of commands stands in commands
	lines  []string // commands to type
	waits  bool     // loads again by itself when something listens
}

// Names that begin with $ stand for values, as html has them. html/template would
// do it too, but a program that runs templates has every exported method of all
// its packages in it: 5 MB more for errand.
var (
	//go:embed page.html
	pageText string
	//go:embed wait.html
	waitText string
)

// html is the page for a browser.
func (pg page) html(nonce string) string {
	var lines strings.Builder
	for _, line := range pg.lines {
		lines.WriteString("<pre>" + html.EscapeString(line) + "</pre>\n")
	}
	script := ""
	if pg.waits {
		script = strings.NewReplacer("$NONCE", nonce, "$STATE", statePath).Replace(waitText)
	}
	return strings.NewReplacer("$TITLE", html.EscapeString(pg.title), "$TEXT", html.EscapeString(pg.text),
		"$LINES", lines.String(), "$SCRIPT", script, "$NONCE", nonce).Replace(pageText)
}

// say answers with a page, to a browser that shows one, or with its text.
func (p *Previews) say(w http.ResponseWriter, r *http.Request, pg page) {
	h := w.Header()
	for name := range h {
		delete(h, name)
	}
	if !showsPages(r) {
		protect(h, "")
		h.Set("Content-Type", "text/plain; charset=utf-8")
		w.WriteHeader(pg.status)
		fmt.Fprintln(w, strings.TrimSpace(pg.title+". "+pg.text+" "+strings.Join(pg.lines, "; ")))
		return
	}
	nonce := rand.Text()
	protect(h, nonce)
	h.Set("Content-Type", "text/html; charset=utf-8")
	w.WriteHeader(pg.status)
	if r.Method == http.MethodHead {
		return
	}
	if _, err := io.WriteString(w, pg.html(nonce)); err != nil {
		p.log.Debug("showing a page", "err", err) // the reader is gone
	}
}

// fail answers with what an error says, without secrets: it may repeat what a
// machine said.
func (p *Previews) fail(w http.ResponseWriter, r *http.Request, err error) {
	pg := page{status: http.StatusServiceUnavailable, title: "This port cannot be shown", text: p.runner.Redactor.String(err.Error())}
	switch errand.KindOf(err) {
	case errand.Invalid:
		pg.status = http.StatusBadRequest
	case errand.Forbidden:
		pg.status = http.StatusForbidden
	case errand.Limited:
		pg.status = http.StatusTooManyRequests
	case errand.Internal:
		if r.Context().Err() == nil {
			p.log.Error("preview failed", "error", err)
		}
		pg.status, pg.text = http.StatusInternalServerError, "The server's log says why."
	}
	p.say(w, r, pg)
}

// protect sets what keeps a page of ours from being more than shown. nonce is that
// of its style and script.
func protect(h http.Header, nonce string) {
	policy := "default-src 'none'; frame-ancestors 'none'; base-uri 'none'; form-action 'none'"
	if nonce != "" {
		policy += fmt.Sprintf("; style-src 'nonce-%s'; script-src 'nonce-%s'; connect-src 'self'", nonce, nonce)
	}
	h.Set("Content-Security-Policy", policy)
	h.Set("X-Content-Type-Options", "nosniff")
	h.Set("Referrer-Policy", "no-referrer")
	h.Set("Cache-Control", "no-store")
}

func showsPages(r *http.Request) bool {
	if mode := r.Header.Get("Sec-Fetch-Mode"); mode != "" {
		return mode == "navigate"
	}
	return strings.Contains(r.Header.Get("Accept"), "text/html")
}

var unknownName = page{
	status: http.StatusNotFound, title: "This is no preview's address",
	text: "A preview's host name begins with the port and the agent's id. Open one from the agent's page in the panel, or let this command list them:", lines: []string{"errand ports AGENT"},
}

func notOpened(t Target) page {
	return page{
		status: http.StatusUnauthorized, title: "This browser has not been let in here",
		text: "Previews are open to those who have a key. Open this one from the agent's page in the panel, or with this command:", lines: []string{openLine(t)},
	}
}

func usedUp(t Target) page {
	return page{
		status: http.StatusUnauthorized, title: "This address was used already, or is too old",
		text: "It lets one browser in, once, within a minute. Open the port again from the agent's page in the panel, or with this command:", lines: []string{openLine(t)},
	}
}

func gone(t Target) page {
	return page{status: http.StatusNotFound, title: "This agent is gone", text: fmt.Sprintf("Agent %s was deleted, and its machine with it.", t.Agent)}
}

func asleep(t Target) page {
	return page{status: http.StatusServiceUnavailable, title: "The machine sleeps", text: fmt.Sprintf("Load the page again to wake the machine of agent %s.", t.Agent)}
}

func silent(t Target) page {
	return page{
		status: http.StatusServiceUnavailable, title: fmt.Sprintf("Nothing listens on port %d yet", t.Port), waits: true,
		text:  "This page loads again by itself when something does. What listens in the machine, and what its terminals say:",
		lines: []string{"errand ports " + string(t.Agent), "errand show " + string(t.Agent)},
	}
}

func cut(t Target) page {
	return page{status: http.StatusBadGateway, title: "The connection broke", text: fmt.Sprintf("The program on port %d ended the connection without an answer that can be understood: it may have crashed, be starting, or speak no HTTP. Load the page again.", t.Port)}
}

func openLine(t Target) string { return fmt.Sprintf("errand ports %s --open %d", t.Agent, t.Port) }
