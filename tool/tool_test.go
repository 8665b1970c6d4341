package tool_test

import (
	"encoding/json"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/errand-dev/errand"
	"github.com/errand-dev/errand/guest"
	"github.com/errand-dev/errand/secret"
	"github.com/errand-dev/errand/tool"
	"github.com/errand-dev/errand/tool/tooltest"
)

// bench is a set of tools in a directory of its own.
type bench struct {
	*testing.T
	root string
	line *guest.Line
	set  *tool.Set
	ops  int
}

func newBench(t *testing.T, o tool.Options) *bench {
	t.Helper()
	b := &bench{T: t, root: t.TempDir()}
	b.line = tooltest.Start(t).Line()
	o.Line, o.Root, o.Spill = b.line, b.root, filepath.Join(b.root, ".spill")
	b.set = tool.New(o)
	return b
}

func (b *bench) write(name, content string) {
	b.Helper()
	path := filepath.Join(b.root, name)
	if err := os.MkdirAll(filepath.Dir(path), 0o755); err != nil {
		b.Fatal(err)
	}
	if err := os.WriteFile(path, []byte(content), 0o644); err != nil {
		b.Fatal(err)
	}
}

func (b *bench) read(name string) string {
	b.Helper()
	data, err := os.ReadFile(filepath.Join(b.root, name))
	if err != nil {
		b.Fatal(err)
	}
	return string(data)
}

// do makes a call under an id of its own; args are JSON.
func (b *bench) do(name, args string) tool.Result {
	b.Helper()
	b.ops++
	return b.doAs(fmt.Sprintf("op.%d", b.ops), "", name, args)
}

func (b *bench) doAs(op, boot, name, args string) tool.Result {
	b.Helper()
	r, err := b.set.Call(b.Context(), tool.Call{Op: op, Boot: boot, Name: name, Args: json.RawMessage(args)})
	if err != nil {
		b.Fatal(err)
	}
	return r
}

// works fails the test unless the call worked and its output has all of want.
func (b *bench) works(r tool.Result, want ...string) {
	b.Helper()
	if r.IsError {
		b.Fatalf("the call failed: %s", r.Output)
	}
	b.says(r, want...)
}

// fails fails the test unless the call failed with words that have all of want.
func (b *bench) fails(r tool.Result, want ...string) {
	b.Helper()
	if !r.IsError {
		b.Fatalf("the call did not fail: %s", r.Output)
	}
	b.says(r, want...)
}

func (b *bench) says(r tool.Result, want ...string) {
	b.Helper()
	for _, w := range want {
		if !strings.Contains(r.Output, w) {
			b.Errorf("%q is not in the output:\n%s", w, r.Output)
		}
	}
}

func TestCommand(t *testing.T) {
	b := newBench(t, tool.Options{Env: []string{"GREETING=hello"}})
	b.works(b.do(tool.RunTerminalCmd, `{"command":"echo $GREETING; echo oops >&2; pwd; exit 3"}`), "hello\n", "oops\n", b.root, "[exit status 3 after ")
	b.works(b.do(tool.RunTerminalCmd, `{"command":"true"}`), "no output")
	b.works(b.do(tool.RunTerminalCmd, `{"command":"mkdir sub && cd sub"}`))
	b.works(b.do(tool.RunTerminalCmd, `{"command":"pwd","dir":"sub"}`), filepath.Join(b.root, "sub")+"\n")
	b.works(b.do(tool.RunTerminalCmd, `{"command":"cat"}`), "exit status 0")
	b.works(b.do(tool.RunTerminalCmd, `{"command":"kill -KILL $$"}`), "killed by SIGKILL")
	b.fails(b.do(tool.RunTerminalCmd, `{"command":"true","dir":"nowhere"}`), "nowhere")
	red := b.do(tool.RunTerminalCmd, `{"command":"printf '\\033[31mred\\033[m\\n'"}`)
	b.works(red, "red\n[exit status 0")
	if got := red.Structured.(tool.CommandResult).Coloured; got != "\x1b[31mred\x1b[m\n" {
		t.Errorf("on screens it is %q", got)
	}

	r := b.do(tool.RunTerminalCmd, `{"command":"echo begun; sleep 600","timeout_seconds":1}`)
	b.works(r, "begun\n", "reached its time limit", "background")
	if c := r.Structured.(tool.CommandResult); !c.TimedOut || c.DurationMs < 900 || c.DurationMs > 5000 {
		t.Errorf("wrong end: %+v", c)
	}
}

