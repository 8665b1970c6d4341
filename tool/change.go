package tool

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"path"
	"strings"

	"github.com/rogpeppe/go-internal/diff"

	"github.com/errand-dev/errand/guest"
)

// ChangeResult is what changed, for screens.
type ChangeResult struct {
	Files []FileChange `json:"files"`
}

// FileChange is what became of one file.
type FileChange struct {
	Path    string `json:"path"`
	From    string `json:"from,omitempty"` // where it was, after a move
	What    string `json:"what"`           // "created", "changed", "deleted", "moved"
	Added   int    `json:"added"`          // lines
	Removed int    `json:"removed"`
	Diff    string `json:"diff,omitempty"` // unified; "" where it is too large or not text
}

// maxDiff bounds the diffs of one change in bytes; files beyond it have none.
const maxDiff = 128 << 10

func (s *Set) writeFile(ctx context.Context, c Call) (Result, error) {
	var args struct {
		Path    string `json:"path"`
		Content string `json:"content"`
	}
	if err := decodeCall(c, &args, "path", "content"); err != nil {
		return Result{}, err
	}
	root, rel, _ := s.place(args.Path)
	result, err := s.o.Line.Change(ctx, c.Op, root, []guest.FileChange{{
		Path: rel, Kind: guest.ChangeWrite, Data: []byte(args.Content),
	}})
	return changed(root, result), s.explain(ctx, err, args.Path)
}

func (s *Set) editFile(ctx context.Context, c Call) (Result, error) {
	var args struct {
		Path  string       `json:"path"`
		Edits []guest.Edit `json:"edits"`
	}
	if err := decodeCall(c, &args, "path", "edits"); err != nil {
		return Result{}, err
	}
	if len(args.Edits) == 0 {
		return Result{}, misusef("edits is empty.")
	}
	for i, e := range args.Edits {
		switch {
		case e.Old == "":
			return Result{}, misusef("old is empty in edit %d. Give the text to replace; to make a new file use write_file.", i+1)
		case e.Old == e.New:
			return Result{}, misusef("old and new are the same in edit %d.", i+1)
		}
	}
	root, rel, shown := s.place(args.Path)
	change := guest.FileChange{Path: rel, Kind: guest.ChangeEdit, Edits: args.Edits}
	result, err := s.o.Line.Change(ctx, c.Op, root, []guest.FileChange{change})
	if !errors.Is(err, guest.ErrMismatch) {
		return changed(root, result), s.explain(ctx, err, args.Path)
	}
	data, _, rerr := s.o.Line.ReadFile(ctx, root, rel, 0, 0)
	if rerr != nil {
		return Result{}, err
	}
	file := splitLines(string(data))
	if !file.crlf {
		return Result{}, mismatch(err, file, shown, args.Edits)
	}
	// The model does not see the carriage returns of such a file.
	change.Edits = withReturns(args.Edits)
	result, err = s.o.Line.Change(ctx, c.Op+returnsSuffix, root, []guest.FileChange{change})
	if errors.Is(err, guest.ErrMismatch) {
		return Result{}, mismatch(err, file, shown, args.Edits)
	}
	return changed(root, result), err
}

func withReturns(edits []guest.Edit) []guest.Edit {
	crlf := func(s string) string {
		return strings.ReplaceAll(strings.ReplaceAll(s, "\r\n", "\n"), "\n", "\r\n")
	}
	out := make([]guest.Edit, len(edits))
	for i, e := range edits {
		out[i] = guest.Edit{Old: crlf(e.Old), New: crlf(e.New), All: e.All}
	}
	return out
}

// mismatch words an edit that did not match, with what the file has instead
// where that can be told: mostly it is the white space.
func mismatch(err error, file text, shown string, edits []guest.Edit) error {
	hint := ""
	for i, e := range edits {
		if strings.Contains(file.String(), e.Old) {
			continue
		}
		old := splitLines(e.Old).lines
		if at := findLines(file.lines, old, sameTrimmed); len(at) == 1 {
			near := strings.Join(file.lines[at[0]:at[0]+len(old)], "\n")
			hint += fmt.Sprintf("\nEdit %d nearly matches line %d; the white space differs. The file has:\n%s", i+1, at[0]+1, near)
		}
	}
	if hint == "" {
		hint = "\nRead the file again: it may not be as you think."
	}
	return misusef("Nothing in %s was changed. %s%s", shown, sentence(err.Error()), hint)
}

