package cli

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"net/http"
	"net/netip"
	"os"
	"os/exec"
	"path/filepath"
	"runtime/debug"
	"strings"
	"syscall"
	"time"

	"github.com/spf13/cobra"
	"golang.org/x/sync/errgroup"

	"github.com/errand-dev/errand"
	"github.com/errand-dev/errand/api"
	"github.com/errand-dev/errand/auth"
	"github.com/errand-dev/errand/egress"
	"github.com/errand-dev/errand/machine"
	"github.com/errand-dev/errand/server"
	"github.com/errand-dev/errand/server/files"
)

// serving is what `errand serve --json` prints when it is ready.
type serving struct {
	URL  string `json:"url"`
	Data string `json:"data"`
	Key  string `json:"key,omitempty"` // only at the first start
}

// serve runs the server until ctx ends, and then lets what is under way stop at
// a point from which the next start goes on.
func (a *app) serve(ctx context.Context, o ServeOptions) (err error) {
	if o.Data, err = filepath.Abs(o.Data); err != nil {
		return fmt.Errorf("finding the data directory: %w", err)
	}
	if a.getenv("GOGC") == "" {
		// A server waits more than it computes, and lies beside the machines that
		// want the memory: 4 MB less with a hundred agents that have done a run.
		debug.SetGCPercent(50)
	}
	parts, err := assemble(ctx, a.wiring, o, a.getenv)
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, parts.Close()) }()
	listener, err := listen(ctx, o.Listen)
	if err != nil {
		return err
	}
	defer listener.Close() // closed already once it was served on
	keys := auth.Open(parts.store)
	keys.Log = parts.log
	ready := serving{URL: localURL(listener.Addr()), Data: o.Data}
	if ready.Key, err = firstKey(ctx, keys, o.Data); err != nil {
		return err
	}
	walk, err := parts.openSSH(ctx, o, listener.Addr(), keys)
	if err != nil {
		return err
	}
	defer walk.close()
	links, err := files.OpenLinks(filepath.Join(o.Data, linkKeyFile))
	if err != nil {
		return err
	}
	handler, err := server.New(parts.serverOptions(o, a.wiring.Panel, keys, links, ready.URL, walk.at, a.version))
	if err != nil {
		return err
	}
	path := filepath.Join(o.Data, urlFile)
	if err := writeWhole(path, ready.URL+"\n"); err != nil {
		return fmt.Errorf("writing %s: %w", path, err)
	}
	defer os.Remove(path)
	if err := a.tellReady(ready, listener.Addr()); err != nil {
		return err
	}
	work, ctx := errgroup.WithContext(ctx)
	work.Go(func() error { return parts.runner.Run(ctx) })
	work.Go(func() error { return parts.setups.Run(ctx) })
	work.Go(func() error { return walk.serve(ctx) })
	work.Go(func() error { return serveHTTP(ctx, listener, handler, handler.Stop, parts.log) })
	return work.Wait()
}

// writeWhole writes a small file so that no reader sees half of it.
func writeWhole(path, text string) error {
	if err := os.WriteFile(path+".new", []byte(text), 0o644); err != nil {
		return err
	}
	return os.Rename(path+".new", path)
}

func listen(ctx context.Context, address string) (net.Listener, error) {
	l, err := new(net.ListenConfig).Listen(ctx, "tcp", address)
	switch {
	case errors.Is(err, syscall.EADDRINUSE):
		return nil, errand.Errorf(errand.Conflict, "address_in_use", "Something listens on %s already: perhaps another Errand server. Stop it, or choose another address with --listen.", address)
	case err != nil:
		return nil, errand.Errorf(errand.Invalid, "validation_error", "Cannot listen on %s: %w. --listen wants HOST:PORT.", address, err)
	}
	return l, nil
}

// localURL is how this machine reaches a listener.
func localURL(addr net.Addr) string {
	at, err := netip.ParseAddrPort(addr.String())
	if err != nil {
		return "http://" + addr.String()
	}
	if at.Addr().IsUnspecified() {
		return fmt.Sprintf("http://127.0.0.1:%d", at.Port())
	}
	return "http://" + netip.AddrPortFrom(at.Addr().Unmap(), at.Port()).String()
}

