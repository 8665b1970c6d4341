package handover

import (
	"fmt"
	"strings"
	"time"

	"github.com/errand-dev/errand"
)

// Bounds of what the model is told, of which the journal has more.
const (
	toldPatch    = 12 << 10 // bytes
	toldFiles    = 60
	toldCommits  = 20
	toldCommands = 60
	toldCommand  = 400      // bytes
	toldScreen   = 1500     // bytes of each, their end
	toldNote     = 16 << 10 // bytes
)

// Summary tells the model what happened while it was paused, up to at.
func Summary(e errand.TakeoverEnded, at time.Time) string {
	var b strings.Builder
	who := e.Holder.Called()
	fmt.Fprintf(&b, "[%s took this machine over at %s and %s, %s later. You were paused meanwhile. What follows is what they did there; it stands in the machine as it is now. Look again at files that they changed before you edit them, and do not undo their work.]\n",
		who, e.Since.UTC().Format("15:04 MST"), ended(e.Ending, who), at.Sub(e.Since).Round(time.Second))
	if note := strings.TrimSpace(e.Ending.Note); note != "" {
		fmt.Fprintf(&b, "\nThey say:\n%s\n", clip(note, toldNote))
	}
	c := e.Changed
	if c.Problem != "" {
		fmt.Fprintf(&b, "\nNot all of it is known. %s\n", c.Problem)
	}
	if len(c.Files)+len(c.Commits)+len(c.Commands)+len(c.Screens) == 0 && !c.Rewritten && c.Problem == "" {
		b.WriteString("\nThey changed no files and ran no commands that are known.\n")
	}
	writeCommits(&b, c)
	writeFiles(&b, c)
	writeCommands(&b, c)
	return strings.TrimSuffix(b.String(), "\n")
}

// ended says how it came to its end.
func ended(e errand.Ending, holder string) string {
	by := e.Caller.Called()
	switch {
	case e.Why == errand.EndingLimit:
		return "did not hand it back in time: it was handed back by itself"
	case e.Why == errand.EndingCancel:
		return fmt.Sprintf("the run was cancelled by %s", by)
	case e.Why == errand.EndingArchive:
		return fmt.Sprintf("the agent was put away by %s", by)
	case by != holder:
		return fmt.Sprintf("%s handed it back", by)
	}
	return "handed it back"
}

func writeCommits(b *strings.Builder, c errand.Changes) {
	if c.Rewritten {
		fmt.Fprintf(b, "\nThe commit that you stood on is no longer part of the history: the branch was rewritten, or another is checked out. It is %s now, at %.12s.\n", orNone(c.Branch), c.Head)
	}
	if len(c.Commits) == 0 {
		return
	}
	b.WriteString("\nCommits that were made, newest first:\n")
	for _, one := range c.Commits[:min(len(c.Commits), toldCommits)] {
		fmt.Fprintf(b, "- %.12s %s (%s)\n", one.ID, one.Title, one.Author)
	}
	if more := len(c.Commits) - toldCommits; more > 0 {
		fmt.Fprintf(b, "- and %d more: git log\n", more)
	}
}

func orNone(branch string) string {
	if branch == "" {
		return "no branch"
	}
	return "branch " + branch
}

func writeFiles(b *strings.Builder, c errand.Changes) {
	if len(c.Files) == 0 {
		return
	}
	b.WriteString("\nFiles that differ from when they came, committed or not:\n")
	for _, f := range c.Files[:min(len(c.Files), toldFiles)] {
		fmt.Fprintf(b, "- %s %s", f.Status, f.Path)
		if f.OldPath != "" {
			fmt.Fprintf(b, " (was %s)", f.OldPath)
		}
		if f.Binary {
			b.WriteString(", binary\n")
		} else {
			fmt.Fprintf(b, ", +%d -%d\n", f.Added, f.Deleted)
		}
	}
	if more := len(c.Files) + c.MoreFile - toldFiles; more > 0 {
		fmt.Fprintf(b, "- and %d more\n", more)
	}
	patch, cut := cutLines(c.Patch, toldPatch)
	if patch == "" && !cut {
		return
	}
	fmt.Fprintf(b, "\nThe difference:\n```diff\n%s```\n", patch)
	if cut || c.PatchCut {
		fmt.Fprintf(b, "It is longer than this. All of it: %s\n", c.Whole)
	}
}

func writeCommands(b *strings.Builder, c errand.Changes) {
	if len(c.Commands) > 0 {
		b.WriteString("\nCommands that were run:\n")
	}
	if more := len(c.Commands) - toldCommands; more > 0 {
		fmt.Fprintf(b, "- %d earlier ones are left out\n", more)
	}
	for _, one := range c.Commands[max(0, len(c.Commands)-toldCommands):] {
		where := "by " + one.Who
		if one.Who == "" {
			where = "in a shell"
		}
		if one.Where != "" {
			where = "in terminal " + one.Where
		}
		fmt.Fprintf(b, "- %s: %s\n", where, strings.ReplaceAll(clip(one.Text, toldCommand), "\n", "\n  "))
	}
	for _, s := range c.Screens {
		text := s.Text
		if len(text) > toldScreen {
			text = "…" + strings.ToValidUTF8(text[len(text)-toldScreen:], "")
		}
		fmt.Fprintf(b, "\nTerminal %s showed meanwhile:\n%s\n", s.Terminal, text)
	}
}
