package tool_test

import (
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/errand-dev/errand/tool"
)

func TestTerminal(t *testing.T) {
	b := newBench(t, tool.Options{Env: []string{"GREETING=hello"}, Settle: 400 * time.Millisecond})
	b.works(b.do(tool.ReadTerminal, `{}`), "There are no terminals.")
	if err := os.Mkdir(filepath.Join(b.root, "sub"), 0o755); err != nil {
		t.Fatal(err)
	}

	r := b.doAs("t1", "", tool.RunTerminalCmd, `{"command":"echo $GREETING-$((40+2)); pwd; echo once >> typed","terminal":"dev","dir":"sub"}`)
	b.works(r, `Typed into terminal "dev"`)
	b.until(tool.ReadTerminal, `{"name":"dev"}`, "/sub\n")
	again := b.doAs("t1", b.line.Hello().Boot, tool.RunTerminalCmd, `{"command":"echo $GREETING-$((40+2)); pwd; echo once >> typed","terminal":"dev","dir":"sub"}`)
	if d := cmp.Diff(r.Structured, again.Structured); d != "" {
		t.Errorf("again gives something else (-first +again):\n%s", d)
	}
	if got := b.read("sub/typed"); got != "once\n" {
		t.Errorf("it was typed %d times", strings.Count(got, "once"))
	}

	r = b.do(tool.RunTerminalCmd, `{"command":"sleep 600","background":true}`)
	b.works(r, `Running in terminal "sleep-`)
	name := r.Structured.(tool.CommandResult).Terminal
	b.works(b.do(tool.RunTerminalCmd, `{"command":"^C","terminal":"`+name+`"}`))
	b.works(b.do(tool.RunTerminalCmd, `{"command":"echo still $((1+1)) here","terminal":"`+name+`"}`), "Typed into")
	b.until(tool.ReadTerminal, `{"name":"`+name+`"}`, "still 2 here")
	b.works(b.do(tool.ReadTerminal, `{}`), "- dev: shell, running", "- "+name)
	b.works(b.do(tool.ReadTerminal, `{"name":"dev"}`), "hello-42")
	b.fails(b.do(tool.ReadTerminal, `{"name":"nope"}`), `There is no terminal "nope".`, "- dev")
	b.fails(b.do(tool.RunTerminalCmd, `{"command":"x","terminal":"a b"}`), "cannot be a terminal's name")

	// A terminal whose shell has ended is made anew.
	b.works(b.do(tool.RunTerminalCmd, `{"command":"exit 7","terminal":"dev"}`))
	b.until(tool.ReadTerminal, `{"name":"dev"}`, "exit status 7")
	b.works(b.do(tool.RunTerminalCmd, `{"command":"echo back $((1+1))","terminal":"dev"}`))
	b.until(tool.ReadTerminal, `{"name":"dev"}`, "back 2")
}

// until makes a call again and again until its output has want.
func (b *bench) until(name, args, want string) {
	b.Helper()
	var r tool.Result
	for deadline := time.Now().Add(30 * time.Second); time.Now().Before(deadline); {
		if r = b.do(name, args); strings.Contains(r.Output, want) {
			return
		}
		time.Sleep(20 * time.Millisecond) // a shell's answer is no event here
	}
	b.Fatalf("%q did not come:\n%s", want, r.Output)
}
