package tool

import (
	"context"
	"encoding/json"
	"fmt"

	"github.com/errand-dev/errand/llm"
)

// The tools' names.
const (
	RunTerminalCmd = "run_terminal_cmd"
	ReadFile       = "read_file"
	WriteFile      = "write_file"
	EditFile       = "edit_file"
	ApplyPatch     = "apply_patch"
	ListDir        = "list_dir"
	Search         = "search"
	ReadTerminal   = "read_terminal"
	UpdatePlan     = "update_plan"
	RequestBuild   = "request_build"
	Finish         = "finish"
)

// kind is one tool.
type kind struct {
	llm.Tool
	reads bool // it changes nothing in the machine, so that doing it again does no harm
	call  func(*Set, context.Context, Call) (Result, error)
}

// kinds gives all tools. The texts are what the model knows of them, and they
// stand in front of every request: a word here is paid for in each turn.
func kinds(o Options) []kind {
	all := []kind{
		define(RunTerminalCmd, false, (*Set).runCommand, fmt.Sprintf(commandText, o.Root, int(o.Limit.Seconds()), int(o.MaxLimit.Seconds()), o.OutputBound>>10), commandSchema),
		define(ReadFile, true, (*Set).readFile, fmt.Sprintf(readText, o.Root, readLines, o.OutputBound>>10), readSchema),
		define(EditFile, false, (*Set).editFile, editText, editSchema),
		define(ApplyPatch, false, (*Set).applyPatch, patchText, patchSchema),
		define(WriteFile, false, (*Set).writeFile, writeText, writeSchema),
		define(ListDir, true, (*Set).listDir, listText, listSchema),
		define(Search, true, (*Set).search, searchText, searchSchema),
		define(ReadTerminal, true, (*Set).readTerminal, terminalText, terminalSchema),
		define(UpdatePlan, true, (*Set).updatePlan, planText, planSchema),
	}
	if o.Builder != nil && !o.ReadOnly {
		all = append(all, define(RequestBuild, true, (*Set).requestBuild, buildText, buildSchema))
	}
	return append(all, define(Finish, true, (*Set).finish, finishText, finishSchema))
}

func define(name string, reads bool, call func(*Set, context.Context, Call) (Result, error), text, schema string) kind {
	return kind{
		Tool:  llm.Tool{Name: name, Description: text, Schema: json.RawMessage(schema)},
		reads: reads,
		call:  call,
	}
}

const commandText = `Run a shell command in the machine; get its output (stdout and stderr together) and exit status.

- Every call is a new shell in %s, or in dir: files stay, but cd, variables and functions do not carry over. Chain what belongs together with &&.
- Nobody can answer a prompt: stdin is empty and there is no pager. Use flags like -y, --yes, --no-input.
- A command still running after timeout_seconds (default %d, at most %d) is stopped. Raise it for slow builds and tests.
- For what does not end by itself (servers, watchers, REPLs), set background, or name a terminal: the command is typed into the shell of a tmux terminal that people can see too. You get its first output; read_terminal gives more. Never leave a process behind with & or nohup.
- To stop what runs in a terminal, or to answer it, call again with that terminal and the text to type; ^C alone interrupts it.
- Output over %d KiB is cut in the middle and left whole in a file that the output names.
- Prefer search, read_file and edit_file to grep, cat and sed.`

const commandSchema = `{
"type":"object",
"properties":{
 "command":{"type":"string","description":"Shell command, as for bash -c"},
 "dir":{"type":"string","description":"Directory to run in, absolute or relative to the repository root"},
 "timeout_seconds":{"type":"integer","minimum":1,"description":"Time limit of a foreground command"},
 "background":{"type":"boolean","description":"Run it in a new terminal and return at once"},
 "terminal":{"type":"string","description":"Name of the terminal to type into; made if there is none of that name"}
},
"required":["command"],
"additionalProperties":false}`

const readText = `Read a text file, or look at a picture (png, jpeg, gif, webp).

Paths are absolute or relative to %s. Each line comes as "number|text"; the number and the bar are not part of the file. Up to %d lines or %d KiB are given at once: for longer files pass offset (the first line, from 1) and limit. Reading a whole file is better than many small pieces of it.`

const readSchema = `{
"type":"object",
"properties":{
 "path":{"type":"string"},
 "offset":{"type":"integer","minimum":1,"description":"First line to read, from 1"},
 "limit":{"type":"integer","minimum":1,"description":"How many lines"}
},
"required":["path"],
"additionalProperties":false}`

const writeText = `Create a file, or replace all of one, with content. Parent directories are made. To change a part of a file use edit_file. Do not write documentation files that nobody asked for.`

const writeSchema = `{
"type":"object",
"properties":{
 "path":{"type":"string"},
 "content":{"type":"string","description":"The whole new content"}
},
"required":["path","content"],
"additionalProperties":false}`

const editText = `Change parts of one file. Each edit replaces the text old by new; edits are done in order, each on what the one before left, and all of them or none.

old must be in the file exactly once, character for character, indentation included and without the line numbers that read_file shows: add lines around it until it is unique, or set all to replace every place (as for a rename). Read the file before editing it.`

