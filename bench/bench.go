// Package bench measures what Errand promises: how soon a machine is there, how
// long a command takes to come back and a key its echo, what a snapshot, an environment that was
// built before and a checkout cost, what goes through a machine's way out, into
// its ports and by ssh, how quickly the API answers and how much memory the server holds.
//
// It measures the parts as the server uses them, on a data directory of its
// own, cold and warm, each engine by itself, beside Docker where a Docker
// engine answers. Figures are what was seen, with every sample counted: nothing
// is left out, smoothed or compared with a wish. It judges nothing; it is not a
// test.
package bench

import (
	"bufio"
	"context"
	"fmt"
	"log/slog"
	"math"
	"os"
	"os/exec"
	"runtime"
	"slices"
	"strings"
	"time"

	"golang.org/x/sys/unix"

	"github.com/errand-dev/errand/image"
	"github.com/errand-dev/errand/machine"
)

// Options say what is measured, and with what.
type Options struct {
	// Dir is an empty directory for all that is made. The caller removes it.
	Dir string
	// Driver opens a driver on a directory of its own. One that is an io.Closer
	// is closed.
	Driver func(dir, engine string, images *image.Store) (machine.Driver, error)
	// Server gives the command of a server on a data directory, not yet started:
	// its first line of output is JSON with "url" and, at the first start, "key".
	Server  func(data string, o ServerOptions) *exec.Cmd
	Engines []string     // "gvisor", "runc"
	Only    []string     // parts by name; nil is all
	Quick   bool         // a tenth of the sizes, to see that it works
	Tell    func(string) // progress, in sentences; nil is none
	Log     *slog.Logger // nil is silent
}

// ServerOptions are what a measurement wants of its server.
type ServerOptions struct {
	Runs int           // at once
	Idle time.Duration // a machine that nobody uses is stopped after this
}

// Report is all that was measured.
type Report struct {
	Date    time.Time `json:"date"`
	Host    Host      `json:"host"`
	Results []Result  `json:"results"`
	// Skipped says what could not be measured here, and why.
	Skipped []string `json:"skipped,omitempty"`
}

// Host is the machine that was measured on.
type Host struct {
	CPU    string `json:"cpu"`
	CPUs   int    `json:"cpus"`
	Memory int64  `json:"memory"` // bytes
	Kernel string `json:"kernel"`
	Go     string `json:"go"`
}

// Result is one figure: the spread of its samples.
type Result struct {
	Part    string  `json:"part"`    // "spawn"
	Name    string  `json:"name"`    // what was measured, for people
	Subject string  `json:"subject"` // "gvisor", "runc", "docker", "server"
	Unit    string  `json:"unit"`    // "ms", "MB/s", "MB"
	Samples int     `json:"samples"`
	Min     float64 `json:"min"`
	P50     float64 `json:"p50"`
	P95     float64 `json:"p95"`
	P99     float64 `json:"p99"`
	Max     float64 `json:"max"`
	Note    string  `json:"note,omitempty"`
}

// part is one measurement by name.
type part struct {
	name    string
	measure func(context.Context, *bench) error
}

var parts = []part{
	{"spawn", measureSpawn},
	{"crowd", measureCrowd},
	{"exec", measureExec},
	{"snapshot", measureSnapshot},
	{"unchanged", measureUnchanged},
	{"egress", measureEgress},
	{"preview", measurePreview},
	{"ssh", measureSSH},
	{"checkout", measureCheckout},
	{"terminal", measureTerminal},
	{"api", measureAPI},
	{"environments", measureEnvironments},
	{"memory", measureMemory},
	{"docker", measureDocker},
}

// Parts gives the names that Options.Only may have.
func Parts() []string {
	var names []string
	for _, p := range parts {
		names = append(names, p.name)
	}
	return names
}

// bench is one run.
type bench struct {
	Options
	report Report
}

// Run measures and gives the report. A part that fails is an error, with the
// report so far. It blocks for minutes. When it returns, also because ctx has
// ended, every machine, process and container that it began is gone.
func Run(ctx context.Context, o Options) (Report, error) {
	if o.Log == nil {
		o.Log = slog.New(slog.DiscardHandler)
	}
	if o.Tell == nil {
		o.Tell = func(string) {}
	}
	b := &bench{Options: o, report: Report{Date: time.Now().UTC().Truncate(time.Second), Host: host()}}
	for _, p := range parts {
		if len(o.Only) > 0 && !slices.Contains(o.Only, p.name) {
			continue
		}
		if err := p.measure(ctx, b); err != nil {
			return b.report, fmt.Errorf("measuring %s: %w", p.name, err)
		}
	}
	return b.report, nil
}

// size gives n, or a tenth of it for a quick look.
func (b *bench) size(n int) int {
	if b.Quick {
		return max(n/10, 1)
	}
	return n
}

func (b *bench) skip(format string, args ...any) {
	b.report.Skipped = append(b.report.Skipped, fmt.Sprintf(format, args...))
}

// keep adds a figure of samples.
func (b *bench) keep(part, name, subject, unit string, samples []float64, note string) {
	if len(samples) == 0 {
		return
	}
	sorted := slices.Sorted(slices.Values(samples))
	r := Result{
		Part: part, Name: name, Subject: subject, Unit: unit, Samples: len(sorted), Note: note,
		Min: sorted[0], P50: quantile(sorted, 0.5), P95: quantile(sorted, 0.95), P99: quantile(sorted, 0.99), Max: sorted[len(sorted)-1],
	}
	b.report.Results = append(b.report.Results, r)
	b.Tell(fmt.Sprintf("%s, %s: %.4g %s (median of %d)", name, subject, r.P50, unit, r.Samples))
}

// quantile gives the smallest sample that at least q of all do not pass.
func quantile(sorted []float64, q float64) float64 {
	i := int(math.Ceil(q*float64(len(sorted)))) - 1
	return sorted[max(i, 0)]
}

// median gives the middle sample.
func median(samples []float64) float64 {
	return quantile(slices.Sorted(slices.Values(samples)), 0.5)
}

// ms gives a duration in milliseconds, rounded to microseconds.
func ms(d time.Duration) float64 { return float64(d.Microseconds()) / 1000 }

// times measures n runs of f in milliseconds.
func times(n int, f func(i int) error) ([]float64, error) {
	var took []float64
	for i := range n {
		began := time.Now()
		if err := f(i); err != nil {
			return nil, err
		}
		took = append(took, ms(time.Since(began)))
	}
	return took, nil
}

func host() Host {
	h := Host{CPUs: runtime.NumCPU(), Go: runtime.Version()}
	var u unix.Utsname
	if unix.Uname(&u) == nil {
		h.Kernel = unix.ByteSliceToString(u.Release[:])
	}
	var s unix.Sysinfo_t
	if unix.Sysinfo(&s) == nil {
		h.Memory = int64(s.Totalram) * int64(s.Unit)
	}
	f, err := os.Open("/proc/cpuinfo")
	if err != nil {
		return h
	}
	defer f.Close()
	for lines := bufio.NewScanner(f); lines.Scan(); {
		if name, value, ok := strings.Cut(lines.Text(), ":"); ok && strings.TrimSpace(name) == "model name" {
			h.CPU = strings.TrimSpace(value)
			break
		}
	}
	return h
}
