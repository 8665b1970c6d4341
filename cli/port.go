package cli

import (
	"context"
	"errors"
	"fmt"
	"net"
	"strconv"
	"strings"
	"sync"
	"time"

	"github.com/spf13/cobra"
	"golang.org/x/sync/errgroup"

	"github.com/errand-dev/errand"
	"github.com/errand-dev/errand/api"
	"github.com/errand-dev/errand/client"
)

// How long a connection to a forwarded port waits for a server that does not
// answer, and how often it asks.
const (
	awayLimit = 30 * time.Second
	awayPause = 250 * time.Millisecond
)

func (a *app) portsCommand() *cobra.Command {
	var open int
	var path string
	var show bool
	cmd := &cobra.Command{
		Use: "ports [AGENT]", Short: "List the ports of an agent's machine, or open one in a browser", Args: usage(cobra.MaximumNArgs(1)),
		Long: `List what listens in an agent's machine, and the ports that its environment names.
With --open, look at one in this machine's browser, under a host name of its own;
where there is no browser the address is printed, which lets one browser in, once,
within a minute.`,
		Example: "errand ports latest\nerrand ports latest --open 3000",
		RunE: func(cmd *cobra.Command, args []string) error {
			c, id, err := a.agentArg(cmd.Context(), args)
			if err != nil {
				return err
			}
			if cmd.Flags().Changed("open") {
				return a.openPort(cmd.Context(), c, id, open, path, show)
			}
			ports, err := c.Ports(cmd.Context(), id)
			if err != nil {
				return err
			}
			return a.listPorts(id, ports)
		},
	}
	f := cmd.Flags()
	f.IntVar(&open, "open", 0, "look at this port in a browser")
	f.StringVar(&path, "path", "", "where to begin there, /admin?tab=1 (default: at the root)")
	f.BoolVar(&show, "print", false, "print the address only")
	return cmd
}

func (a *app) openPort(ctx context.Context, c *client.Client, id errand.AgentID, port int, path string, show bool) error {
	if port < 1 || port > 65535 {
		return usageError("--open %d: a port is a number from 1 to 65535", port)
	}
	preview, err := c.OpenPreview(ctx, id, port, path)
	if err != nil {
		return err
	}
	return a.showPreview(ctx, preview, show)
}

func (a *app) ideCommand() *cobra.Command {
	var show bool
	cmd := &cobra.Command{
		Use: "ide [AGENT]", Short: "Open an editor for an agent's machine in a browser", Args: usage(cobra.MaximumNArgs(1)),
		Long: `Open VS Code in this machine's browser, on the agent's repository: the code-server
or openvscode-server that the machine's image has, or else code-server, which is
downloaded into the machine. Where there is no browser the address is printed, which
lets one browser in, once, within a minute.`,
		RunE: func(cmd *cobra.Command, args []string) error {
			c, id, err := a.agentArg(cmd.Context(), args)
			if err != nil {
				return err
			}
			preview, err := c.OpenEditor(cmd.Context(), id)
			if err != nil {
				return err
			}
			return a.showPreview(cmd.Context(), preview, show)
		},
	}
	cmd.Flags().BoolVar(&show, "print", false, "print the address only")
	return cmd
}

// showPreview opens a preview in a browser, or prints where it is.
func (a *app) showPreview(ctx context.Context, preview api.Preview, show bool) error {
	if a.json {
		return a.printJSON(preview)
	}
	if !show && isTerminal(a.out) && browse(ctx, a.getenv, preview.URL) {
		fmt.Fprintf(a.out, "Opened %s in a browser.\n", preview.Origin)
		return nil
	}
	fmt.Fprintln(a.out, preview.URL)
	return nil
}

func (a *app) listPorts(id errand.AgentID, ports api.Ports) error {
	if a.json {
		return a.printJSON(ports)
	}
	if !ports.Awake {
		fmt.Fprintf(a.err, "The machine sleeps, so nothing listens. Opening a port wakes it: errand ports %s --open PORT\n", shortID(string(id)))
	}
	if len(ports.Items) == 0 {
		if ports.Awake {
			fmt.Fprintln(a.err, "Nothing listens in the agent's machine.")
		}
		return nil
	}
	rows := [][]string{{"PORT", "NAME", "LISTENS", "PROCESS", "COMMAND"}}
	for _, p := range ports.Items {
		listens, process := "no", "-"
		if p.Listening {
			listens = "on all addresses"
		}
		if p.Loopback {
			listens = "on loopback"
		}
		if p.PID > 0 {
			process = strconv.Itoa(p.PID)
		}
		rows = append(rows, []string{strconv.Itoa(p.Port), dash(printable(p.Name)), listens, process, dash(printable(p.Command))})
	}
	return table(a.out, rows)
}

