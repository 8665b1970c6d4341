package inside_test

import (
	"fmt"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/errand-dev/errand/dockerfile"
	"github.com/errand-dev/errand/machine/buildkit/solver/inside"
)

func TestLint(t *testing.T) {
	t.Parallel()
	for _, test := range []struct {
		name, text string
		want       []string // line, rule; an error has a "!"
	}{
		{"nothing", "FROM alpine:3 AS base\nENV A=b\nRUN echo $A $PATH\nCMD [\"sh\"]\n", nil},
		{"old ways", "FROM scratch as Base\nMAINTAINER joe\nENV a b\nRUN true && \\\n\n  true\n",
			[]string{"1 StageNameCasing", "1 FromAsCasing", "2 MaintainerDeprecated", "3 LegacyKeyValueFormat", "6 NoEmptyContinuation"}},
		{"what runs", "FROM alpine:3\nWORKDIR src\nCMD echo hi\nCMD echo ho\n",
			[]string{"2 WorkdirRelativePath", "3 JSONArgsRecommended", "3 MultipleInstructionsDisallowed", "4 JSONArgsRecommended"}},
		{"secrets", "FROM alpine:3\nARG API_TOKEN\nENV AWS_SECRET_ACCESS_KEY=x\n", []string{"2 SecretsUsedInArgOrEnv", "3 SecretsUsedInArgOrEnv"}},
		{"in a stage that nobody needs", "FROM alpine:3 AS one\nWORKDIR src\nFROM alpine:3\n", []string{"2 WorkdirRelativePath"}},
		{"a slip", "FROM alpine:3\nENV GREETING=a\nENV B=$GREETNG\n", []string{"3 UndefinedVar"}},
		{"a variable that the base may have", "FROM python:3\nENV B=$PYTHON_VERSION\n", nil},
		{"two stages of one name", "FROM alpine:3 AS one\nFROM alpine:3 AS one\n", []string{"2 DuplicateStageName"}},
		{"an instruction that is none", "FROM alpine:3\nRUNN x\n", []string{"2!"}},
		{"no base", "# nothing\n", []string{"1!"}},
		{"a circle", "FROM alpine:3 AS a\nCOPY --from=b /x /x\nFROM alpine:3 AS b\nCOPY --from=a /x /x\n", []string{"2!"}},
		{"too much", strings.Repeat("#", 1<<20), []string{"0!"}},
	} {
		t.Run(test.name, func(t *testing.T) {
			t.Parallel()
			var got []string
			for _, f := range dockerfile.Lint([]byte(test.text), linter(t)) {
				switch {
				case f.Fatal:
					got = append(got, fmt.Sprintf("%d!", f.Line))
				default:
					got = append(got, fmt.Sprintf("%d %s", f.Line, f.Rule))
				}
				if f.Text == "" || !f.Fatal && f.URL == "" {
					t.Errorf("it explains nothing: %+v", f)
				}
			}
			if diff := cmp.Diff(test.want, got); diff != "" {
				t.Errorf("found (-want +got):\n%s\n%+v", diff, dockerfile.Lint([]byte(test.text), linter(t)))
			}
		})
	}
}

func linter(t *testing.T) dockerfile.Linter {
	return func(text []byte) ([]dockerfile.Finding, error) { return inside.Lint(t.Context(), text) }
}