func TestLongOutput(t *testing.T) {
	b := newBench(t, tool.Options{OutputBound: 1000})
	r := b.doAs("run-1.2.3", "", tool.RunTerminalCmd, `{"command":"seq 1 10000"}`)
	b.works(r, "1\n2\n", "\n10000\n[exit status 0", "bytes cut; full output in "+b.root+"/.spill/run-1.2.3.txt]")
	if len(r.Output) > 1300 {
		t.Errorf("output has %d bytes", len(r.Output))
	}
	if got := b.read(".spill/run-1.2.3.txt"); !strings.HasPrefix(got, "1\n2\n3\n") || strings.Count(got, "\n") != 10000 {
		t.Errorf("the full output has %d lines", strings.Count(got, "\n"))
	}
}

func TestMisuse(t *testing.T) {
	b := newBench(t, tool.Options{})
	b.fails(b.do("edit", `{}`), `There is no tool "edit". The tools are run_terminal_cmd, read_file,`)
	b.fails(b.do(tool.ReadFile, `{"file":"a"}`), `there is no field "file"; the fields are path, offset, limit`)
	b.fails(b.do(tool.ReadFile, `nonsense`), "not a JSON object")
	b.fails(b.do(tool.RunTerminalCmd, `{"command":"  "}`), "The command is empty.")
	b.fails(b.do(tool.EditFile, `{"path":"a","edits":[]}`), "Edits is empty.")
	b.fails(b.do(tool.UpdatePlan, `{"items":[{"text":"x","status":"someday"}]}`), "pending, in_progress or done")
	b.fails(b.do(tool.Finish, `{"summary":" "}`), "summary is empty")
	b.fails(b.do(tool.Search, `{"pattern":"("}`), "missing closing")
}

func TestReadOnly(t *testing.T) {
	b := newBench(t, tool.Options{ReadOnly: true})
	b.fails(b.do(tool.WriteFile, `{"path":"a","content":"x"}`), "There is no tool")
	var names []string
	for _, k := range b.set.Tools() {
		names = append(names, k.Name)
		if !json.Valid(k.Schema) {
			t.Errorf("the schema of %s is not JSON", k.Name)
		}
	}
	want := []string{tool.ReadFile, tool.ListDir, tool.Search, tool.ReadTerminal, tool.UpdatePlan, tool.Finish}
	if d := cmp.Diff(want, names); d != "" {
		t.Errorf("wrong tools (-want +got):\n%s", d)
	}
}

func TestReading(t *testing.T) {
	b := newBench(t, tool.Options{})
	b.write("src/main.go", "package main\n\nfunc main() {}\n")
	b.write("src/deep/er/main_test.go", "package main\n// TODO: test main\n")
	b.write("bin/tool", "\x7fELF\x00\x01")
	b.write("empty", "")
	b.write("pixel.png", "\x89PNG\r\n\x1a\n\x00\x00")

	b.works(b.do(tool.ReadFile, `{"path":"src/main.go"}`), "     1|package main\n     2|\n     3|func main() {}\n")
	b.works(b.do(tool.ReadFile, fmt.Sprintf(`{"path":%q,"offset":3,"limit":1}`, b.root+"/src/main.go")), "     3|func")
	b.works(b.do(tool.ReadFile, `{"path":"src/main.go","limit":1}`), "[lines 1 to 1; go on with offset 2]")
	b.works(b.do(tool.ReadFile, `{"path":"empty"}`), "is empty")
	b.works(b.do(tool.ReadFile, `{"path":"/etc/passwd"}`), "|root:")
	b.fails(b.do(tool.ReadFile, `{"path":"src/main.go","offset":9}`), "3 lines")
	b.fails(b.do(tool.ReadFile, `{"path":"bin/tool"}`), "binary file")
	b.fails(b.do(tool.ReadFile, `{"path":"src"}`), "list_dir")
	b.fails(b.do(tool.ReadFile, `{"path":"main.go"}`), "does not exist", "There is src/main.go.")
	b.fails(b.do(tool.ReadFile, `{"path":"../../../nowhere"}`), "does not exist")
	if r := b.do(tool.ReadFile, `{"path":"pixel.png"}`); len(r.Images) != 1 || r.Images[0].MIME != "image/png" {
		t.Errorf("no picture: %+v", r)
	}

	b.works(b.do(tool.ListDir, `{}`), "bin/\n", "empty  0 B\n", "src/\n")
	b.works(b.do(tool.ListDir, `{"path":"src"}`), "main.go")
	b.works(b.do(tool.ListDir, `{"glob":"*_test.go"}`), "src/deep/er/main_test.go")
	b.works(b.do(tool.ListDir, `{"glob":"*.rs"}`), "No file in . matches *.rs.")
	b.fails(b.do(tool.ListDir, `{"path":"nope"}`), "does not exist")
	b.works(b.do(tool.Search, `{"pattern":"TODO"}`), "src/deep/er/main_test.go:2: // TODO: test main")
	b.works(b.do(tool.Search, `{"pattern":"func main","path":"src","context":1}`), "main.go-2- ", "main.go:3: func main() {}")
	b.works(b.do(tool.Search, `{"pattern":"nothing at all","glob":"*.go"}`), "No match in 2 files")
}

