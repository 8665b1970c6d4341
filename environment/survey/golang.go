package survey

import (
	"path"
	"regexp"
	"strings"

	"github.com/errand-dev/errand"
)

var goDirective = regexp.MustCompile(`(?m)^go[ \t]+([0-9][0-9A-Za-z.]*)`)

// goUnits takes up Go modules, or the workspace that holds them.
func (l *look) goUnits() {
	if work := l.read("go.work"); work != "" {
		l.goVersion("go.work", work)
		l.add(&unit{
			kind: "go", install: "go mod download",
			why:     errand.Reason{Text: "go.work is here; its modules' needs are fetched once", File: "go.work"},
			test:    `go test $(go list -m -f '{{.Dir}}/...')`,
			testWhy: errand.Reason{Text: "all modules of go.work", File: "go.work"},
		})
		return
	}
	for _, file := range l.named("go.mod") {
		text, dir := l.read(file), dirOf(file)
		l.goVersion(file, text)
		u := &unit{kind: "go", dir: dir, test: "go test ./...", testWhy: errand.Reason{Text: "go.mod is here", File: file}}
		if strings.Contains(text, "require") && !l.has[path.Join(dir, "vendor/modules.txt")] {
			u.install = "go mod download"
			u.why = errand.Reason{Text: "go.mod is here; its needs are fetched once", File: file, Line: lineOf(text, "require")}
		}
		l.add(u)
	}
}

func (l *look) goVersion(file, text string) {
	version, line := "", 0
	if m := goDirective.FindStringSubmatch(text); m != nil {
		version, line = m[1], lineOf(text, m[0])
	}
	l.want("go", version, source{file, line}, 3)
}
