package cli

import (
	"cmp"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"slices"
	"strconv"
	"strings"

	"github.com/spf13/cobra"

	"github.com/errand-dev/errand"
	"github.com/errand-dev/errand/bench"
	"github.com/errand-dev/errand/image"
	"github.com/errand-dev/errand/machine"
)

func (a *app) benchCommand() *cobra.Command {
	var o bench.Options
	var dir string
	cmd := &cobra.Command{
		Use:   "bench",
		Short: "Measure machines, disks, the way out and the server on this machine",
		Long: `Measure what people wait for: machines, commands, snapshots, checkouts, the way
out, the API, the server's memory; beside Docker where a Docker engine answers.
All that is made is taken away again. It takes about a quarter of an hour; let
nothing else run meanwhile. docs/PERFORMANCE.md says how to read the figures.

Parts: ` + strings.Join(bench.Parts(), ", "),
		Args: usage(cobra.NoArgs),
		RunE: func(cmd *cobra.Command, _ []string) (err error) {
			if what := missing(); what != "" {
				return errand.Errorf(errand.Unavailable, "host_not_ready", "Nothing can be measured yet. %s", what)
			}
			skipped, err := checkBench(&o)
			if err != nil {
				return err
			}
			if o.Dir, err = os.MkdirTemp(dir, "errand-bench-"); err != nil {
				return fmt.Errorf("making a directory to work in: %w", err)
			}
			defer func() { err = errors.Join(err, os.RemoveAll(o.Dir)) }()
			if err := a.wireBench(&o); err != nil {
				return err
			}
			report, failure := bench.Run(cmd.Context(), o)
			report.Skipped = append(skipped, report.Skipped...)
			return errors.Join(failure, a.printBench(report))
		},
	}
	f := cmd.Flags()
	f.StringSliceVar(&o.Engines, "engines", []string{"gvisor", "runc"}, "the engines to measure")
	f.StringSliceVar(&o.Only, "only", nil, "these parts only")
	f.BoolVar(&o.Quick, "quick", false, "a tenth of the sizes, to see that it works")
	f.StringVar(&dir, "dir", "", "where to make the directory to work in; its disk is measured (default: the temporary directory)")
	return cmd
}

// checkBench takes engines that are not installed out of o and says which.
func checkBench(o *bench.Options) (skipped []string, err error) {
	programs := map[string]string{"gvisor": "runsc", "runc": "runc"}
	var have []string
	for _, engine := range o.Engines {
		program, ok := programs[engine]
		switch {
		case !ok:
			return nil, usageError("--engines %s: the engines are gvisor and runc", engine)
		case beside(program) == "":
			skipped = append(skipped, fmt.Sprintf("%s: %s is neither beside errand nor in PATH.", engine, program))
		default:
			have = append(have, engine)
		}
	}
	if len(have) == 0 {
		return nil, errand.Errorf(errand.Unavailable, "engine_missing", "No engine is left to measure. %s", strings.Join(skipped, " "))
	}
	o.Engines = have
	for _, name := range o.Only {
		if !slices.Contains(bench.Parts(), name) {
			return nil, usageError("--only %s: the parts are %s", name, strings.Join(bench.Parts(), ", "))
		}
	}
	return skipped, nil
}

// wireBench gives the measurements this program's drivers, and this program as
// their server.
func (a *app) wireBench(o *bench.Options) error {
	self, err := os.Executable()
	if err != nil {
		return fmt.Errorf("finding this program: %w", err)
	}
	open, ok := a.wiring.Drivers["oci"]
	if !ok {
		return errors.New(`this program was built without the driver "oci"`)
	}
	o.Driver = func(dir, engine string, images *image.Store) (machine.Driver, error) {
		return open(DriverOptions{Dir: dir, Images: images, Engine: engine, Program: beside, Log: o.Log})
	}
	o.Server = func(data string, s bench.ServerOptions) *exec.Cmd {
		return exec.Command(self, "serve", "--json", "--data", data, "--listen", "127.0.0.1:0",
			"--runs", strconv.Itoa(s.Runs), "--idle", s.Idle.String())
	}
	if isTerminal(a.err) {
		dim := styleFor(a.err, a.getenv).dim
		o.Tell = func(text string) { fmt.Fprintln(a.err, dim(text)) }
	}
	return nil
}

func (a *app) printBench(r bench.Report) error {
	if a.json {
		return a.printJSON(r)
	}
	s := styleFor(a.out, a.getenv)
	fmt.Fprintf(a.out, "%s, %s, %d × %s, %.0f GB of memory, Linux %s\n", r.Date.Format("2006-01-02 15:04"), r.Host.Go, r.Host.CPUs,
		cmp.Or(r.Host.CPU, "processor"), float64(r.Host.Memory)/1e9, r.Host.Kernel)
	rows := [][]string{{"", "ON", "P50", "P95", "P99", "MIN", "MAX", "UNIT", "N"}}
	var notes []string
	for _, f := range r.Results {
		name := f.Name
		if f.Note != "" {
			at := slices.Index(notes, f.Note)
			if at < 0 {
				at, notes = len(notes), append(notes, f.Note)
			}
			name += fmt.Sprintf(" [%d]", at+1)
		}
		row := []string{name, f.Subject}
		for _, v := range []float64{f.P50, f.P95, f.P99, f.Min, f.Max} {
			row = append(row, figure(v))
		}
		rows = append(rows, append(row, f.Unit, strconv.Itoa(f.Samples)))
	}
	if err := table(a.out, rows); err != nil {
		return err
	}
	for i, note := range notes {
		fmt.Fprintf(a.out, "[%d] %s\n", i+1, note)
	}
	for _, text := range r.Skipped {
		fmt.Fprintf(a.out, "%s %s\n", s.yellow("left out:"), text)
	}
	return nil
}

// figure writes a number with about three places that mean something.
func figure(v float64) string {
	switch {
	case v >= 100 || v <= -100:
		return strconv.FormatFloat(v, 'f', 0, 64)
	case v >= 10 || v <= -10:
		return strconv.FormatFloat(v, 'f', 1, 64)
	}
	return strconv.FormatFloat(v, 'f', 2, 64)
}