// Secrets are taken out before anything is cut, where half of one would pass.
func TestHiding(t *testing.T) {
	token, key := "ghp_"+strings.Repeat("T0k3n", 8), strings.Repeat("L0ngk3y", 200)
	redactor := &secret.Redactor{}
	redactor.Add(token, key)
	b := newBench(t, tool.Options{Redactor: redactor, OutputBound: 1000})
	b.write("match", "needle "+strings.Repeat("x", 373)+token+strings.Repeat("y", 100)+"\n")
	b.write("long", "needle "+strings.Repeat("x", 373)+key+"\n") // longer than the guest gives
	b.write("read", strings.Repeat("x", 1980)+token+"\n")
	b.write("screen", strings.Repeat(token, 200)) // wherever it is cut, it is within one
	for _, call := range []struct{ name, args string }{
		{tool.Search, `{"pattern":"needle"}`},
		{tool.Search, `{"pattern":"needle","context":2}`},
		{tool.ReadFile, `{"path":"read"}`},
		{tool.RunTerminalCmd, `{"command":"cat screen"}`},
	} {
		r := b.do(call.name, call.args)
		b.works(r, "[REDACTED]")
		for _, part := range []string{"ghp_", "L0ng", "T0k3n"} {
			if strings.Contains(r.Output, part) {
				t.Errorf("%s %s shows a part of a secret:\n%s", call.name, call.args, r.Output)
			}
		}
	}
	b.works(b.do(tool.RunTerminalCmd, `{"command":"clear; cat screen; echo; echo end-$((1+1))","terminal":"dev"}`))
	b.until(tool.ReadTerminal, `{"name":"dev"}`, "end-2")
	if r := b.do(tool.ReadTerminal, `{"name":"dev"}`); strings.Contains(r.Output, "T0k") || !strings.Contains(r.Output, "cut;") {
		t.Errorf("the terminal shows a part of a secret, or is not cut:\n%s", r.Output)
	}
}

func TestChanging(t *testing.T) {
	b := newBench(t, tool.Options{})
	r := b.do(tool.WriteFile, `{"path":"a/b.txt","content":"one\ntwo\nthree\n"}`)
	b.works(r, "Created a/b.txt (+3 −0)")
	r = b.do(tool.EditFile, `{"path":"a/b.txt","edits":[{"old":"two","new":"2"},{"old":"one\n2","new":"1\n2"}]}`)
	b.works(r, "Changed a/b.txt (+2 −2)")
	if got := b.read("a/b.txt"); got != "1\n2\nthree\n" {
		t.Errorf("content is %q", got)
	}
	want := tool.ChangeResult{Files: []tool.FileChange{{
		Path: "a/b.txt", What: "changed", Added: 2, Removed: 2,
		Diff: "--- a/a/b.txt\n+++ b/a/b.txt\n@@ -1,3 +1,3 @@\n-one\n-two\n+1\n+2\n three\n",
	}}}
	if d := cmp.Diff(want, r.Structured); d != "" {
		t.Errorf("wrong result (-want +got):\n%s", d)
	}
	b.works(b.do(tool.WriteFile, fmt.Sprintf(`{"path":%q,"content":"x\n"}`, filepath.Join(t.TempDir(), "outside"))), "/outside")

	b.write("indent.py", "def f():\n    a = 1\n    return a\n")
	b.fails(b.do(tool.EditFile, `{"path":"indent.py","edits":[{"old":"a = 1\nreturn a","new":"return 1"}]}`),
		"Nothing in indent.py was changed", "nearly matches line 2", "    a = 1\n    return a")
	b.write("twice", "x\nx\n")
	b.fails(b.do(tool.EditFile, `{"path":"twice","edits":[{"old":"x","new":"y"}]}`), "2")
	b.works(b.do(tool.EditFile, `{"path":"twice","edits":[{"old":"x","new":"y","all":true}]}`))
	b.fails(b.do(tool.EditFile, `{"path":"nope","edits":[{"old":"x","new":"y"}]}`), "does not exist")
	b.write("dos.txt", "one\r\ntwo\r\n")
	b.works(b.do(tool.EditFile, `{"path":"dos.txt","edits":[{"old":"one\ntwo","new":"1\n2"}]}`))
	if got := b.read("dos.txt"); got != "1\r\n2\r\n" {
		t.Errorf("content is %q", got)
	}
}

