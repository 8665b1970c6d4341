package bench

import (
	"context"
	"crypto/ed25519"
	"crypto/rand"
	"encoding/pem"
	"fmt"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"time"

	"golang.org/x/crypto/ssh"

	"github.com/errand-dev/errand"
)

// measureSSH moves a file into a machine and out of it with OpenSSH's own
// programs, as they are without settings: by SFTP, and through a command.
func measureSSH(ctx context.Context, b *bench) error {
	for _, program := range []string{"ssh", "sftp"} {
		if _, err := exec.LookPath(program); err != nil {
			b.skip("ssh: %s is not in PATH.", program)
			return nil
		}
	}
	return b.eachAgent(ctx, "ssh", b.sshTo)
}

func (b *bench) sshTo(ctx context.Context, s *served, id errand.AgentID) error {
	dir, err := os.MkdirTemp(b.Dir, "ssh-client-")
	if err != nil {
		return err
	}
	defer os.RemoveAll(dir)
	settings, err := s.sshConfig(ctx, dir, id)
	if err != nil {
		return err
	}
	size, file := b.size(512), filepath.Join(dir, "file")
	if err := os.WriteFile(file, make([]byte, size*1e6), 0o600); err != nil {
		return err
	}
	for _, way := range []struct{ name, program, input string }{
		{"sftp, upload", "sftp -b - -F %s machine", "put " + file + " file\n"},
		{"sftp, download", "sftp -b - -F %s machine", "get file " + file + ".back\n"},
		{"into a command", "ssh -F %s machine cat >/dev/null", ""},
		{"out of a command", "ssh -n -F %s machine cat file", ""},
	} {
		args := strings.Fields(fmt.Sprintf(way.program, settings))
		rates := make([]float64, 5)
		for i := range rates {
			began := time.Now()
			if err := piped(ctx, args, way.input, file); err != nil {
				return err
			}
			rates[i] = float64(size) / time.Since(began).Seconds()
		}
		b.keep("ssh", way.name, s.engine, "MB/s", rates, fmt.Sprintf("%d MB; client and server on the same processors", size))
	}
	return nil
}

// piped runs a program with a text as its input, "" for that of a file. What it
// prints goes nowhere.
func piped(ctx context.Context, args []string, text, file string) error {
	cmd := exec.CommandContext(ctx, args[0], args[1:]...)
	cmd.Stdin = strings.NewReader(text)
	if text == "" {
		in, err := os.Open(file)
		if err != nil {
			return err
		}
		defer in.Close()
		cmd.Stdin = in
	}
	var complaints strings.Builder
	cmd.Stderr = &complaints
	if err := cmd.Run(); err != nil {
		return fmt.Errorf("%s: %w: %s", args[0], err, complaints.String())
	}
	return nil
}

// sshConfig has the server know a new key, and writes what the clients are to
// know of the agent's machine.
func (s *served) sshConfig(ctx context.Context, dir string, agent errand.AgentID) (file string, err error) {
	public, private, err := ed25519.GenerateKey(rand.Reader)
	if err != nil {
		return "", err
	}
	block, err := ssh.MarshalPrivateKey(private, "")
	if err != nil {
		return "", err
	}
	key, err := ssh.NewPublicKey(public)
	if err != nil {
		return "", err
	}
	if _, err := s.client.AddSSHKey(ctx, string(ssh.MarshalAuthorizedKey(key))); err != nil {
		return "", err
	}
	at, err := s.client.SSH(ctx)
	if err != nil {
		return "", err
	}
	host, port, err := net.SplitHostPort(at.Address)
	if err != nil {
		return "", fmt.Errorf("the server's address for ssh: %w", err)
	}
	in := func(name string) string { return filepath.Join(dir, name) }
	for name, text := range map[string]string{
		"key":   string(pem.EncodeToMemory(block)),
		"known": "[" + host + "]:" + port + " " + at.HostKey + "\n",
		"config": "Host machine\nHostName " + host + "\nPort " + port + "\nUser " + string(agent) + "\nBatchMode yes\n" +
			"IdentitiesOnly yes\nIdentityFile " + in("key") + "\nUserKnownHostsFile " + in("known") + "\n",
	} {
		if err := os.WriteFile(in(name), []byte(text), 0o600); err != nil {
			return "", err
		}
	}
	return in("config"), nil
}