// forward is a port that is forwarded.
type forward struct {
	Port  int    `json:"port"`
	Local string `json:"local"` // HOST:PORT that is listened on here

	listener net.Listener
}

func (a *app) portCommand() *cobra.Command {
	return &cobra.Command{
		Use: "port AGENT PORT[:LOCAL]...", Short: "Forward ports of an agent's machine to this one", Args: usage(cobra.MinimumNArgs(2)),
		Long: `Forward ports of an agent's machine to 127.0.0.1 here, until Ctrl-C: each under its
own number, or a free one where that is taken, or LOCAL (0: any free one). What
connects wakes the machine. It goes on when the server was started again.`,
		Example: "errand port latest 3000\nerrand port latest 5432:15432 3000:0",
		RunE: func(cmd *cobra.Command, args []string) (err error) {
			ctx := cmd.Context()
			c, id, err := a.agentArg(ctx, args)
			if err != nil {
				return err
			}
			if _, err := c.Agent(ctx, id); err != nil {
				return err
			}
			var all []forward
			defer func() {
				for _, f := range all {
					f.listener.Close() // closed already once it was served on
				}
			}()
			for _, arg := range args[1:] {
				f, err := listenFor(ctx, arg)
				if err != nil {
					return err
				}
				all = append(all, f)
			}
			work, ctx := errgroup.WithContext(ctx)
			for _, f := range all {
				if err := a.tellForward(f); err != nil {
					return err
				}
				work.Go(func() error { return a.forward(ctx, c, id, f) })
			}
			return work.Wait()
		},
	}
}

func (a *app) tellForward(f forward) error {
	if a.json {
		return a.printJSONLine(f)
	}
	_, err := fmt.Fprintf(a.out, "Port %d of the machine is at %s\n", f.Port, f.Local)
	return err
}

// listenFor listens here as an argument says, PORT or PORT:LOCAL.
func listenFor(ctx context.Context, arg string) (forward, error) {
	remote, local, named := strings.Cut(arg, ":")
	port, err := strconv.ParseUint(remote, 10, 16)
	here := port
	if named && err == nil {
		here, err = strconv.ParseUint(local, 10, 16)
	}
	if err != nil || port == 0 {
		return forward{}, usageError("%q is no port: it is PORT or PORT:LOCAL, numbers up to 65535", arg)
	}
	at := func(port uint64) (net.Listener, error) {
		return new(net.ListenConfig).Listen(ctx, "tcp", net.JoinHostPort("127.0.0.1", strconv.FormatUint(port, 10)))
	}
	l, err := at(here)
	if err != nil && !named {
		l, err = at(0) // taken, or below 1024
	}
	if err != nil {
		return forward{}, errand.Errorf(errand.Conflict, "address_in_use", "Cannot listen on port %d here: %w. Name another, or 0 for any free one: %d:0", here, plainError(err), port)
	}
	return forward{Port: int(port), Local: l.Addr().String(), listener: l}, nil
}

// forward carries connections until ctx ends.
func (a *app) forward(ctx context.Context, c *client.Client, id errand.AgentID, f forward) error {
	defer context.AfterFunc(ctx, func() { f.listener.Close() })()
	var all sync.WaitGroup
	defer all.Wait()
	said := said{app: a}
	for {
		conn, err := f.listener.Accept()
		if ctx.Err() != nil {
			return nil
		}
		if err != nil {
			return fmt.Errorf("taking connections on %s: %w", f.Local, err)
		}
		all.Go(func() {
			defer conn.Close()
			said.say(forwardOne(ctx, c, id, f.Port, conn))
		})
	}
}

// forwardOne carries one connection. It waits for a server that is being started
// again.
func forwardOne(ctx context.Context, c *client.Client, id errand.AgentID, port int, conn net.Conn) error {
	for until := time.Now().Add(awayLimit); ; {
		err := c.Forward(ctx, id, port, conn)
		if away := (*client.UnreachableError)(nil); !errors.As(err, &away) || time.Now().After(until) {
			return err
		}
		select {
		case <-time.After(awayPause): // nothing tells that a server listens
		case <-ctx.Done():
			return nil
		}
	}
}

// said tells why connections failed, the same thing once in a row.
type said struct {
	*app
	mu   sync.Mutex
	last string
}

// say tells of an error that a person can do something about. A program that ends
// its connection early is none.
func (s *said) say(err error) {
	away := (*client.UnreachableError)(nil)
	text := ""
	if errand.KindOf(err) != errand.Internal && err != nil || errors.As(err, &away) {
		text = err.Error()
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	if text != "" && text != s.last {
		fmt.Fprintln(s.err, text)
	}
	s.last = text
}
