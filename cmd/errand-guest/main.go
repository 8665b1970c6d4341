// Command errand-guest is the program that Errand puts into a machine.
//
//	errand-guest init       be the machine's first process
//	errand-guest connect    carry stdin and stdout to it, for a driver
//	errand-guest exec       run a command as a user, for terminals
//	errand-guest tend       the same, and again when it crashes
//	errand-guest sftp       serve files to a person who came by ssh
//	errand-guest files      change, pack, unpack or watch files for the server
//
// It only wires: package inside is what it does.
package main

import (
	"context"
	"flag"
	"fmt"
	"log/slog"
	"os"
	"os/signal"
	"syscall"

	"github.com/errand-dev/errand/guest/inside"
	"github.com/errand-dev/errand/guest/inside/files"
)

const (
	socketEnv     = "ERRAND_GUEST_SOCKET"
	defaultSocket = "/run/errand/guest.sock"
)

func main() {
	if err := run(os.Args[1:]); err != nil {
		fmt.Fprintln(os.Stderr, "errand-guest:", err)
		os.Exit(1)
	}
}

func run(args []string) error {
	if len(args) == 0 {
		return fmt.Errorf("say init, connect, exec, tend, sftp or files")
	}
	switch args[0] {
	case "exec":
		return inside.Exec(args[1:])
	case "sftp":
		return inside.SFTP(args[1:])
	case "files":
		return files.Main(args[1:], os.Stdin, os.Stdout)
	case "tend":
		code, err := inside.Tend(args[1:])
		if err == nil {
			os.Exit(code)
		}
		return err
	}
	socket := defaultSocket
	if s := os.Getenv(socketEnv); s != "" {
		socket = s
	}
	flags := flag.NewFlagSet(args[0], flag.ContinueOnError)
	flags.StringVar(&socket, "socket", socket, "the guest's Unix socket; also $"+socketEnv)
	if err := flags.Parse(args[1:]); err != nil {
		return err
	}
	os.Unsetenv(socketEnv)
	switch args[0] {
	case "init":
		ctx, stop := signal.NotifyContext(context.Background(), syscall.SIGTERM, syscall.SIGINT)
		defer stop()
		log := slog.New(slog.NewTextHandler(os.Stderr, nil))
		return inside.Init(ctx, inside.Options{Socket: socket, Log: log})
	case "connect":
		return inside.Connect(socket, os.Stdin, os.Stdout)
	}
	return fmt.Errorf("%q is neither init, connect, exec, tend, sftp nor files", args[0])
}
