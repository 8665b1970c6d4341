package sshd

import (
	"context"
	"errors"
	"io"
	"net"
	"strconv"
	"sync"

	"golang.org/x/crypto/ssh"

	"github.com/errand-dev/errand/auth"
	"github.com/errand-dev/errand/guest"
	"github.com/errand-dev/errand/presence"
)

// Payloads of forwarded channels: RFC 4254 section 7.2, OpenSSH's PROTOCOL 2.4.
type (
	tcpChannel struct {
		Host     string
		Port     uint32
		From     string
		FromPort uint32
	}
	unixChannel struct {
		Path     string
		Reserved string
		Zero     uint32
	}
)

// forward joins a channel with an address that is dialled from inside the
// machine, and so ends in the machine or takes its way out.
func (v *visitor) forward(ctx context.Context, c ssh.NewChannel) {
	if !v.grant.Allows(auth.PermitForwarding) {
		_ = c.Reject(ssh.Prohibited, "your certificate does not permit forwarded ports")
		return
	}
	address, ok := target(c)
	if !ok {
		_ = c.Reject(ssh.ConnectionFailed, "this is no address")
		return
	}
	id, err := v.agent(ctx)
	if err != nil {
		_ = c.Reject(ssh.Prohibited, said(err))
		return
	}
	conn, err := v.Runner.Dial(ctx, v.who, id, address)
	if err != nil {
		why := said(err)
		if errors.Is(err, guest.ErrRefused) {
			why = "nothing answers at " + address + " in the machine"
		}
		_ = c.Reject(ssh.ConnectionFailed, why)
		return
	}
	defer conn.Close()
	if port := portOf(address); port > 0 {
		defer v.Runner.Rooms.Use(id, presence.Person{Caller: v.who, Doing: presence.Port, Port: port})()
	}
	channel, requests, err := c.Accept()
	if err != nil {
		return
	}
	go ssh.DiscardRequests(requests)
	join(ctx, channel, conn)
}

// target gives where a channel is to go.
func target(c ssh.NewChannel) (address string, ok bool) {
	if c.ChannelType() != "direct-tcpip" {
		var to unixChannel
		err := ssh.Unmarshal(c.ExtraData(), &to)
		return "unix:" + to.Path, err == nil && to.Path != ""
	}
	var to tcpChannel
	err := ssh.Unmarshal(c.ExtraData(), &to)
	return net.JoinHostPort(to.Host, strconv.Itoa(int(to.Port))), err == nil && to.Port > 0 && to.Port <= 65535
}

// portOf gives the port of an address that has one, and 0 else.
func portOf(address string) int {
	_, port, err := net.SplitHostPort(address)
	if err != nil {
		return 0
	}
	n, err := strconv.Atoi(port)
	if err != nil {
		return 0 // a socket's path
	}
	return n
}

// join copies both ways until both have ended, or ctx has.
func join(ctx context.Context, channel ssh.Channel, conn net.Conn) {
	defer channel.Close()
	defer context.AfterFunc(ctx, func() { channel.Close(); conn.Close() })()
	var ways sync.WaitGroup
	ways.Go(func() {
		_, err := io.Copy(conn, channel)
		if half, ok := conn.(interface{ CloseWrite() error }); ok && err == nil {
			err = half.CloseWrite()
		}
		if err != nil {
			conn.Close()
		}
	})
	ways.Go(func() {
		if _, err := io.Copy(channel, conn); err != nil {
			channel.Close() // the end is no end of what was to be said
			return
		}
		_ = channel.CloseWrite()
	})
	ways.Wait()
}
