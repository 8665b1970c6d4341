package cli

import (
	"os"
	"path/filepath"
	"regexp"
	"strings"
	"testing"

	"github.com/spf13/pflag"
)

// TestEverySettingIsInTheDocs holds docs/server.md to the flags of serve and to
// the variables that the program reads.
func TestEverySettingIsInTheDocs(t *testing.T) {
	b, err := os.ReadFile("../docs/server.md")
	if err != nil {
		t.Fatal(err)
	}
	text := string(b)
	a := &app{getenv: os.Getenv}
	a.serveCommand().Flags().VisitAll(func(f *pflag.Flag) {
		if !strings.Contains(text, "`--"+f.Name+"`") {
			t.Errorf("docs/server.md does not name --%s", f.Name)
		}
	})
	read := regexp.MustCompile(`getenv\("([A-Z_]+)"\)`)
	found := 0
	for _, pattern := range []string{"*.go", "../cmd/errand/*.go"} {
		files, err := filepath.Glob(pattern)
		if err != nil {
			t.Fatal(err)
		}
		for _, name := range files {
			source, err := os.ReadFile(name)
			if err != nil {
				t.Fatal(err)
			}
			for _, m := range read.FindAllStringSubmatch(string(source), -1) {
				found++
				if m[1] != "TERM" && m[1] != "NO_COLOR" && !strings.Contains(text, "`"+m[1]+"`") {
					t.Errorf("%s reads %s, which docs/server.md does not name", name, m[1])
				}
			}
		}
	}
	if found < 6 {
		t.Errorf("only %d variables were found; has the way they are read changed?", found)
	}
}