func TestApplyPatch(t *testing.T) {
	b := newBench(t, tool.Options{})
	b.write("keep.txt", "a\nb\nc\n")
	b.write("gone.txt", "x\n")
	b.write("old/name.txt", "same\n")
	patch, _ := json.Marshal(map[string]string{"patch": `*** Begin Patch
*** Update File: keep.txt
 a
-b
+B
*** Add File: new/file.txt
+hello
*** Delete File: gone.txt
*** Update File: old/name.txt
*** Move to: new/name.txt
-same
+other
*** End Patch`})
	r := b.doAs("p1", "", tool.ApplyPatch, string(patch))
	b.works(r, "Changed keep.txt (+1 −1)", "created new/file.txt (+1 −0)", "deleted gone.txt (+0 −1)", "moved old/name.txt to new/name.txt (+1 −1)")
	if b.read("keep.txt") != "a\nB\nc\n" || b.read("new/file.txt") != "hello\n" || b.read("new/name.txt") != "other\n" {
		t.Error("wrong contents")
	}
	for _, name := range []string{"gone.txt", "old/name.txt"} {
		if _, err := os.Stat(filepath.Join(b.root, name)); err == nil {
			t.Errorf("%s is still there", name)
		}
	}

	again := b.doAs("p1", b.line.Hello().Boot, tool.ApplyPatch, string(patch))
	if d := cmp.Diff(r, again); d != "" {
		t.Errorf("the same call again has another result (-first +again):\n%s", d)
	}

	bad, _ := json.Marshal(map[string]string{"patch": "*** Begin Patch\n*** Update File: keep.txt\n-a\n+A\n*** Update File: nope.txt\n-a\n+b\n*** End Patch"})
	b.fails(b.do(tool.ApplyPatch, string(bad)), "nothing was changed", "nope.txt: there is no such file")
	if b.read("keep.txt") != "a\nB\nc\n" {
		t.Error("half of a patch was applied")
	}
}

// Whatever the tool: the same id again does nothing again.
func TestOnce(t *testing.T) {
	b := newBench(t, tool.Options{})
	boot := b.line.Hello().Boot
	b.write("f.txt", "x\n")
	calls := []struct{ op, name, args string }{
		{"o1", tool.RunTerminalCmd, `{"command":"echo run >> counter; wc -l < counter"}`},
		{"o2", tool.WriteFile, `{"path":"w.txt","content":"w\n"}`},
		{"o3", tool.EditFile, `{"path":"f.txt","edits":[{"old":"x","new":"xx"}]}`},
		{"o4", tool.EditFile, `{"path":"f.txt","edits":[{"old":"nope","new":"xx"}]}`},
		{"o5", tool.ApplyPatch, `{"patch":"*** Update File: f.txt\n+head\n xx\n"}`},
	}
	for _, c := range calls {
		first := b.doAs(c.op, "", c.name, c.args)
		again := b.doAs(c.op, boot, c.name, c.args)
		if d := cmp.Diff(first, again); d != "" {
			t.Errorf("%s again has another result (-first +again):\n%s", c.name, d)
		}
		if err := b.set.Forget(t.Context(), c.op); err != nil {
			t.Fatal(err)
		}
	}
	if got := b.read("counter"); got != "run\n" {
		t.Errorf("the command ran %d times", strings.Count(got, "run"))
	}
	if got := b.read("f.txt"); got != "head\nxx\n" {
		t.Errorf("f.txt is %q", got)
	}
}

func TestRestartedMachine(t *testing.T) {
	b := newBench(t, tool.Options{})
	r := b.doAs("o1", "an earlier life", tool.RunTerminalCmd, `{"command":"touch ran"}`)
	b.fails(r, "The machine was restarted while this ran; whether it finished is unknown.")
	if !r.Unknown {
		t.Error("the result is not marked unknown")
	}
	if _, err := os.Stat(filepath.Join(b.root, "ran")); err == nil {
		t.Error("the command was run all the same")
	}
	b.write("f", "x\n")
	b.works(b.doAs("o2", "an earlier life", tool.ReadFile, `{"path":"f"}`), "x")
}

func TestPlan(t *testing.T) {
	b := newBench(t, tool.Options{})
	r := b.do(tool.UpdatePlan, `{"items":[{"text":"a","status":"completed"},{"text":"b","status":"in_progress"}]}`)
	b.works(r, "1 of 2 items done")
	want := &errand.PlanData{Items: []errand.PlanItem{{Text: "a", Status: "done"}, {Text: "b", Status: "in_progress"}}}
	if d := cmp.Diff(want, r.Plan); d != "" {
		t.Errorf("wrong plan (-want +got):\n%s", d)
	}
	r = b.do(tool.Finish, `{"summary":"Done."}`)
	if d := cmp.Diff(&tool.End{Summary: "Done."}, r.End); d != "" {
		t.Errorf("wrong end (-want +got):\n%s", d)
	}
}
