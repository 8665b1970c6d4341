package preview

import (
	"fmt"
	"net"
	"net/netip"
	"net/url"
	"strconv"
	"strings"

	"github.com/errand-dev/errand"
)

// Target is a port of an agent's machine.
type Target struct {
	Agent errand.AgentID
	Port  int
}

// label gives the target's part of a host name.
func (t Target) label() string {
	return strconv.Itoa(t.Port) + "--" + strings.TrimPrefix(string(t.Agent), "bc-")
}

// parseLabel reads what label gives.
func parseLabel(s string) (Target, bool) {
	number, id, ok := strings.Cut(s, "--")
	port, err := strconv.ParseUint(number, 10, 16)
	if !ok || err != nil || port == 0 {
		return Target{}, false
	}
	agent, err := errand.ParseAgentID("bc-" + id)
	t := Target{agent, int(port)}
	return t, err == nil && t.label() == s // one name for each, as one cookie is
}

// thing is what a pass to the target is for.
func (t Target) thing() string { return fmt.Sprintf("port %d of %s", t.Port, t.Agent) }

// loopback is the domain that is this machine's own in every browser.
const loopback = "localhost"

// names are the host names of previews.
type names struct {
	server *url.URL // how people reach the server
	domain string   // under which all names are previews'; "" is none
	port   string   // of previews under domain; "" is the scheme's
}

// newNames checks a domain, "" for none, against the server's own name: what lies
// under the other could set its cookies.
func newNames(server, domain string) (names, error) {
	at, err := url.Parse(server)
	if err != nil {
		return names{}, fmt.Errorf("reading the server's URL: %w", err)
	}
	n := names{server: at}
	if domain == "" {
		return n, nil
	}
	host, port, err := net.SplitHostPort(domain)
	if err != nil {
		host, port = domain, at.Port()
	}
	n.domain, n.port = strings.Trim(strings.ToLower(host), "."), port
	own := strings.ToLower(at.Hostname())
	_, notPort := strconv.ParseUint(port, 10, 16)
	_, isAddress := netip.ParseAddr(n.domain)
	switch {
	case n.domain == "" || port != "" && notPort != nil || isAddress == nil || strings.ContainsAny(n.domain, "/:@*? "):
		return names{}, errand.Errorf(errand.Invalid, "validation_error", "%q is no domain for previews. It looks like previews.example.net, and all names under it must lead here: *.previews.example.net.", domain)
	case within(own, n.domain) || within(n.domain, own):
		return names{}, errand.Errorf(errand.Invalid, "validation_error", "Previews under %s and the server at %s would share cookies. Give previews a domain that neither contains the server's name nor lies under it.", n.domain, own)
	}
	return n, nil
}

// within says whether name is domain or lies under it.
func within(name, domain string) bool {
	return name == domain || strings.HasSuffix(name, "."+domain)
}

// find says whether a request's host is a preview's, and of which target. One of a
// name that is none of any agent's is not ok.
func (n names) find(host string) (t Target, is, ok bool) {
	if name, _, err := net.SplitHostPort(host); err == nil {
		host = name
	}
	host = strings.TrimSuffix(strings.ToLower(host), ".")
	if n.domain != "" && within(host, n.domain) {
		t, ok = parseLabel(strings.TrimSuffix(host, "."+n.domain))
		return t, true, ok
	}
	label, isLocal := strings.CutSuffix(host, "."+loopback)
	if !isLocal || !strings.Contains(label, "--") {
		return Target{}, false, false
	}
	t, ok = parseLabel(label)
	return t, true, ok
}

// origin gives where a target is looked at by somebody who reaches the server as
// host.
func (n names) origin(host string, t Target) (string, error) {
	if n.domain != "" {
		return n.server.Scheme + "://" + hostPort(t.label()+"."+n.domain, n.port), nil
	}
	name, port, err := net.SplitHostPort(host)
	if err != nil {
		name, port = host, ""
	}
	if !isLoopback(name) {
		return "", errand.Errorf(errand.Unavailable, "no_preview_domain", "This server has no name under which browsers elsewhere could look at a port. Forward it: errand port %s %d; or start the server with --preview-domain, see docs/take-over.md.", t.Agent, t.Port)
	}
	scheme := "http"
	if host == n.server.Host {
		scheme = n.server.Scheme
	}
	return scheme + "://" + hostPort(t.label()+"."+loopback, port), nil
}

func hostPort(name, port string) string {
	if port == "" {
		return name
	}
	return net.JoinHostPort(name, port)
}

// isLoopback says whether a host, as a browser is told it, is the browser's own
// machine.
func isLoopback(name string) bool {
	name = strings.ToLower(strings.Trim(name, "[]"))
	addr, err := netip.ParseAddr(name)
	return err == nil && addr.IsLoopback() || within(name, loopback)
}

// secure says whether browsers reach a preview's host by TLS.
func (n names) secure(host string) bool {
	if n.server.Scheme != "https" {
		return false
	}
	name := host
	if h, _, err := net.SplitHostPort(host); err == nil {
		name = h
	}
	return n.domain != "" && within(strings.ToLower(name), n.domain)
}
