package environment

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"testing"
	"unicode/utf8"

	"github.com/google/go-cmp/cmp"
	"pgregory.net/rapid"

	"github.com/errand-dev/errand"
	"github.com/errand-dev/errand/guest"
	"github.com/errand-dev/errand/secret"
)

// TestTranscriptResumes gives random output in random pieces to a transcript
// that is cut off at a random piece, and then all of it again to one that goes
// on from what was recorded: together they have all of it once, in whole
// characters.
func TestTranscriptResumes(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		text := rapid.StringN(0, 200, 800).Draw(t, "text")
		var pieces []guest.Output
		for at := 0; at < len(text); {
			n := rapid.IntRange(1, len(text)-at).Draw(t, "length")
			pieces = append(pieces, guest.Output{Offset: int64(at), Data: []byte(text[at : at+n])})
			at += n
		}
		var recorded []errand.PhaseOutput
		note := func(facts []errand.Fact) {
			for _, f := range facts {
				recorded = append(recorded, f.Data.(errand.PhaseOutput))
			}
		}
		first := &transcript{phase: errand.PhaseInstall}
		for _, piece := range pieces[:rapid.IntRange(0, len(pieces)).Draw(t, "before the cut")] {
			first.take(piece)
			if rapid.Bool().Draw(t, "recorded here") {
				note(first.facts(false))
			}
		}
		second := &transcript{phase: errand.PhaseInstall}
		if len(recorded) > 0 {
			second.from = recorded[len(recorded)-1].End
		}
		for _, piece := range pieces {
			second.take(piece)
			if rapid.Bool().Draw(t, "recorded again") {
				note(second.facts(false))
			}
		}
		rest, err := second.rest()
		if err != nil {
			t.Fatal(err)
		}
		note(rest)
		var got strings.Builder
		for _, d := range recorded {
			if !utf8.ValidString(d.Text) {
				t.Fatalf("%q is no UTF-8", d.Text)
			}
			got.WriteString(d.Text)
		}
		if diff := cmp.Diff(text, got.String()); diff != "" {
			t.Fatalf("recorded (-want +got):\n%s", diff)
		}
	})
}

// TestTranscriptBounds prints much more than is recorded, with a gap that the
// guest left, and joins late.
func TestTranscriptBounds(t *testing.T) {
	const line = "%099d\n" // a hundred bytes
	for _, from := range []int64{0, 4000, 600_000, 9_000_000} {
		t.Run(fmt.Sprint("from ", from), func(t *testing.T) {
			tr := &transcript{phase: errand.PhaseInstall, from: from}
			var facts []errand.Fact
			for i := range 100_000 {
				if i >= 30_000 && i < 70_000 {
					continue
				}
				tr.take(guest.Output{Offset: int64(i) * 100, Data: fmt.Appendf(nil, line, i)})
				if i%100 == 0 {
					facts = append(facts, tr.facts(false)...)
				}
			}
			rest, err := tr.rest()
			if err != nil {
				t.Fatal(err)
			}
			var text strings.Builder
			for _, f := range append(facts, rest...) {
				text.WriteString(f.Data.(errand.PhaseOutput).Text)
			}
			got := text.String()
			if len(got) > maxRecorded+1000 {
				t.Errorf("%d bytes are recorded, want at most %d and a note", len(got), maxRecorded)
			}
			first, last := fmt.Sprintf(line, from/100), fmt.Sprintf(line, 99_999)
			if from < maxRecorded/2 && !strings.HasPrefix(got, first) {
				t.Errorf("it begins with %.120q, want %q", got, first)
			}
			if !strings.HasSuffix(got, last) || !strings.HasSuffix(tr.lastWords(), last) || len(tr.lastWords()) != maxError {
				t.Errorf("it does not end with %q, or the error's output does not", last)
			}
			dropped, kept := int64(0), int64(len(got))
			if _, err := fmt.Sscanf(got[strings.Index(got, "…"):], "… %d bytes", &dropped); err != nil {
				t.Fatal(err)
			}
			kept -= int64(len(fmt.Sprintf("\n… %d bytes are left out …\n", dropped)))
			if from+kept+dropped != 10_000_000 {
				t.Errorf("%d from before, %d recorded and %d left out are not 10000000 bytes", from, kept, dropped)
			}
		})
	}
}

