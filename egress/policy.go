package egress

import (
	"fmt"
	"net/netip"
	"slices"
	"strconv"
	"strings"

	"golang.org/x/net/idna"

	"github.com/errand-dev/errand"
)

// Mode says what happens to a connection that no rule names.
type Mode string

const (
	// Open lets it through. It is what "" means.
	Open Mode = "open"
	// Listed refuses it.
	Listed Mode = "listed"
)

// Policy says which hosts a machine may reach. The zero value is Open without
// rules: everything but refused classes of address.
//
// A rule is a host and perhaps a port: "example.com" (that name alone),
// "*.example.com" (every name below it), "*", an IP address or a range such as
// "192.0.2.0/24", each with ":443" behind it or not; an IPv6 address with a
// port is written "[2001:db8::1]:443".
type Policy struct {
	Mode Mode
	// Allow lists what Listed lets through. With Open it means nothing.
	Allow []string
	// Deny is refused in either mode, whatever Allow says.
	Deny []string
	// Private lists ranges that are let through although their class is refused
	// (as Options.Private, for this machine). Whoever sets it gives access to
	// the server's own network: it must come from the server's configuration,
	// never from a repository.
	Private []netip.Prefix
}

// Check says whether the policy can be used: a rule that cannot be read is an
// *errand.Error of kind Invalid that names it.
func (p Policy) Check() error {
	_, err := compile(p)
	return err
}

// rule is one readable rule. Exactly one of name and prefix is set.
type rule struct {
	text   string
	name   string // "example.com", "*.example.com" or "*"
	prefix netip.Prefix
	port   uint16 // 0: any
}

func (r rule) matchesName(name string, port uint16) bool {
	if r.name == "" || name == "" || r.port != 0 && r.port != port {
		return false
	}
	if suffix, ok := strings.CutPrefix(r.name, "*"); ok {
		return strings.HasSuffix(name, suffix) && name != suffix
	}
	return r.name == name
}

func (r rule) matchesAddr(addr netip.Addr, port uint16) bool {
	if !addr.IsValid() || r.port != 0 && r.port != port {
		return false
	}
	return r.name == "*" || r.prefix.IsValid() && r.prefix.Contains(unwrap(addr))
}

// rules are a policy made ready: the one place that decides.
type rules struct {
	mode  Mode
	allow []rule
	deny  []rule
	guard guard
}

// refusal is why something is refused, as a sentence for the machine and for
// the record. "" is no refusal.
type refusal string

func (r refusal) Error() string { return string(r) }

func (g *Gate) compile(p Policy) (*rules, error) {
	r, err := compile(p)
	if err != nil {
		return nil, err
	}
	r.guard = guard{private: slices.Concat(g.private, p.Private), host: &g.host}
	return r, nil
}

func compile(p Policy) (*rules, error) {
	r := &rules{mode: p.Mode}
	switch p.Mode {
	case Open, Listed:
	case "":
		r.mode = Open
	default:
		return nil, errand.Errorf(errand.Invalid, "invalid_egress_mode", "egress mode %q is not known; use %q or %q", p.Mode, Open, Listed)
	}
	for _, set := range []struct {
		texts []string
		to    *[]rule
	}{{p.Allow, &r.allow}, {p.Deny, &r.deny}} {
		for _, text := range set.texts {
			one, err := parseRule(text)
			if err != nil {
				return nil, errand.Errorf(errand.Invalid, "invalid_egress_rule",
					"the egress rule %q cannot be read (%w); write a host such as example.com, *.example.com, 192.0.2.1 or 192.0.2.0/24, with :443 behind it for one port", text, err)
			}
			*set.to = append(*set.to, one)
		}
	}
	return r, nil
}

func parseRule(text string) (rule, error) {
	host, port, err := splitRule(strings.TrimSpace(text))
	if err != nil {
		return rule{}, err
	}
	r := rule{text: text, port: port}
	if p, err := netip.ParsePrefix(host); err == nil {
		r.prefix = p.Masked()
		return r, nil
	}
	if a, err := netip.ParseAddr(host); err == nil {
		a = a.Unmap()
		r.prefix = netip.PrefixFrom(a, a.BitLen())
		return r, nil
	}
	if host == "*" {
		r.name = host
		return r, nil
	}
	base := strings.TrimPrefix(host, "*.")
	ascii, err := idna.Lookup.ToASCII(strings.TrimSuffix(base, "."))
	if err != nil || !isName(ascii) {
		return rule{}, fmt.Errorf("%q is not a host", host)
	}
	r.name = strings.TrimSuffix(host, base) + strings.ToLower(ascii)
	return r, nil
}

