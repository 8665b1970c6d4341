package cli

import (
	"cmp"
	"io"
	"log/slog"
	"net/url"
	"time"

	"github.com/spf13/cobra"
	"github.com/spf13/pflag"

	"github.com/errand-dev/errand"
	"github.com/errand-dev/errand/api"
)

// ServeOptions are what `errand serve` was told.
type ServeOptions struct {
	Data          string        // the data directory, absolute
	Listen        string        // host:port
	PublicURL     string        // how people reach the server; "" is what it listens on
	PreviewDomain string        // under which all host names are previews'; "" is none
	SSH           string        // host:port for ssh; "" is the one of before or a free one beside Listen, "off" is none
	Rate          int           // requests of a key in a minute; 0 is the server's own bound
	Heartbeat     time.Duration // how often a quiet stream shows that it lives; 0 is the server's own
	Model         string        // of agents that name none; "" is the first that can be used
	Models        string        // a file with more models; "" is none
	DiskQuota     int64         // bytes for machines, snapshots, images and the cache of builds; 0 is no bound
	KEK           string        // URL of the key-encryption key; "" is ERRAND_KEK, or the data directory's own
	Log           *slog.Logger
	Flags         []api.Flag // all of these as they were given, for people to read
	MachineOptions
	WorkOptions
}

// MachineOptions are what holds for machines where nobody says otherwise.
type MachineOptions struct {
	Engine string        // of machines that name none; "" is the driver's own
	Image  string        // of machines that name none; "" is "host"
	Idle   time.Duration // a machine nobody uses is stopped after this; 0 is the runner's
	Limits errand.Limits // of machines and builds that name none; zero is the driver's own
	// EgressAllow are the only hosts that machines may reach, where there are
	// any; EgressDeny those that they may not. Both are rules of package egress.
	EgressAllow []string
	EgressDeny  []string
}

// WorkOptions bound runs and builds. What is 0 is the runner's own bound.
type WorkOptions struct {
	Runs         int           // at once
	RunLimit     time.Duration // a run expires after this
	MaxTurns     int           // model requests in a run
	BranchPrefix string        // of agents' branches; "" is "errand/"
	Builds       int           // at once
	Every        time.Duration // of the schedule for builds; below 0 is never
	InstallLimit time.Duration // of an environment's install
	Takeover     time.Duration // a take-over ends by itself after this
}

func (o ServeOptions) check() error {
	if o.Engine != "" && o.Engine != "gvisor" && o.Engine != "runc" {
		return usageError("--engine %s: it must be gvisor or runc", o.Engine)
	}
	if o.Limits.CPUs < 0 || o.Limits.PIDs < 0 {
		return usageError("--cpus and --pids cannot be negative: leave them out for the default")
	}
	for flag, n := range map[string]int{"runs": o.Runs, "builds": o.Builds, "max-turns": o.MaxTurns, "rate": o.Rate} {
		if n < 0 {
			return usageError("--%s %d: it must be a number, or 0 for the default", flag, n)
		}
	}
	for flag, d := range map[string]time.Duration{"idle": o.Idle, "run-limit": o.RunLimit, "install-limit": o.InstallLimit, "takeover-limit": o.Takeover, "heartbeat": o.Heartbeat} {
		if d < 0 {
			return usageError("--%s %s: it must be a time such as 10m, or 0 for the default", flag, d)
		}
	}
	return nil
}

// serveFlags are the flags of `errand serve`.
type serveFlags struct {
	ServeOptions
	all          []*pflag.Flag
	level, quota string
	limits       limitFlags
}

