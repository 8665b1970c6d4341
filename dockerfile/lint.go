package dockerfile

import (
	"slices"
	"strings"
)

// Finding is one thing that is odd about a Dockerfile.
type Finding struct {
	Line  int    `json:"line,omitempty"`  // from 1; 0 where the file as a whole is meant
	Rule  string `json:"rule,omitempty"`  // the linter's name for it, such as "MaintainerDeprecated"; may be ""
	Text  string `json:"text"`            // a sentence
	URL   string `json:"url,omitempty"`   // where it is explained; may be ""
	Fatal bool   `json:"fatal,omitempty"` // it cannot be built
}

// Linter says what is odd about a Dockerfile that can be parsed. Its error is that
// it could not look.
type Linter func(text []byte) ([]Finding, error)

// Lint says, by line, what linter says of text, and why it cannot be built where
// Parse would refuse it. With a nil linter it is the latter alone.
func Lint(text []byte, linter Linter) []Finding {
	var all findings
	if len(text) > MaxSize {
		_, err := Parse("The file", text, nil)
		return []Finding{{Text: err.Error(), Fatal: true}}
	}
	var file File
	if err := file.parse(text, nil); err != nil {
		line, said := located(err)
		all.add(Finding{Line: line, Text: said, Fatal: true})
		return all
	}
	if linter == nil {
		return nil
	}
	if file.lint > maxWeight {
		all.add(Finding{Text: "The file was not looked through: " + errHeavy.Error()})
		return all
	}
	odd, err := linter(text)
	if err != nil {
		all.add(Finding{Text: err.Error()})
	}
	for _, f := range odd {
		all.add(f)
	}
	slices.SortStableFunc(all, func(a, b Finding) int { return a.Line - b.Line })
	return all
}

// findings are each there once.
type findings []Finding

func (all *findings) add(f Finding) {
	if f.Text = strings.TrimSpace(f.Text); f.Text != "" && !strings.HasSuffix(f.Text, ".") {
		f.Text += "."
	}
	if !slices.Contains(*all, f) {
		*all = append(*all, f)
	}
}