const editSchema = `{
"type":"object",
"properties":{
 "path":{"type":"string"},
 "edits":{"type":"array","minItems":1,"items":{
  "type":"object",
  "properties":{
   "old":{"type":"string","description":"Text as it stands in the file"},
   "new":{"type":"string","description":"Text to stand there instead; empty removes it"},
   "all":{"type":"boolean","description":"Replace every place, not just the only one"}
  },
  "required":["old","new"],
  "additionalProperties":false}}
},
"required":["path","edits"],
"additionalProperties":false}`

const patchText = `Change one or several files by a patch: all of it is applied, or nothing. Use it where a change touches several places or files; it also creates, deletes and moves files.

*** Begin Patch
*** Update File: src/app.py
@@ def greet(name):
     """Say hello."""
-    print("Hi " + name)
+    print(f"Hello, {name}!")
*** Update File: old/name.txt
*** Move to: new/name.txt
*** Add File: notes/new.txt
+first line
*** Delete File: gone.txt
*** End Patch

In a hunk each line begins with a space (context), - (removed) or + (added). Give three lines of context around a change, more if they occur elsewhere; @@ may name an enclosing line (function, class) above the hunk. A unified diff as git prints it works too.`

const patchSchema = `{
"type":"object",
"properties":{"patch":{"type":"string","description":"The whole patch"}},
"required":["patch"],
"additionalProperties":false}`

const listText = `List a directory: names, with / after directories, and sizes. What git ignores is left out unless asked for. To find files by name use glob, as in **/*_test.go.`

const listSchema = `{
"type":"object",
"properties":{
 "path":{"type":"string","description":"Directory; the repository root if left out"},
 "depth":{"type":"integer","minimum":1,"description":"How many levels, default 1"},
 "glob":{"type":"string","description":"Only files that match, at any depth"},
 "ignored":{"type":"boolean","description":"Also what git ignores"}
},
"additionalProperties":false}`

const searchText = `Search file contents by regular expression (RE2, line by line; (?i) ignores case). Gives path:line: text. What git ignores and binary files are left out. Escape ( ) [ ] { } . * + ? to look for them literally.`

const searchSchema = `{
"type":"object",
"properties":{
 "pattern":{"type":"string"},
 "path":{"type":"string","description":"File or directory to search; the repository root if left out"},
 "glob":{"type":"string","description":"Only files that match: *.go, src/**/*.{ts,tsx}"},
 "context":{"type":"integer","minimum":0,"maximum":20,"description":"Lines to show around each match"},
 "ignored":{"type":"boolean","description":"Also what git ignores (vendor, node_modules)"}
},
"required":["pattern"],
"additionalProperties":false}`

const terminalText = `Read what a terminal shows, its newest lines last. Without a name: list the terminals. Terminals are those of the environment (dev servers and the like), those that run_terminal_cmd made, and those of people.`

const terminalSchema = `{
"type":"object",
"properties":{
 "name":{"type":"string"},
 "lines":{"type":"integer","minimum":1,"description":"How many of the newest lines, default 100"}
},
"additionalProperties":false}`

const planText = `Keep the plan of your work, which the person watches: give all items each time, in order. Use it for work of three steps or more. One item at a time is in_progress; set it to done as soon as it is.`

const planSchema = `{
"type":"object",
"properties":{
 "items":{"type":"array","items":{
  "type":"object",
  "properties":{
   "text":{"type":"string","description":"What to do, in a few words"},
   "status":{"type":"string","enum":["pending","in_progress","done"]}
  },
  "required":["text","status"],
  "additionalProperties":false}}
},
"required":["items"],
"additionalProperties":false}`

const buildText = `Ask for a build of your environment, so that the agents after you start with what is missing now. Do it when what all of them need is not there or is stale (a tool, a toolchain, an install that fails), not for what your own work alone needs.

- Without why it only shows the environment: the text of its file.
- environment is the whole text that you propose; leave it out to build the environment as it is. install runs as a build is made, in a fresh machine, from the repository root, and must be safe to run twice; start runs when an agent's machine starts.
- It is built at the default branch, or with own_branch at your branch as you pushed it last.
- The call returns when the build has ended, with what went wrong if it failed. The build is a draft: a person looks at it and decides. Your own machine stays as it is.`

const buildSchema = `{
"type":"object",
"properties":{
 "why":{"type":"string","description":"For the person who decides: what is missing, and what the build changes"},
 "environment":{"type":"string","description":"The whole environment file, as JSON"},
 "own_branch":{"type":"boolean","description":"Build at your pushed branch"}
},
"additionalProperties":false}`

const finishText = `End the run. Call it, alone, when the work is done and checked, or when it cannot be done. The summary is what the person reads first.`

const finishSchema = `{
"type":"object",
"properties":{"summary":{"type":"string","description":"Markdown, a few sentences: what you changed and why, how you checked it, and what is left or uncertain"}},
"required":["summary"],
"additionalProperties":false}`