// serveHTTP answers requests until ctx ends. Those that are under way then have
// a moment to end, for which their contexts go on; streams are to end at once,
// when stop is called.
func serveHTTP(ctx context.Context, l net.Listener, handler http.Handler, stop func(), log *slog.Logger) error {
	requests, end := context.WithCancel(context.WithoutCancel(ctx))
	defer end()
	s := &http.Server{
		Handler: handler, ReadHeaderTimeout: 10 * time.Second, IdleTimeout: 2 * time.Minute, MaxHeaderBytes: 64 << 10,
		BaseContext: func(net.Listener) context.Context { return requests },
		ErrorLog:    slog.NewLogLogger(log.Handler(), slog.LevelDebug),
	}
	s.RegisterOnShutdown(stop)
	closed := make(chan struct{})
	running := context.AfterFunc(ctx, func() {
		defer close(closed)
		grace, cancel := context.WithTimeout(requests, 3*time.Second)
		defer cancel()
		if err := s.Shutdown(grace); err != nil {
			s.Close()
		}
	})
	err := s.Serve(l)
	if !running() {
		<-closed
	}
	if errors.Is(err, http.ErrServerClosed) {
		return nil
	}
	return fmt.Errorf("serving: %w", err)
}

// firstKey makes a key where there is none that holds, leaves it in the data
// directory and gives it; "" where there is one.
func firstKey(ctx context.Context, keys *auth.Keys, dir string) (string, error) {
	all, err := keys.List(ctx)
	if err != nil {
		return "", fmt.Errorf("reading keys: %w", err)
	}
	for _, k := range all {
		if k.RevokedAt.IsZero() {
			return "", nil
		}
	}
	person, email := gitPerson(ctx)
	token, _, err := keys.Create(ctx, auth.New{Name: "local", Person: person, Email: email})
	for n := 2; errand.KindOf(err) == errand.Conflict; n++ { // one of that name was revoked
		token, _, err = keys.Create(ctx, auth.New{Name: fmt.Sprintf("local-%d", n), Person: person, Email: email})
	}
	if err != nil {
		return "", fmt.Errorf("making the first key: %w", err)
	}
	path := filepath.Join(dir, keyFile)
	if err := os.WriteFile(path, []byte(token+"\n"), 0o600); err != nil {
		return "", fmt.Errorf("writing %s: %w", path, err)
	}
	return token, nil
}

// gitPerson is who git says works on this machine; both are "" if it does not.
func gitPerson(ctx context.Context) (name, email string) {
	get := func(what string) string {
		out, err := exec.CommandContext(ctx, "git", "config", "--global", what).Output()
		if err != nil {
			return ""
		}
		return strings.TrimSpace(string(out))
	}
	name, email = get("user.name"), get("user.email")
	if name == "" || !strings.Contains(email, "@") || strings.ContainsAny(name+email, "<>\n") {
		return "", ""
	}
	return name, email
}

func (a *app) tellReady(ready serving, addr net.Addr) error {
	if a.json {
		return a.printJSONLine(ready)
	}
	s := styleFor(a.out, a.getenv)
	fmt.Fprintf(a.out, "Errand serves %s from %s\n", s.bold(ready.URL), ready.Data)
	if ready.Key != "" {
		fmt.Fprintf(a.out, "Its first key, told this once and kept in %s:\n  %s\n", filepath.Join(ready.Data, keyFile), s.bold(ready.Key))
	}
	if at, err := netip.ParseAddrPort(addr.String()); err == nil && !at.Addr().IsLoopback() {
		fmt.Fprintln(a.out, s.yellow("Others can reach this address, and it is plain HTTP: put a proxy with TLS before it and say --public-url."))
	}
	fmt.Fprintf(a.out, "Start an agent: errand run --repo . %q\n", "what it is to do")
	return nil
}

// inspectHost looks at this machine without a server.
func (a *app) inspectHost(ctx context.Context) ([]api.Finding, error) {
	dir, err := os.MkdirTemp("", "errand-doctor-")
	if err != nil {
		return nil, fmt.Errorf("looking at this machine: %w", err)
	}
	defer os.RemoveAll(dir)
	if what := missing(); what != "" {
		return []api.Finding{{Name: "host", Needed: true, Detail: what}}, nil
	}
	parts := assembly{log: slog.New(slog.DiscardHandler)}
	d, err := parts.driver(a.wiring, ServeOptions{}, egress.New(egress.Options{Log: parts.log}), func(name string) string { return filepath.Join(dir, name) })
	if err != nil {
		return []api.Finding{{Name: "driver", Needed: true, Detail: err.Error()}}, nil
	}
	var findings []api.Finding
	if i, ok := d.Driver.(machine.Inspector); ok {
		for _, f := range i.Inspect(ctx) {
			findings = append(findings, api.Finding{Name: f.Name, OK: f.OK, Needed: f.Needed, Detail: f.Detail})
		}
	}
	return findings, nil
}

// addHostCommands adds what runs where a server can.
func (a *app) addHostCommands(root *cobra.Command, group string) {
	add(root, group, a.demoCommand(), a.benchCommand())
}