func (s *Set) applyPatch(ctx context.Context, c Call) (Result, error) {
	var args struct {
		Patch string `json:"patch"`
	}
	if err := decodeCall(c, &args, "patch"); err != nil {
		return Result{}, err
	}
	patches, err := parsePatch(args.Patch)
	if err != nil {
		return Result{}, misusef("the patch cannot be read: %v. Nothing was changed.", err)
	}
	root := s.patchRoot(patches)
	changes, err := s.draft(ctx, c, root, patches)
	if err != nil {
		return Result{}, err
	}
	result, err := s.o.Line.Change(ctx, c.Op, root, changes)
	if isRefusal(err) {
		return Result{}, misusef("the patch does not apply: %s Nothing was changed.", stopped(err.Error()))
	}
	if err != nil {
		return Result{}, err
	}
	return changed(root, result), nil
}

// patchRoot gives the directory to which all paths of a patch are made
// relative: the repository, or the whole machine if one of them lies outside.
func (s *Set) patchRoot(patches []filePatch) string {
	root := s.o.Root
	for _, p := range patches {
		for _, name := range []string{p.path, p.to} {
			if name == "" {
				continue
			}
			if r, _, _ := s.place(name); r != s.o.Root {
				root = r
			}
		}
	}
	for i := range patches {
		patches[i].path = s.under(root, patches[i].path)
		if patches[i].to != "" {
			patches[i].to = s.under(root, patches[i].to)
		}
	}
	return root
}

func (s *Set) under(root, name string) string {
	r, rel, _ := s.place(name)
	if r == root {
		return rel
	}
	return strings.TrimPrefix(path.Join(s.o.Root, rel), "/")
}

// draft works out what a patch comes to. That depends on what the files hold,
// which the patch itself changes; so the first outcome is left in the machine,
// and a call that is made again takes that one.
func (s *Set) draft(ctx context.Context, c Call, root string, patches []filePatch) ([]guest.FileChange, error) {
	name := s.spill(c.Op + ".patch.json")
	if c.Boot != "" {
		changes, ok, err := s.readDraft(ctx, name)
		if ok || err != nil {
			return changes, err
		}
	}
	changes, err := s.resolve(ctx, root, patches)
	if err != nil {
		return nil, err
	}
	data, err := json.Marshal(changes)
	if err != nil {
		return nil, err
	}
	if _, err := s.o.Line.WriteFile(ctx, c.Op+draftSuffix, "/", name, data, fs.FileMode(0o600)); err != nil {
		return nil, err
	}
	return changes, nil
}

func (s *Set) readDraft(ctx context.Context, name string) (changes []guest.FileChange, ok bool, err error) {
	var data []byte
	for {
		piece, stat, err := s.o.Line.ReadFile(ctx, "/", name, int64(len(data)), 0)
		if isRefusal(err) {
			return nil, false, nil
		}
		if err != nil {
			return nil, false, err
		}
		data = append(data, piece...)
		if len(piece) == 0 || int64(len(data)) >= stat.Size {
			break
		}
	}
	if err := json.Unmarshal(data, &changes); err != nil {
		return nil, false, nil
	}
	return changes, true, nil
}

// resolve finds each hunk's place in the files as they are. All that does not
// fit is told at once.
func (s *Set) resolve(ctx context.Context, root string, patches []filePatch) ([]guest.FileChange, error) {
	var changes []guest.FileChange
	var faults []string
	for _, p := range patches {
		change, err := s.resolveFile(ctx, root, p)
		var wrong misuse
		if errors.As(err, &wrong) {
			faults = append(faults, stopped(fmt.Sprintf("%s: %s", p.path, wrong)))
			continue
		}
		if err != nil {
			return nil, err
		}
		changes = append(changes, change)
	}
	if len(faults) > 0 {
		return nil, misusef("the patch does not apply, and nothing was changed.\n%s", strings.Join(faults, "\n"))
	}
	return changes, nil
}

