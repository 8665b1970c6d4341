package sshd

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"slices"
	"sync"
	"time"

	"golang.org/x/crypto/ssh"
	"golang.org/x/sys/cpu"

	"github.com/errand-dev/errand"
	"github.com/errand-dev/errand/auth"
	"github.com/errand-dev/errand/runner"
)

// Bounds of what one who connects may take.
const (
	handshakeLimit = 20 * time.Second
	maxConnections = 256 // at once, those that have not shown a key yet included
	maxChannels    = 128 // of a connection at once
)

// Options are what a Server needs.
type Options struct {
	Runner  *runner.Runner
	Keys    *auth.Keys
	HostKey ssh.Signer // from HostKey
	Log     *slog.Logger
}

// Server takes people's connections. It may be used from many goroutines.
type Server struct {
	Options
	config *ssh.ServerConfig
}

// New makes a server that takes nobody yet.
func New(o Options) *Server {
	s := &Server{Options: o}
	s.config = &ssh.ServerConfig{
		ServerVersion: "SSH-2.0-Errand",
		PublicKeyCallback: func(_ ssh.ConnMetadata, key ssh.PublicKey) (*ssh.Permissions, error) {
			ctx, cancel := context.WithTimeout(context.Background(), handshakeLimit)
			defer cancel()
			who, grant, err := s.Keys.CheckSSHKey(ctx, key)
			if err != nil && errand.KindOf(err) != errand.Unauthorized {
				s.Log.Error("checking an ssh key", "err", err)
			}
			return &ssh.Permissions{CriticalOptions: grant.Critical(), ExtraData: map[any]any{callerKey{}: who, grantKey{}: grant}}, err
		},
	}
	s.config.Ciphers = ciphers()
	s.config.AddHostKey(o.HostKey)
	return s
}

// ciphers gives those that are offered. A client's order decides, and OpenSSH
// begins with ChaCha20, which is many times slower here than AES is on a
// processor that has instructions for it: there it is left out.
func ciphers() []string {
	all := ssh.SupportedAlgorithms().Ciphers
	if x, arm := cpu.X86, cpu.ARM64; x.HasAES && x.HasPCLMULQDQ || arm.HasAES && arm.HasPMULL {
		all = slices.DeleteFunc(all, func(name string) bool { return name == ssh.CipherChaCha20Poly1305 })
	}
	return all
}

type (
	callerKey struct{}
	grantKey  struct{}
)

// Serve takes connections until ctx ends, and then ends those that there are.
func (s *Server) Serve(ctx context.Context, l net.Listener) error {
	stop := context.AfterFunc(ctx, func() { l.Close() })
	defer stop()
	var all sync.WaitGroup
	defer all.Wait()
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	places := make(chan struct{}, maxConnections)
	for {
		conn, err := l.Accept()
		if ctx.Err() != nil {
			return nil
		}
		if err != nil {
			return fmt.Errorf("taking ssh connections: %w", err)
		}
		select {
		case places <- struct{}{}:
			all.Go(func() {
				defer func() { <-places }()
				s.serve(ctx, conn)
			})
		default:
			s.Log.Warn("refused an ssh connection: there are too many", "most", maxConnections)
			conn.Close()
		}
	}
}

// serve serves one connection until it ends.
func (s *Server) serve(ctx context.Context, raw net.Conn) {
	defer raw.Close()
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	defer context.AfterFunc(ctx, func() { raw.Close() })()
	if err := raw.SetDeadline(time.Now().Add(handshakeLimit)); err != nil {
		return
	}
	conn, channels, requests, err := ssh.NewServerConn(raw, s.config)
	if err != nil {
		s.Log.Debug("no ssh connection", "from", raw.RemoteAddr(), "err", err)
		return
	}
	if err := raw.SetDeadline(time.Time{}); err != nil {
		return
	}
	who, _ := conn.Permissions.ExtraData[callerKey{}].(errand.Caller)
	grant, _ := conn.Permissions.ExtraData[grantKey{}].(auth.SSHGrant)
	v := &visitor{Server: s, who: who, grant: grant, name: conn.User(), conn: conn, places: make(chan struct{}, maxChannels)}
	s.Log.Debug("ssh connection", "agent", v.name, "who", who.Person())
	var all sync.WaitGroup
	defer func() {
		cancel()
		all.Wait()
		v.unlisten() // when nobody can listen any more
	}()
	all.Go(func() { v.global(ctx, requests) })
	for c := range channels {
		select {
		case v.places <- struct{}{}:
			all.Go(func() {
				defer func() { <-v.places }()
				v.open(ctx, c)
			})
		default:
			_ = c.Reject(ssh.ResourceShortage, "too many channels at once") // the connection's end is seen by the loop
		}
	}
}

// visitor is one person's connection.
type visitor struct {
	*Server
	who    errand.Caller
	grant  auth.SSHGrant
	name   string // of the agent, as it was typed
	conn   *ssh.ServerConn
	places chan struct{} // of channels

	mu     sync.Mutex
	remote map[int]func() // ports that are listened on in the machine, with what ends them
}

// agent finds the agent that the visitor named. To somebody with a key it says
// what is wrong with the name.
func (v *visitor) agent(ctx context.Context) (errand.AgentID, error) {
	id, err := errand.ParseAgentID(v.name)
	if err != nil {
		return "", errand.Errorf(errand.NotFound, "agent_not_found", "%q is no agent. The name before the @ is an agent's id, as `errand ls` shows it.", v.name)
	}
	_, err = v.Runner.Agent(ctx, v.who, id)
	return id, err
}

// open serves what a client opens.
func (v *visitor) open(ctx context.Context, c ssh.NewChannel) {
	switch c.ChannelType() {
	case "session":
		v.session(ctx, c)
	case "direct-tcpip", "direct-streamlocal@openssh.com":
		v.forward(ctx, c)
	default:
		_ = c.Reject(ssh.UnknownChannelType, "only sessions and forwarded ports are known here")
	}
}

// said gives an error as a person reads it.
func said(err error) string {
	if e := (*errand.Error)(nil); errors.As(err, &e) && e.Output != "" {
		return e.Message + "\r\n" + e.Output
	}
	return err.Error()
}
