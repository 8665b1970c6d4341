package cli

import (
	"fmt"
	"io"
	"strings"
	"unicode/utf8"

	"github.com/errand-dev/errand"
	"github.com/errand-dev/errand/api"
)

// showProposal writes a draft with the reason for each of its lines.
func showProposal(w io.Writer, s style, columns int, setup api.Setup) {
	p := setup.Proposal
	if p == nil {
		return
	}
	fmt.Fprintf(w, "\n%s\n", s.bold(printable(p.Path)))
	fmt.Fprintln(w, indent(printable(setup.Draft)))
	if setup.Draft == p.Text {
		mark := "\nWhy:\n"
		for _, r := range p.Reasons {
			if r.Key != "verify" {
				fmt.Fprint(w, mark)
				showReason(w, s, columns, r)
				mark = ""
			}
		}
	}
	if setup.Verify != "" {
		fmt.Fprintf(w, "\n%s %s\n", s.bold("Shown to work by:"), printable(setup.Verify))
		for _, r := range p.Reasons {
			if r.Key == "verify" && setup.Verify == p.Verify {
				showReason(w, s, columns, r)
			}
		}
	}
	for _, n := range p.Notes {
		fmt.Fprintf(w, "\n%s\n", s.yellow(wrap("! ", printable(n), columns)))
	}
}

// showReason writes one reason: what, then why and where.
func showReason(w io.Writer, s style, columns int, r errand.Reason) {
	where := ""
	if r.File != "" {
		where = printable(r.File)
		if r.Line > 0 {
			where += fmt.Sprintf(":%d", r.Line)
		}
	}
	fmt.Fprintf(w, "  %s %s\n", s.cyan(fmt.Sprintf("%-9s", r.Key)), clip(r.Value, columns-14))
	text := wrap("            ", printable(r.Text), columns)
	if where != "" {
		if last := text[strings.LastIndexByte(text, '\n')+1:]; utf8.RuneCountInString(last)+len(where)+3 > columns {
			text += "\n           "
		}
		where = " (" + where + ")"
	}
	fmt.Fprintln(w, s.dim(text+where))
}

// wrap breaks text into lines of at most columns, each behind a margin; the
// first may be a mark of the same width.
func wrap(margin, text string, columns int) string {
	var b strings.Builder
	at := 0
	for word := range strings.FieldsSeq(text) {
		n := utf8.RuneCountInString(word)
		switch {
		case at == 0:
			b.WriteString(margin)
			at = len(margin)
		case at+1+n > columns:
			b.WriteString("\n" + strings.Repeat(" ", len(margin)))
			at = len(margin)
		default:
			b.WriteString(" ")
			at++
		}
		b.WriteString(word)
		at += n
	}
	return b.String()
}

func indent(text string) string {
	return "  " + strings.ReplaceAll(strings.TrimRight(text, "\n"), "\n", "\n  ")
}

// showProof writes what the latest proof showed, a line for each step.
func showProof(w io.Writer, s style, setup api.Setup) {
	p := setup.Proof
	if p == nil || p.EndedAt.IsZero() {
		return
	}
	fmt.Fprintln(w)
	for _, step := range p.Steps {
		mark := s.green("✓")
		if step.Failed {
			mark = s.red("✗")
		}
		what := map[errand.Phase]string{errand.PhaseAgain: "install again", errand.PhaseVerify: "verify", errand.PhaseImage: "", errand.PhaseMachine: "", errand.PhaseSnapshot: ""}
		name, named := what[step.Phase]
		if !named {
			name = string(step.Phase)
		}
		if name == "" && !step.Failed {
			continue
		}
		line := fmt.Sprintf("  %s %-14s", mark, name)
		if step.Command != "" {
			line += " " + clip(step.Command, 44)
		} else if step.Note != "" {
			line += " " + clip(step.Note, 44)
		}
		fmt.Fprintln(w, line+" "+s.dim(milliseconds(step.DurationMs)))
	}
	showVerdict(w, s, setup)
}

// showVerdict writes what the latest proof came to.
func showVerdict(w io.Writer, s style, setup api.Setup) {
	switch p := setup.Proof; {
	case p == nil || !p.OK || p.EndedAt.IsZero():
	case p.Draft == setup.Draft && p.Verify == setup.Verify:
		fmt.Fprintln(w, s.green("\n  It works in a clean machine."))
	default:
		fmt.Fprintln(w, s.yellow("\n  The draft was changed since; prove it again."))
	}
}

// showSetupError writes why the last thing that was tried did not succeed.
func showSetupError(w io.Writer, s style, setup api.Setup) {
	if setup.Error == nil {
		return
	}
	fmt.Fprintf(w, "\n%s\n", s.red(wrap("  ", printable(setup.Error.Message), 80)))
	output := setup.Error.Output
	if n := len(output); n > 2000 {
		output = "…" + output[n-2000:]
	}
	writeOutput(w, s, &errand.Error{Output: output, ExitCode: setup.Error.ExitCode})
}
