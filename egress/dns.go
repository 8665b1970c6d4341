package egress

import (
	"context"
	"net"
	"net/netip"
	"strings"
	"time"

	"github.com/miekg/dns"
)

const dnsPort = 53

// answer answers one question of the machine. Names that the policy refuses do
// not exist, with the reason as an extended error; addresses that a machine may
// not reach are left out, so that a program fails at once with the name in its
// message. It returns nil for what is no question.
func (n *Network) answer(ctx context.Context, q *dns.Msg) *dns.Msg {
	if q.Response || len(q.Question) != 1 {
		return nil
	}
	m := new(dns.Msg).SetReply(q)
	m.RecursionAvailable = true
	m.Compress = true
	asked := q.Question[0]
	if q.Opcode != dns.OpcodeQuery || asked.Qclass != dns.ClassINET {
		m.Rcode = dns.RcodeNotImplemented
		return m
	}
	name := canonical(asked.Name)
	if asked.Qtype == dns.TypePTR {
		n.answerPointer(m, name)
		return m
	}
	if isLocalName(name) || !isName(name) {
		n.answerLocal(m, name)
		return m
	}
	r := n.rules.Load()
	if no := r.judgeLookup(name); no != "" {
		n.refuseLookup(q, m, name, no)
		return m
	}
	n.answerAddresses(ctx, q, m, r, name)
	return m
}

// answerAddresses answers with the addresses of name that may be reached. Other
// types than A have no answer: the machine has no IPv6, and what a program
// could learn from them it does not need to connect.
func (n *Network) answerAddresses(ctx context.Context, q, m *dns.Msg, r *rules, name string) {
	addrs, err := n.gate.resolve.addresses(ctx, name)
	switch {
	case err != nil && notFound(err):
		m.Rcode = dns.RcodeNameError
		return
	case err != nil:
		n.gate.log.Debug("resolving for a machine", "name", name, "err", err)
		m.Rcode = dns.RcodeServerFailure
		return
	}
	var reached []netip.Addr
	var no refusal
	for _, a := range addrs {
		if why := r.judgeClass(a); why != "" {
			no = refusal(name + " has the address " + string(why))
			continue
		}
		if a.Is4() {
			reached = append(reached, a)
		}
	}
	if len(reached) == 0 && no != "" {
		n.refuseLookup(q, m, name, no)
		return
	}
	n.names.learn(name, reached)
	if q.Question[0].Qtype != dns.TypeA {
		return
	}
	for _, a := range reached {
		m.Answer = append(m.Answer, &dns.A{
			Hdr: dns.RR_Header{Name: q.Question[0].Name, Rrtype: dns.TypeA, Class: dns.ClassINET, Ttl: uint32(answerTTL / time.Second)},
			A:   a.AsSlice(),
		})
	}
}

// answerPointer gives the name that the machine itself resolved to an address.
func (n *Network) answerPointer(m *dns.Msg, name string) {
	m.Rcode = dns.RcodeNameError
	octets := strings.Split(strings.TrimSuffix(name, ".in-addr.arpa"), ".")
	if len(octets) != 4 || !strings.HasSuffix(name, ".in-addr.arpa") {
		return
	}
	addr, err := netip.ParseAddr(octets[3] + "." + octets[2] + "." + octets[1] + "." + octets[0])
	if err != nil {
		return
	}
	for _, known := range n.names.of(addr) {
		m.Rcode = dns.RcodeSuccess
		m.Answer = append(m.Answer, &dns.PTR{
			Hdr: dns.RR_Header{Name: m.Question[0].Name, Rrtype: dns.TypePTR, Class: dns.ClassINET, Ttl: uint32(answerTTL / time.Second)},
			Ptr: dns.Fqdn(known),
		})
		return
	}
}

// answerLocal answers for names without a dot: localhost is the machine, the
// others are names of the server's network and do not exist here.
func (n *Network) answerLocal(m *dns.Msg, name string) {
	if name != "localhost" && !strings.HasSuffix(name, ".localhost") {
		m.Rcode = dns.RcodeNameError
		return
	}
	if m.Question[0].Qtype == dns.TypeA {
		m.Answer = append(m.Answer, &dns.A{
			Hdr: dns.RR_Header{Name: m.Question[0].Name, Rrtype: dns.TypeA, Class: dns.ClassINET, Ttl: uint32(answerTTL / time.Second)},
			A:   net.IPv4(127, 0, 0, 1),
		})
	}
}

// refuseLookup makes m say that name does not exist because of no. It is
// NXDOMAIN rather than REFUSED: programs take REFUSED for a fault that passes
// and ask again for a long time.
func (n *Network) refuseLookup(q, m *dns.Msg, name string, no refusal) {
	m.Rcode = dns.RcodeNameError
	if opt := q.IsEdns0(); opt != nil {
		m.SetEdns0(opt.UDPSize(), false)
		own := m.IsEdns0()
		own.Option = append(own.Option, &dns.EDNS0_EDE{InfoCode: dns.ExtendedErrorCodeBlocked, ExtraText: string(no)})
	}
	f := n.newFlow("udp", n.gateway, dnsPort)
	f.name(name)
	f.fail(no)
	f.end()
}

// serveDatagrams answers the questions that one socket of the machine sends to
// port 53, until it is silent.
func (n *Network) serveDatagrams(ctx context.Context, conn net.Conn) {
	b := make([]byte, 4096)
	for {
		conn.SetReadDeadline(time.Now().Add(lookupTimeLimit))
		size, err := conn.Read(b)
		if err != nil {
			return
		}
		q := new(dns.Msg)
		if q.Unpack(b[:size]) != nil {
			continue
		}
		// Resolvers send the questions for A and AAAA at once from one socket
		// and wait for both.
		if !n.start(func() { n.answerDatagram(ctx, conn, q) }) {
			return
		}
	}
}

func (n *Network) answerDatagram(ctx context.Context, conn net.Conn, q *dns.Msg) {
	m := n.answer(ctx, q)
	if m == nil {
		return
	}
	limit := dns.MinMsgSize
	if opt := q.IsEdns0(); opt != nil {
		limit = max(limit, int(opt.UDPSize()))
	}
	m.Truncate(limit)
	if out, err := m.Pack(); err == nil {
		conn.Write(out) // a lost answer is asked for again
	}
}

// serveStream answers questions over TCP, one after the other.
func (n *Network) serveStream(ctx context.Context, conn net.Conn) {
	c := &dns.Conn{Conn: conn}
	for {
		conn.SetDeadline(time.Now().Add(lookupTimeLimit + n.gate.firstTimeout))
		q, err := c.ReadMsg()
		if err != nil {
			return
		}
		m := n.answer(ctx, q)
		if m == nil || c.WriteMsg(m) != nil {
			return
		}
	}
}
