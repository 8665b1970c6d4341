package survey

import (
	"cmp"
	"fmt"
	"maps"
	"regexp"
	"slices"
	"strconv"
	"strings"

	"github.com/errand-dev/errand"
)

// want is a program that the repository needs.
type want struct {
	program string
	version string // as it stands there: "20", ">=18", "^3.11"; "" is any
	from    source
	rank    int // the lowest is believed
}

func (l *look) want(program, version string, from source, rank int) {
	l.wants = append(l.wants, want{program, strings.TrimPrefix(strings.TrimSpace(version), "v"), from, rank})
}

// wanted gives the programs that the repository needs, each with the version
// that is believed, in a fixed order.
func (l *look) wanted() []want {
	sorted := slices.Clone(l.wants)
	slices.SortStableFunc(sorted, func(a, b want) int {
		return cmp.Or(strings.Compare(a.program, b.program), boolFirst(a.version != "", b.version != ""), a.rank-b.rank)
	})
	return slices.CompactFunc(sorted, func(a, b want) bool { return a.program == b.program })
}

func boolFirst(a, b bool) int {
	switch {
	case a == b:
		return 0
	case a:
		return -1
	}
	return 1
}

// lacks says whether the default image is known to be without a program.
func (l *look) lacks(program string) bool {
	if l.options.Programs == nil {
		return false
	}
	_, ok := l.options.Programs[program]
	return !ok
}

// plugins are what .tool-versions and mise call programs.
var plugins = map[string]string{
	"nodejs": "node", "node": "node", "python": "python3", "golang": "go", "go": "go", "rust": "cargo", "ruby": "ruby",
	"java": "java", "php": "php", "elixir": "elixir", "dotnet": "dotnet", "dotnet-core": "dotnet", "deno": "deno", "bun": "bun",
	"pnpm": "pnpm", "yarn": "yarn",
}

// toolchainFiles reads the files whose only purpose is to pin versions.
func (l *look) toolchainFiles() {
	for _, f := range []struct{ file, program string }{
		{".nvmrc", "node"}, {".node-version", "node"}, {".python-version", "python3"}, {".ruby-version", "ruby"}, {".go-version", "go"}, {".java-version", "java"},
	} {
		text, _, _ := strings.Cut(strings.TrimSpace(l.read(f.file)), "\n")
		version := strings.TrimPrefix(strings.TrimPrefix(strings.TrimSpace(text), "ruby-"), "v")
		if plainVersion.MatchString(version) {
			l.want(f.program, version, source{f.file, 1}, 1)
		}
	}
	n := 0
	for line := range strings.Lines(l.read(".tool-versions")) {
		n++
		f := strings.Fields(line)
		if len(f) >= 2 && plugins[f[0]] != "" && anyVersion.MatchString(f[1]) {
			l.want(plugins[f[0]], anyVersion.FindString(f[1]), source{".tool-versions", n}, 2)
		}
	}
	for _, file := range []string{"mise.toml", ".mise.toml"} {
		text := l.read(file)
		for _, name := range slices.Sorted(maps.Keys(plugins)) {
			program := plugins[name]
			if v, line := tomlLine(text, "tools", name); plainVersion.MatchString(v) {
				l.want(program, v, source{file, line}, 2)
			}
		}
	}
	if text := l.read("rust-toolchain.toml"); text != "" {
		if v, line := tomlLine(text, "toolchain", "channel"); plainVersion.MatchString(v) {
			l.want("cargo", v, source{"rust-toolchain.toml", line}, 1)
		}
	}
	if v := strings.TrimSpace(l.read("rust-toolchain")); plainVersion.MatchString(v) && v[0] >= '0' && v[0] <= '9' {
		l.want("cargo", v, source{"rust-toolchain", 1}, 1)
	}
	var global struct {
		SDK struct{ Version string } `json:"sdk"`
	}
	if doc, ok := l.json("global.json", &global); ok && plainVersion.MatchString(global.SDK.Version) {
		l.want("dotnet", global.SDK.Version, source{"global.json", doc.line("sdk", "version")}, 1)
	}
}

var anyVersion = regexp.MustCompile(`[0-9]+(\.[0-9]+)*`)

// numbers gives the first numbers of a version.
func numbers(version string) (n []int) {
	for part := range strings.SplitSeq(anyVersion.FindString(version), ".") {
		v, err := strconv.Atoi(part)
		if err != nil {
			break
		}
		n = append(n, v)
	}
	return n
}

// fits says whether a version that is there is one that is wanted. Where either
// is not understood it is taken to be.
func fits(program, wanted, have string) bool {
	w, h := numbers(wanted), numbers(have)
	if len(w) == 0 || len(h) == 0 || strings.Contains(wanted, "||") || strings.ContainsAny(wanted, "*") {
		return true
	}
	if program == "go" {
		return true // go fetches the toolchain that go.mod asks for
	}
	if strings.HasPrefix(strings.TrimSpace(wanted), ">") || program == "cargo" {
		return slices.Compare(h, w) >= 0
	}
	// The same major version; of Python and Ruby, where minor versions differ in
	// what they run, also the same minor one, or a later one for "^" and "~".
	if h[0] != w[0] {
		return false
	}
	if (program == "python3" || program == "ruby") && len(w) > 1 && len(h) > 1 {
		if strings.HasPrefix(wanted, "^") {
			return h[1] >= w[1]
		}
		return h[1] == w[1]
	}
	return true
}

