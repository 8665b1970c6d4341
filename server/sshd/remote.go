package sshd

import (
	"context"
	"encoding/binary"
	"math/rand/v2"
	"net"

	"golang.org/x/crypto/ssh"

	"github.com/errand-dev/errand/auth"
)

// maxRemote is on how many ports of a machine a connection may listen.
const maxRemote = 16

// listenRequest is the payload of what asks to listen, or no more: RFC 4254
// section 7.1.
type listenRequest struct {
	Host string
	Port uint32
}

// global answers what a client asks of the connection as a whole.
func (v *visitor) global(ctx context.Context, requests <-chan *ssh.Request) {
	for r := range requests {
		ok, answer := false, []byte(nil)
		var at listenRequest
		switch {
		case r.Type == "tcpip-forward" && ssh.Unmarshal(r.Payload, &at) == nil:
			var port int
			if port, ok = v.listen(ctx, at); ok && at.Port == 0 {
				answer = binary.BigEndian.AppendUint32(nil, uint32(port))
			}
		case r.Type == "cancel-tcpip-forward" && ssh.Unmarshal(r.Payload, &at) == nil:
			ok = v.stop(int(at.Port))
		}
		if r.WantReply {
			_ = r.Reply(ok, answer) // the connection's end is seen by its channels
		}
	}
}

// listen has the machine listen, on its loopback whatever the client says: as
// sshd does unless told otherwise.
func (v *visitor) listen(ctx context.Context, at listenRequest) (port int, ok bool) {
	v.mu.Lock()
	defer v.mu.Unlock()
	id, err := v.agent(ctx)
	if err != nil || !v.grant.Allows(auth.PermitForwarding) || at.Port > 65535 || len(v.remote) >= maxRemote {
		return 0, false
	}
	tries := 1
	if at.Port == 0 {
		tries = 10 // any free one
	}
	for range tries {
		port = int(at.Port)
		if port == 0 {
			port = 20_000 + rand.IntN(10_000)
		}
		if v.remote[port] != nil {
			continue
		}
		stop, err := v.Runner.Forward(ctx, v.who, id, port, func(conn net.Conn) { v.hand(ctx, at.Host, port, conn) })
		if err == nil {
			if v.remote == nil {
				v.remote = map[int]func(){}
			}
			v.remote[port] = stop
			return port, true
		}
		v.Log.Debug("no forwarded port", "agent", id, "port", port, "err", err)
	}
	return 0, false
}

// hand passes a connection on to the client.
func (v *visitor) hand(ctx context.Context, host string, port int, conn net.Conn) {
	defer conn.Close()
	channel, requests, err := v.conn.OpenChannel("forwarded-tcpip", ssh.Marshal(tcpChannel{Host: host, Port: uint32(port), From: "127.0.0.1", FromPort: 1}))
	if err != nil {
		v.Log.Debug("the client takes no connection", "port", port, "err", err)
		return
	}
	go ssh.DiscardRequests(requests)
	join(ctx, channel, conn)
}

func (v *visitor) stop(port int) bool {
	v.mu.Lock()
	defer v.mu.Unlock()
	stop := v.remote[port]
	delete(v.remote, port)
	if stop != nil {
		stop()
	}
	return stop != nil
}

// unlisten ends all that the machine listens on for this connection.
func (v *visitor) unlisten() {
	v.mu.Lock()
	defer v.mu.Unlock()
	for _, stop := range v.remote {
		stop()
	}
	v.remote = nil
}