// splitRule parts a rule's host from its port, which is 0 where there is none.
func splitRule(text string) (string, uint16, error) {
	host, port := text, ""
	if rest, ok := strings.CutPrefix(text, "["); ok {
		end := strings.IndexByte(rest, ']')
		if end < 0 {
			return "", 0, fmt.Errorf("a ] is missing")
		}
		host, port = rest[:end], rest[end+1:]
		if port != "" && !strings.HasPrefix(port, ":") {
			return "", 0, fmt.Errorf("%q is not a port", port)
		}
		port = strings.TrimPrefix(port, ":")
	} else if strings.Count(text, ":") == 1 {
		host, port, _ = strings.Cut(text, ":")
	}
	if host == text || port == "" && strings.HasSuffix(text, "]") {
		return host, 0, nil
	}
	n, err := strconv.ParseUint(port, 10, 16)
	if err != nil || n == 0 {
		return "", 0, fmt.Errorf("%q is not a port", port)
	}
	return host, uint16(n), nil
}

// isName says whether s can be a host's name: what a lookup may be made for.
func isName(s string) bool {
	if s == "" || len(s) > 253 {
		return false
	}
	for label := range strings.SplitSeq(s, ".") {
		if label == "" || len(label) > 63 {
			return false
		}
		for i := range len(label) {
			c := label[i]
			if !(c >= 'a' && c <= 'z' || c >= 'A' && c <= 'Z' || c >= '0' && c <= '9' || c == '-' || c == '_') {
				return false
			}
		}
	}
	return true
}

// canonical gives a name as rules and the memory of names hold it.
func canonical(name string) string {
	return strings.ToLower(strings.TrimSuffix(name, "."))
}

// strict says whether names decide, so that what a client claims must be seen
// before its bytes go on, and must be true.
func (r *rules) strict() bool {
	return r.mode == Listed || slices.ContainsFunc(r.deny, func(d rule) bool { return d.name != "" && d.name != "*" })
}

// judgeClass refuses addresses by their class.
func (r *rules) judgeClass(addr netip.Addr) refusal {
	if words := r.guard.judge(addr); words != "" {
		return refusal(fmt.Sprintf("%s is %s, which a machine may not reach.", addr, words))
	}
	return ""
}

// judgeDenied refuses an address that the deny list names.
func (r *rules) judgeDenied(addr netip.Addr, port uint16) refusal {
	return r.denied("", addr, port)
}

func (r *rules) denied(name string, addr netip.Addr, port uint16) refusal {
	for _, d := range r.deny {
		if d.matchesName(name, port) || d.matchesAddr(addr, port) {
			return refusal(fmt.Sprintf("%s is refused by the rule %q of this environment's deny list.", asked(name, addr, port), d.text))
		}
	}
	return ""
}

// judge decides by the lists about a name, an address, or both (a client that
// asks for name at addr). Without a name, name is ""; without an address, addr
// is the zero Addr.
func (r *rules) judge(name string, addr netip.Addr, port uint16) refusal {
	if no := r.denied(name, addr, port); no != "" {
		return no
	}
	if r.mode == Open || r.allowsAddr(addr, port) {
		return ""
	}
	if slices.ContainsFunc(r.allow, func(a rule) bool { return a.matchesName(name, port) }) {
		return ""
	}
	return refusal(fmt.Sprintf("%s is not on this environment's allow list.", asked(name, addr, port)))
}

// judgeKnown decides about an address by the names that the machine resolved to
// it, the last first, and gives the one that decided.
func (r *rules) judgeKnown(known []string, addr netip.Addr, port uint16) (string, refusal) {
	last := firstOf(known)
	no := r.judge(last, addr, port)
	if r.mode == Listed && no != "" {
		for _, name := range known {
			if r.judge(name, addr, port) == "" {
				return name, ""
			}
		}
	}
	return last, no
}

// judgeLookup decides about a name whose port is not known yet.
func (r *rules) judgeLookup(name string) refusal {
	for _, d := range r.deny {
		if d.port == 0 && d.matchesName(name, 0) {
			return refusal(fmt.Sprintf("%s is refused by the rule %q of this environment's deny list.", name, d.text))
		}
	}
	if r.mode == Open || slices.ContainsFunc(r.allow, func(a rule) bool { return a.matchesName(name, a.port) }) {
		return ""
	}
	return refusal(fmt.Sprintf("%s is not on this environment's allow list.", name))
}

// allowsAddr says whether the allow list names the address itself, so that it
// does not matter which name is asked for there.
func (r *rules) allowsAddr(addr netip.Addr, port uint16) bool {
	return r.mode == Listed && slices.ContainsFunc(r.allow, func(a rule) bool { return a.matchesAddr(addr, port) })
}

// mayName says whether a name yet unknown could be let through on port.
func (r *rules) mayName(port uint16) bool {
	return r.mode == Open || slices.ContainsFunc(r.allow, func(a rule) bool {
		return a.name != "" && (a.port == 0 || a.port == port)
	})
}

func asked(name string, addr netip.Addr, port uint16) string {
	host := name
	if host == "" && addr.IsValid() {
		host = addr.String()
	}
	if strings.Contains(host, ":") {
		host = "[" + host + "]"
	}
	return fmt.Sprintf("%s:%d", host, port)
}
