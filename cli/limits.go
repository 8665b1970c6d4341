package cli

import (
	"strconv"
	"strings"

	"github.com/spf13/pflag"

	"github.com/errand-dev/errand"
)

// limitFlags are the flags that bound machines.
type limitFlags struct {
	cpus         float64
	pids         int64
	memory, disk string
}

// flags adds them; of says what they bound.
func (l *limitFlags) flags(f *pflag.FlagSet, of string) {
	f.Float64Var(&l.cpus, "cpus", 0, "processors of "+of+", 0.5 is half of one")
	f.StringVar(&l.memory, "memory", "", "memory of "+of+": 512M, 4G")
	f.StringVar(&l.disk, "disk", "", "disk that is there to be written, of "+of+": 10G")
	f.Int64Var(&l.pids, "pids", 0, "processes and threads of "+of)
}

// parse gives nil where no limit was set.
func (l *limitFlags) parse() (*errand.Limits, error) {
	memory, err := bytesOf("--memory", l.memory)
	if err != nil {
		return nil, err
	}
	disk, err := bytesOf("--disk", l.disk)
	if err != nil {
		return nil, err
	}
	limits := errand.Limits{CPUs: l.cpus, Memory: memory, PIDs: l.pids, Disk: disk}
	if limits == (errand.Limits{}) {
		return nil, nil
	}
	return &limits, nil
}

// bytesOf reads an amount: 1024-based with K, M, G or T, plain bytes without.
func bytesOf(flag, text string) (int64, error) {
	if text == "" {
		return 0, nil
	}
	digits := strings.TrimSuffix(strings.TrimSuffix(strings.ToUpper(text), "B"), "I")
	factor := float64(1)
	if i := strings.IndexByte("KMGT", digits[max(0, len(digits)-1)]); len(digits) > 1 && i >= 0 {
		factor = float64(int64(1) << (10 * (i + 1)))
		digits = digits[:len(digits)-1]
	}
	n, err := strconv.ParseFloat(digits, 64)
	if err != nil || n <= 0 || n*factor > 1<<60 {
		return 0, usageError("%s %s: it must be an amount such as 512M or 4G", flag, text)
	}
	return int64(n * factor), nil
}