func (s *serveFlags) flags(f *pflag.FlagSet) {
	f.StringVar(&s.Data, "data", "", "the data directory (ERRAND_DATA)")
	f.StringVar(&s.Listen, "listen", defaultListen, "where to listen, HOST:PORT")
	f.StringVar(&s.PublicURL, "public-url", "", "how people reach the server, if not there")
	f.StringVar(&s.PreviewDomain, "preview-domain", "", "a domain under which all host names lead here, for previews of ports: previews.example.net (default: none but *.localhost)")
	f.StringVar(&s.SSH, "ssh", "", `where to listen for ssh, HOST:PORT, or "off" (default: beside --listen on port 7022, or a free one, which is kept)`)
	f.IntVar(&s.Rate, "rate", 0, "requests that a key may make in a minute (default: 60000)")
	f.DurationVar(&s.Heartbeat, "heartbeat", 0, "how often a quiet stream shows that it lives (default: 15s)")
	f.StringVar(&s.Engine, "engine", "", "what isolates machines: gvisor or runc (default: gvisor)")
	f.StringVar(&s.Image, "image", "", `the image of machines that name none (default: "host")`)
	f.DurationVar(&s.Idle, "idle", 0, "stop a machine that nobody has used for this long (default: 10m)")
	f.StringSliceVar(&s.EgressAllow, "egress-allow", nil, "let machines reach these hosts alone: example.com, *.example.com, 192.0.2.0/24:443 (default: all)")
	f.StringSliceVar(&s.EgressDeny, "egress-deny", nil, "let no machine reach these hosts")
	f.IntVar(&s.Runs, "runs", 0, "runs at once (default: 4)")
	f.DurationVar(&s.RunLimit, "run-limit", 0, "end a run after this long (default: 24h)")
	f.DurationVar(&s.Takeover, "takeover-limit", 0, "hand an agent back that a person took over this long ago (default: 4h)")
	f.IntVar(&s.MaxTurns, "max-turns", 0, "end a run after so many requests to its model (default: 200)")
	f.StringVar(&s.BranchPrefix, "branch-prefix", "", `what the names of agents' branches begin with (default: "errand/")`)
	f.IntVar(&s.Builds, "builds", 0, "builds of environments and proofs of setups at once (default: 2)")
	f.DurationVar(&s.Every, "build-every", 0, "look this often whether a default branch has moved, and build (default: 1h; -1s: never)")
	f.DurationVar(&s.InstallLimit, "install-limit", 0, "end an environment's install after this long (default: 30m)")
	f.StringVarP(&s.Model, "model", "m", "", "the model of agents that name none")
	f.StringVar(&s.Models, "models", "", "a file with more models, as in llm/catalog.json")
	f.StringVar(&s.quota, "disk-quota", "", "what machines, snapshots, images and the cache of builds may take together: 200G (default: no bound)")
	s.limits.flags(f, "machines that name none, and of the commands of a Dockerfile together")
	f.StringVar(&s.KEK, "kek", "", "the URL of the key that seals secrets (ERRAND_KEK; default: secret.key in the data directory)")
	f.StringVar(&s.level, "log", "info", "what to log: debug, info, warn or error")
	f.VisitAll(func(flag *pflag.Flag) { s.all = append(s.all, flag) })
}

// parse gives what the flags say. The log goes to out.
func (s *serveFlags) parse(out io.Writer) (ServeOptions, error) {
	o := s.ServeOptions
	var at slog.Level
	if err := at.UnmarshalText([]byte(s.level)); err != nil {
		return o, usageError("--log %s: it must be debug, info, warn or error", s.level)
	}
	o.Log = slog.New(slog.NewTextHandler(out, &slog.HandlerOptions{Level: at}))
	var err error
	if o.DiskQuota, err = bytesOf("--disk-quota", s.quota); err != nil {
		return o, err
	}
	bound, err := s.limits.parse()
	if err != nil {
		return o, err
	}
	if bound != nil {
		o.Limits = *bound
	}
	o.Flags = s.told()
	return o, o.check()
}

// told gives the flags as people may read them: without a credential in an
// address.
func (s *serveFlags) told() (all []api.Flag) {
	for _, f := range s.all {
		flag := api.Flag{Name: f.Name, Usage: f.Usage, Set: f.Changed}
		if f.Changed {
			flag.Value = f.Value.String()
			if u, err := url.Parse(flag.Value); err == nil && u.User != nil {
				flag.Value = u.Redacted()
			}
		}
		all = append(all, flag)
	}
	return all
}

func (a *app) serveCommand() *cobra.Command {
	var s serveFlags
	cmd := &cobra.Command{
		Use:   "serve",
		Short: "Run the server",
		Long: `Run the server: the API, the runner, the machines. Everything is kept in the data
directory, and a new one starts there after the server was killed. The first
start makes a key, prints it once and leaves it in the data directory's file
"key", where the other commands on this machine find it.`,
		Args: usage(cobra.NoArgs),
		RunE: func(cmd *cobra.Command, _ []string) error {
			o, err := s.parse(a.err)
			if err != nil {
				return err
			}
			o.Data = cmp.Or(o.Data, a.dataDir())
			return a.serve(cmd.Context(), o)
		},
	}
	s.flags(cmd.Flags())
	return cmd
}
