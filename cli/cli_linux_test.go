package cli_test

import (
	"context"
	"errors"
	"net/http"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/rogpeppe/go-internal/testscript"

	"github.com/errand-dev/errand/cli"
	"github.com/errand-dev/errand/llm"
	"github.com/errand-dev/errand/llm/anthropic"
	"github.com/errand-dev/errand/machine"
	"github.com/errand-dev/errand/runner"
)

// TestMain makes errand a program of the scripts: the real one, on a host that
// cannot make machines.
func TestMain(m *testing.M) {
	testscript.Main(m, map[string]func(){
		"errand": func() {
			os.Exit(cli.Main(context.Background(), cli.Options{Version: "test", Args: os.Args[1:], Wiring: wiring()}))
		},
	})
}

type noMachines struct{}

func (noMachines) Create(context.Context, machine.ID, machine.Spec) (machine.Machine, error) {
	return nil, errors.New("no machines in this test")
}
func (noMachines) Open(context.Context, machine.Handle) (machine.Machine, error) {
	return nil, machine.ErrNotFound
}
func (noMachines) List(context.Context) ([]machine.Handle, error) { return nil, nil }
func (noMachines) Inspect(context.Context) []machine.Finding {
	return []machine.Finding{{Name: "machines", Needed: true, Detail: "There are none in this test."}}
}

func wiring() cli.Wiring {
	return cli.Wiring{
		Drivers: map[string]func(cli.DriverOptions) (machine.Driver, error){
			"oci": func(cli.DriverOptions) (machine.Driver, error) { return noMachines{}, nil },
		},
		Providers: func(getenv func(string) string) map[string]runner.Provider {
			return map[string]runner.Provider{"anthropic": {New: func(e llm.Entry) llm.Model {
				return anthropic.New(anthropic.Options{Key: "test", BaseURL: getenv("ANTHROPIC_BASE_URL"), Model: e})
			}}}
		},
	}
}

func TestScripts(t *testing.T) {
	testscript.Run(t, testscript.Params{
		Dir: "testdata",
		Setup: func(env *testscript.Env) error {
			env.Setenv("ERRAND_DATA", filepath.Join(env.WorkDir, "data"))
			env.Setenv("HOME", env.WorkDir)
			env.Setenv("NO_COLOR", "1")
			return nil
		},
		Cmds: map[string]func(*testscript.TestScript, bool, []string){
			"serving": serving,
			"code":    code,
		},
	})
}

// serving waits until the server of the data directory answers.
func serving(ts *testscript.TestScript, neg bool, args []string) {
	path := filepath.Join(ts.Getenv("ERRAND_DATA"), "url")
	for deadline := time.Now().Add(time.Minute); time.Now().Before(deadline); time.Sleep(10 * time.Millisecond) {
		url, err := os.ReadFile(path)
		if err != nil {
			continue
		}
		if resp, err := http.Get(strings.TrimSpace(string(url)) + "/healthz"); err == nil {
			resp.Body.Close()
			if resp.StatusCode == http.StatusOK {
				return
			}
		}
	}
	ts.Fatalf("the server does not answer")
}

// code runs a command and wants an exit code: code 3 errand show bc-1.
func code(ts *testscript.TestScript, neg bool, args []string) {
	if len(args) < 2 {
		ts.Fatalf("usage: code N COMMAND [ARG...]")
	}
	want, err := strconv.Atoi(args[0])
	if err != nil {
		ts.Fatalf("%v", err)
	}
	err = ts.Exec(args[1], args[2:]...)
	got := 0
	if exit := (interface{ ExitCode() int })(nil); errors.As(err, &exit) {
		got = exit.ExitCode()
	} else if err != nil {
		ts.Fatalf("%v", err)
	}
	if got != want {
		ts.Fatalf("exit code %d, want %d", got, want)
	}
}