func TestTranscriptStopsWhenRecordingFails(t *testing.T) {
	full := errors.New("disk full")
	tr := &transcript{phase: errand.PhaseInstall, record: func(context.Context, ...errand.Fact) error { return full }}
	tr.take(guest.Output{Data: []byte("x")})
	failed := make(chan struct{})
	tr.follow(t.Context(), t.Context().Done(), func() { close(failed) })
	<-failed
	if _, err := tr.rest(); !errors.Is(err, full) {
		t.Errorf("got %v, want %v", err, full)
	}
}

// TestTranscriptHidesSecrets prints a secret in pieces, on either stream, with
// the other's output between, and joins in its middle.
func TestTranscriptHidesSecrets(t *testing.T) {
	const value = "hunter2-is-a-long-value"
	redactor := &secret.Redactor{}
	redactor.Add(value)
	rapid.Check(t, func(t *rapid.T) {
		text := "before " + value + " and\n" + value[:10] + "\n  " + value[10:] + " after\n"
		var pieces []guest.Output
		offset := int64(0)
		for at := 0; at < len(text); {
			n := rapid.IntRange(1, 8).Draw(t, "length")
			n = min(n, len(text)-at)
			pieces = append(pieces, guest.Output{Offset: offset, Data: []byte(text[at : at+n])})
			offset += int64(n)
			if rapid.Bool().Draw(t, "noise") {
				pieces = append(pieces, guest.Output{Offset: offset, Data: []byte("noise\n"), Stderr: true})
				offset += 6
			}
			at += n
		}
		var recorded []errand.PhaseOutput
		note := func(facts []errand.Fact) {
			for _, f := range facts {
				recorded = append(recorded, f.Data.(errand.PhaseOutput))
			}
		}
		first := &transcript{phase: errand.PhaseInstall, redactor: redactor}
		for _, piece := range pieces[:rapid.IntRange(0, len(pieces)).Draw(t, "before the cut")] {
			first.take(piece)
			if rapid.Bool().Draw(t, "recorded here") {
				note(first.facts(false))
			}
		}
		second := &transcript{phase: errand.PhaseInstall, redactor: redactor}
		if len(recorded) > 0 {
			second.from = recorded[len(recorded)-1].End
		}
		for _, piece := range pieces {
			second.take(piece)
			if rapid.Bool().Draw(t, "recorded again") {
				note(second.facts(false))
			}
		}
		rest, err := second.rest()
		if err != nil {
			t.Fatal(err)
		}
		note(rest)
		var out, noise strings.Builder
		for _, d := range recorded {
			if d.Stderr {
				noise.WriteString(d.Text)
			} else {
				out.WriteString(d.Text)
			}
		}
		if got := out.String(); got != "before [REDACTED] and\n[REDACTED] after\n" {
			t.Fatalf("recorded %q", got)
		}
		if strings.ReplaceAll(noise.String(), "noise\n", "") != "" {
			t.Fatalf("the other stream has %q", noise.String())
		}
	})
}

// TestTranscriptCutsNoSecrets prints secrets only, and more of them than is kept:
// none is told in part, where a cut goes through it.
func TestTranscriptCutsNoSecrets(t *testing.T) {
	const value = "hunter2-is-a-long-value"
	redactor := &secret.Redactor{}
	redactor.Add(value)
	text := strings.Repeat(value, 5*maxRecorded/2/len(value))
	for _, size := range []int{1000, 1111, 4096} {
		tr := &transcript{phase: errand.PhaseInstall, redactor: redactor}
		var facts []errand.Fact
		for at := 0; at < len(text); at += size {
			tr.take(guest.Output{Offset: int64(at), Data: []byte(text[at:min(len(text), at+size)])})
			if at%(50*size) == 0 {
				facts = append(facts, tr.facts(false)...)
			}
		}
		rest, err := tr.rest()
		if err != nil {
			t.Fatal(err)
		}
		recorded := ""
		for _, f := range append(facts, rest...) {
			recorded += f.Data.(errand.PhaseOutput).Text
		}
		told := map[string]string{"recorded": recorded, "in the error": tr.lastWords()}
		for where, got := range told {
			got = got[strings.Index(got, "]")+1:] // a mark may be cut
			if left := strings.ReplaceAll(got, secret.Redacted, ""); strings.Contains(left, "hunter") || strings.Contains(left, "alue") || strings.Contains(left, "long") {
				t.Errorf("in pieces of %d, %s is %.100q", size, where, left)
			}
		}
	}
}