func (s *Set) resolveFile(ctx context.Context, root string, p filePatch) (guest.FileChange, error) {
	change := guest.FileChange{Path: p.path, Kind: p.kind, To: p.to, Mode: p.mode}
	switch {
	case p.kind == guest.ChangeCreate:
		change.Data = []byte(p.content)
		return change, nil
	case len(p.hunks) == 0:
		return change, nil
	}
	text, err := s.whole(ctx, root, p.path)
	if errors.Is(err, fs.ErrNotExist) {
		return change, misusef("there is no such file.%s", s.similar(ctx, p.path))
	}
	if isRefusal(err) {
		return change, misuse(err.Error())
	}
	if err != nil {
		return change, err
	}
	after, err := applyHunks(text, p.hunks)
	if err != nil {
		return change, misuse(err.Error())
	}
	if text == "" {
		change.Kind, change.Data = guest.ChangeWrite, []byte(after)
		return change, nil
	}
	// The whole text is what must be there, so that what somebody else writes in
	// between is not lost.
	change.Edits = []guest.Edit{{Old: text, New: after}}
	return change, nil
}

// whole reads all of a file that can be patched.
func (s *Set) whole(ctx context.Context, root, rel string) (string, error) {
	data, stat, err := s.o.Line.ReadFile(ctx, root, rel, 0, 0)
	if err != nil {
		return "", err
	}
	if int64(len(data)) < stat.Size {
		return "", misusef("the file has %d bytes; at most %d can be patched.", stat.Size, len(data))
	}
	return string(data), nil
}

// changed tells what a change did.
func changed(root string, result guest.ChangeResult) Result {
	var out ChangeResult
	var lines []string
	room := maxDiff
	for _, f := range result.Files {
		fc := describe(root, f)
		if len(fc.Diff) > room {
			fc.Diff = ""
		}
		room -= len(fc.Diff)
		out.Files = append(out.Files, fc)
		line := fc.What + " " + fc.Path
		if fc.What == "moved" {
			line = fmt.Sprintf("moved %s to %s", fc.From, fc.Path)
		}
		if fc.Added+fc.Removed > 0 {
			line += fmt.Sprintf(" (+%d −%d)", fc.Added, fc.Removed)
		}
		lines = append(lines, line)
	}
	return Result{Output: sentence(strings.Join(lines, "\n")), Structured: out}
}

func describe(root string, f guest.FileResult) FileChange {
	fc := FileChange{Path: f.Path, From: f.From, What: "changed"}
	if root == "/" {
		fc.Path = "/" + fc.Path
		if fc.From != "" {
			fc.From = "/" + fc.From
		}
	}
	switch {
	case f.From != "" && f.From != f.Path:
		fc.What = "moved"
	case !f.Exists:
		fc.What = "deleted"
	case !f.Existed:
		fc.What = "created"
	}
	if f.Truncated || bytes.IndexByte(f.Before, 0) >= 0 || bytes.IndexByte(f.After, 0) >= 0 {
		return fc
	}
	from, to := "a/"+f.Path, "b/"+f.Path
	if f.From != "" {
		from = "a/" + f.From
	}
	if !f.Existed {
		from = "/dev/null"
	}
	if !f.Exists {
		to = "/dev/null"
	}
	text := string(diff.Diff(from, f.Before, to, f.After))
	fc.Added, fc.Removed = tally(text)
	// The first line repeats the names that the next two give.
	_, fc.Diff, _ = strings.Cut(text, "\n")
	return fc
}

// tally counts the lines that a diff adds and removes.
func tally(diff string) (added, removed int) {
	hunk := false
	for line := range strings.Lines(diff) {
		switch {
		case strings.HasPrefix(line, "@@"):
			hunk = true
		case !hunk:
		case line[0] == '+':
			added++
		case line[0] == '-':
			removed++
		}
	}
	return added, removed
}
