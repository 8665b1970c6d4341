package cli

import (
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/errand-dev/errand"
	"github.com/errand-dev/errand/bench"
)

func TestBenchIsToldWhatThereIs(t *testing.T) {
	for _, c := range []struct {
		options bench.Options
		says    string
	}{
		{bench.Options{Engines: []string{"docker"}}, "the engines are gvisor and runc"},
		{bench.Options{Engines: nil}, "No engine is left"},
	} {
		if _, err := checkBench(&c.options); err == nil || !strings.Contains(err.Error(), c.says) {
			t.Errorf("%+v gave %v", c.options, err)
		}
	}
	// Programs are looked for in PATH, where there is runc and no runsc.
	dir := t.TempDir()
	if err := os.WriteFile(filepath.Join(dir, "runc"), []byte("#!/bin/sh\n"), 0o755); err != nil {
		t.Fatal(err)
	}
	t.Setenv("PATH", dir)
	o := bench.Options{Engines: []string{"gvisor", "runc"}, Only: []string{"exec"}}
	skipped, err := checkBench(&o)
	if err != nil || len(skipped) != 1 || !strings.HasPrefix(skipped[0], "gvisor: ") {
		t.Errorf("left out %q, %v", skipped, err)
	}
	if d := cmp.Diff([]string{"runc"}, o.Engines); d != "" {
		t.Error(d)
	}
	o.Only = []string{"speed"}
	if _, err := checkBench(&o); err == nil || !strings.Contains(err.Error(), "the parts are spawn, ") {
		t.Errorf("an unknown part gave %v", err)
	}
	o.Engines = []string{"gvisor"}
	if _, err := checkBench(&o); errand.KindOf(err) != errand.Unavailable {
		t.Errorf("no engine at all gave %v", err)
	}
}

func TestBenchTable(t *testing.T) {
	out, err := os.Create(filepath.Join(t.TempDir(), "out"))
	if err != nil {
		t.Fatal(err)
	}
	defer out.Close()
	a := &app{out: out, getenv: os.Getenv}
	err = a.printBench(bench.Report{
		Date: time.Date(2026, 11, 22, 16, 0, 0, 0, time.UTC),
		Host: bench.Host{CPU: "AMD EPYC", CPUs: 2, Memory: 25e9, Kernel: "6.18", Go: "go1.26"},
		Results: []bench.Result{
			{Name: "spawn", Subject: "gvisor", Unit: "ms", Samples: 20, Min: 150.26, P50: 171, P95: 190.5, P99: 198, Max: 198, Note: "image host"},
			{Name: "exec", Subject: "runc", Unit: "ms", Samples: 500, Min: -0.25, P50: 0.375, P95: 12.34, P99: 12.34, Max: 12.34},
			{Name: "fork", Subject: "runc", Unit: "ms", Samples: 1, Note: "image host"},
		},
		Skipped: []string{"Docker: no engine answers."},
	})
	if err != nil {
		t.Fatal(err)
	}
	got, err := os.ReadFile(out.Name())
	if err != nil {
		t.Fatal(err)
	}
	want := `2026-11-22 16:00, go1.26, 2 × AMD EPYC, 25 GB of memory, Linux 6.18
           ON      P50   P95   P99   MIN    MAX   UNIT  N
spawn [1]  gvisor  171   190   198   150    198   ms    20
exec       runc    0.38  12.3  12.3  -0.25  12.3  ms    500
fork [1]   runc    0.00  0.00  0.00  0.00   0.00  ms    1
[1] image host
left out: Docker: no engine answers.
`
	if d := cmp.Diff(want, string(got)); d != "" {
		t.Error(d)
	}
}
