package cli

import (
	"cmp"
	"log/slog"
	"time"

	"github.com/spf13/cobra"

	"github.com/errand-dev/errand"
)

// ServeOptions are what `errand serve` was told.
type ServeOptions struct {
	Data      string        // the data directory, absolute
	Listen    string        // host:port
	PublicURL string        // how people reach the server; "" is what it listens on
	Engine    string        // of machines that name none; "" is the driver's own
	Image     string        // of machines that name none; "" is "host"
	Runs      int           // runs at once; 0 is the runner's own bound
	Idle      time.Duration // a machine nobody uses is stopped after this; 0 is the runner's
	Model     string        // of agents that name none; "" is the first that can be used
	Models    string        // a file with more models; "" is none
	DiskQuota int64         // bytes for machines, snapshots, images and the cache of builds; 0 is no bound
	Limits    errand.Limits // of machines and builds that name none; zero is the driver's own
	Builds    int           // builds at once; 0 is the runner's own bound
	Every     time.Duration // of the schedule for builds; 0 is the runner's own, below 0 is never
	KEK       string        // URL of the key-encryption key; "" is ERRAND_KEK, or the data directory's own
	Log       *slog.Logger
}

func (o ServeOptions) check() error {
	switch {
	case o.Engine != "" && o.Engine != "gvisor" && o.Engine != "runc":
		return usageError("--engine %s: it must be gvisor or runc", o.Engine)
	case o.Runs < 0:
		return usageError("--runs %d: it must be a number of runs, or 0 for the default", o.Runs)
	case o.Builds < 0:
		return usageError("--builds %d: it must be a number of builds, or 0 for the default", o.Builds)
	case o.Limits.CPUs < 0 || o.Limits.PIDs < 0:
		return usageError("--cpus and --pids cannot be negative: leave them out for the default")
	case o.Idle < 0:
		return usageError("--idle %s: it must be a time such as 10m", o.Idle)
	}
	return nil
}

func (a *app) serveCommand() *cobra.Command {
	var o ServeOptions
	var level, quota string
	var limits limitFlags
	cmd := &cobra.Command{
		Use:   "serve",
		Short: "Run the server",
		Long: `Run the server: the API, the runner, the machines. Everything is kept in the data
directory, and a new one starts there after the server was killed. The first
start makes a key, prints it once and leaves it in the data directory's file
"key", where the other commands on this machine find it.`,
		Args: usage(cobra.NoArgs),
		RunE: func(cmd *cobra.Command, _ []string) error {
			var at slog.Level
			if err := at.UnmarshalText([]byte(level)); err != nil {
				return usageError("--log %s: it must be debug, info, warn or error", level)
			}
			var err error
			if o.DiskQuota, err = bytesOf("--disk-quota", quota); err != nil {
				return err
			}
			bound, err := limits.parse()
			if err != nil {
				return err
			}
			if bound != nil {
				o.Limits = *bound
			}
			if err := o.check(); err != nil {
				return err
			}
			o.Data = cmp.Or(o.Data, a.dataDir())
			o.Log = slog.New(slog.NewTextHandler(a.err, &slog.HandlerOptions{Level: at}))
			return a.serve(cmd.Context(), o)
		},
	}
	f := cmd.Flags()
	f.StringVar(&o.Data, "data", "", "the data directory (ERRAND_DATA)")
	f.StringVar(&o.Listen, "listen", defaultListen, "where to listen, HOST:PORT")
	f.StringVar(&o.PublicURL, "public-url", "", "how people reach the server, if not there")
	f.StringVar(&o.Engine, "engine", "", "what isolates machines: gvisor or runc (default: gvisor)")
	f.StringVar(&o.Image, "image", "", `the image of machines that name none (default: "host")`)
	f.IntVar(&o.Runs, "runs", 0, "runs at once (default: 4)")
	f.IntVar(&o.Builds, "builds", 0, "builds of environments and proofs of setups at once (default: 2)")
	f.DurationVar(&o.Every, "build-every", 0, "look this often whether a default branch has moved, and build (default: 1h; -1s: never)")
	f.DurationVar(&o.Idle, "idle", 0, "stop a machine that nobody has used for this long (default: 10m)")
	f.StringVarP(&o.Model, "model", "m", "", "the model of agents that name none")
	f.StringVar(&o.Models, "models", "", "a file with more models, as in llm/catalog.json")
	f.StringVar(&quota, "disk-quota", "", "what machines, snapshots, images and the cache of builds may take together: 200G (default: no bound)")
	limits.flags(f, "machines that name none, and of the commands of a Dockerfile together")
	f.StringVar(&o.KEK, "kek", "", "the URL of the key that seals secrets (ERRAND_KEK; default: secret.key in the data directory)")
	f.StringVar(&level, "log", "info", "what to log: debug, info, warn or error")
	return cmd
}