// missing gives what the default image lacks of what the repository needs.
// What comes with another program, or is installed by the install command, is
// not counted.
func (l *look) missing() []want {
	if l.options.Programs == nil {
		return nil
	}
	var all []want
	for _, w := range l.wanted() {
		have, ok := l.options.Programs[w.program]
		if imageFor(w) == "" || ok && fits(w.program, w.version, have) {
			continue
		}
		all = append(all, w)
	}
	return all
}

// imageFor names the image that brings a program; "" where install brings it.
func imageFor(w want) string {
	n := numbers(w.version)
	tag := func(parts int, other string) string {
		if len(n) == 0 {
			return other
		}
		var s []string
		for _, v := range n[:min(len(n), parts)] {
			s = append(s, strconv.Itoa(v))
		}
		return strings.Join(s, ".")
	}
	switch w.program {
	case "node":
		return "node:" + tag(1, "22") + "-bookworm"
	case "go":
		return "golang:" + tag(2, "1") + "-bookworm"
	case "python3":
		return "python:" + tag(2, "3") + "-bookworm"
	case "cargo":
		return "rust:" + tag(3, "1") + "-bookworm"
	case "ruby":
		return "ruby:" + tag(2, "3") + "-bookworm"
	case "php", "composer":
		return "composer:2"
	case "mvn":
		return "maven:3-eclipse-temurin-21"
	case "gradle":
		return "gradle:8-jdk21"
	case "java":
		return "eclipse-temurin:" + tag(1, "21") + "-jdk"
	case "elixir", "mix":
		return "elixir:" + tag(2, "1")
	case "dotnet":
		return "mcr.microsoft.com/dotnet/sdk:" + tag(1, "8") + ".0"
	case "deno":
		return "denoland/deno:debian"
	case "bun":
		return "oven/bun:1-debian"
	}
	return ""
}

// carried says where an image keeps a toolchain that another image can take
// over whole.
var carried = map[string]string{"go": "/usr/local/go", "node": "/usr/local"}

// toolchain proposes the image or Dockerfile that brings what is missing.
func (l *look) toolchain(d *draft, r *[]errand.Reason) {
	missing := l.missing()
	if len(missing) == 0 {
		return
	}
	// Tools of one language come in one image, the one of the most particular.
	var bases []want
	for _, w := range missing {
		if !slices.ContainsFunc(bases, func(b want) bool { return sameImage(b.program, w.program) }) {
			bases = append(bases, w)
		}
	}
	slices.SortStableFunc(bases, func(a, b want) int { return boolFirst(carried[a.program] == "", carried[b.program] == "") })
	first := bases[0]
	why := l.lackOf(first)
	if len(bases) == 1 && len(l.terminals) == 0 {
		d.Image = imageFor(first)
		*r = append(*r, errand.Reason{Key: "image", Value: d.Image, Text: why, File: first.from.file, Line: first.from.line})
		return
	}
	var b strings.Builder
	fmt.Fprintf(&b, "FROM %s\n", imageFor(first))
	for _, w := range bases[1:] {
		dir, ok := carried[w.program]
		if !ok {
			l.note("%s. The Dockerfile does not bring it; add it there.", upper(l.lackOf(w)))
			continue
		}
		fmt.Fprintf(&b, "COPY --from=%s %s %s\n", imageFor(w), dir, dir)
		if w.program == "go" {
			b.WriteString("ENV PATH=$PATH:/usr/local/go/bin\n")
		}
	}
	b.WriteString("RUN apt-get update && apt-get install -y --no-install-recommends ca-certificates git tmux && rm -rf /var/lib/apt/lists/*\n")
	d.Build = &build{Contents: b.String()}
	*r = append(*r, errand.Reason{Key: "build", Value: "FROM " + imageFor(first), Text: why + "; git and tmux are for the checkout and the terminals", File: first.from.file, Line: first.from.line})
}

func sameImage(a, b string) bool {
	families := [][]string{{"java", "mvn", "gradle"}, {"php", "composer"}, {"elixir", "mix"}, {"ruby", "bundle"}}
	return slices.ContainsFunc(families, func(f []string) bool { return slices.Contains(f, a) && slices.Contains(f, b) })
}

func (l *look) lackOf(w want) string {
	what := w.program
	if w.version != "" {
		what += " " + clip(w.version)
	}
	if have, ok := l.options.Programs[w.program]; ok {
		return fmt.Sprintf("%s is wanted, and the default image has %s", what, cmp.Or(have, "another one"))
	}
	return what + " is wanted, and the default image has none"
}

func upper(s string) string { return strings.ToUpper(s[:1]) + s[1:] }
