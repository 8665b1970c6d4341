package cli

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"net"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"syscall"

	"golang.org/x/crypto/ssh"

	"github.com/errand-dev/errand/auth"
	"github.com/errand-dev/errand/server"
	"github.com/errand-dev/errand/server/sshd"
)

// Where ssh is listened for, and files of the data directory.
const (
	firstSSHPort = 7022
	sshPortFile  = "ssh.port" // the port that was found once, so that clients find it again
	hostKeyFile  = "ssh_host_key"
	linkKeyFile  = "link.key"
	noSSH        = "off"
)

// walkIn is the server's side that takes ssh. Its zero value takes none.
type walkIn struct {
	at       server.SSH
	listener net.Listener
	sshd     *sshd.Server
}

// openSSH listens for ssh as o says; http is where the server itself listens.
func (a *assembly) openSSH(ctx context.Context, o ServeOptions, http net.Addr, keys *auth.Keys) (walkIn, error) {
	if o.SSH == noSSH {
		return walkIn{}, nil
	}
	key, err := sshd.HostKey(filepath.Join(o.Data, hostKeyFile))
	if err != nil {
		return walkIn{}, err
	}
	var l net.Listener
	if o.SSH != "" {
		l, err = listen(ctx, o.SSH)
	} else {
		l, err = listenBeside(ctx, http, filepath.Join(o.Data, sshPortFile))
	}
	if err != nil {
		return walkIn{}, err
	}
	return walkIn{
		at:       server.SSH{Address: l.Addr().String(), HostKey: strings.TrimSpace(string(ssh.MarshalAuthorizedKey(key.PublicKey())))},
		listener: l, sshd: sshd.New(sshd.Options{Runner: a.runner, Keys: keys, HostKey: key, Log: a.log}),
	}, nil
}

// listenBeside listens on the host of another address, at the port that file
// holds, or at a free one that it holds from then on.
func listenBeside(ctx context.Context, beside net.Addr, file string) (net.Listener, error) {
	host, _, err := net.SplitHostPort(beside.String())
	if err != nil {
		return nil, fmt.Errorf("listening for ssh: %w", err)
	}
	port := firstSSHPort
	text, err := os.ReadFile(file)
	if err != nil && !errors.Is(err, fs.ErrNotExist) {
		return nil, fmt.Errorf("reading which port ssh has: %w", err)
	}
	if n, err := strconv.ParseUint(strings.TrimSpace(string(text)), 10, 16); err == nil {
		port = int(n)
	}
	l, err := new(net.ListenConfig).Listen(ctx, "tcp", net.JoinHostPort(host, strconv.Itoa(port)))
	if errors.Is(err, syscall.EADDRINUSE) {
		l, err = new(net.ListenConfig).Listen(ctx, "tcp", net.JoinHostPort(host, "0"))
	}
	if err != nil {
		return nil, fmt.Errorf("listening for ssh: %w", err)
	}
	at, _ := l.Addr().(*net.TCPAddr)
	if err := writeWhole(file, strconv.Itoa(at.Port)+"\n"); err != nil {
		return nil, errors.Join(fmt.Errorf("keeping which port ssh has: %w", err), l.Close())
	}
	return l, nil
}

// serve takes connections until ctx ends.
func (w walkIn) serve(ctx context.Context) error {
	if w.listener == nil {
		return nil
	}
	return w.sshd.Serve(ctx, w.listener)
}

func (w walkIn) close() {
	if w.listener != nil {
		w.listener.Close() // closed already once it was served on
	}
}
