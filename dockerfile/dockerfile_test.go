package dockerfile_test

import (
	"testing"

	"github.com/google/go-cmp/cmp"
	"github.com/google/go-cmp/cmp/cmpopts"

	"github.com/errand-dev/errand"
	"github.com/errand-dev/errand/dockerfile"
)

const node = `# syntax=docker/dockerfile:1
ARG NODE=22
FROM registry.example/node:${NODE} AS build
WORKDIR /app
COPY package.json package-lock.json ./
RUN --mount=type=cache,target=/root/.npm \
    --mount=type=secret,id=npmrc,target=/root/.npmrc,required=true \
    npm ci
COPY src/ ./src
RUN <<EOF
npm run build
echo built
EOF

FROM registry.example/node:${NODE}-slim
ENV NODE_ENV=production
COPY --from=build --chown=node:node /app/dist /app
COPY --from=registry.example/tini:1 /tini /tini
COPY <<eot /etc/motd
hello
eot
ADD https://files.example/a.tar.gz /opt/
USER node
`

func TestParse(t *testing.T) {
	t.Parallel()
	got, err := dockerfile.Parse("Dockerfile", []byte(node), map[string]string{"NODE": "24"})
	if err != nil {
		t.Fatal(err)
	}
	want := &dockerfile.File{
		Name: "Dockerfile",
		Stages: []dockerfile.Stage{
			{Name: "build", Base: "registry.example/node:24", Line: 3, Steps: []int{4, 5, 6, 9, 10}},
			{Base: "registry.example/node:24-slim", Line: 15, Steps: []int{17, 18, 19, 22}},
		},
		Images: []dockerfile.Image{
			{"registry.example/node:24", 3}, {"registry.example/node:24-slim", 15}, {"registry.example/tini:1", 18},
		},
		Context: dockerfile.Context{Sources: []string{"package.json", "package-lock.json", "src"}},
		Secrets: []dockerfile.Secret{{ID: "npmrc", Required: true, Line: 6}},
	}
	if diff := cmp.Diff(want, got, cmpopts.IgnoreUnexported(dockerfile.File{})); diff != "" {
		t.Errorf("(-want +got):\n%s", diff)
	}
	for step, line := range map[string]int{
		"[build 1/6] FROM registry.example/node:24@sha256:0": 3,
		"[build 4/6] RUN --mount=type=cache npm ci":          6,
		"[build 6/6] RUN <<EOF (npm run build...)":           10,
		"[stage-1 2/5] COPY --from=build /app/dist /app":     17,
		"[stage-1 5/5] ADD https://files.example/a /opt/":    22,
		"[internal] load .dockerignore":                      0,
		"exporting to image":                                 0,
	} {
		if got := got.LineOf(step); got != line {
			t.Errorf("%s is line %d, want %d", step, got, line)
		}
	}
}

func TestContext(t *testing.T) {
	t.Parallel()
	for _, test := range []struct {
		name, text  string
		used, whole bool
		takes, not  []string
	}{
		{name: "nothing", text: "RUN true"},
		{name: "only other stages", text: "COPY --from=0 /a /b"},
		{name: "heredoc", text: "COPY <<EOF /a\nx\nEOF"},
		{name: "remote", text: "ADD https://files.example/x https://github.com/a/b.git#v1 /x/"},
		{name: "all", text: "COPY . .", used: true, whole: true, takes: []string{"a", "a/b/c"}},
		{name: "all but dressed up", text: "ADD ./ /src", used: true, whole: true},
		{name: "from the root", text: "COPY / /src", used: true, whole: true},
		{name: "variable", text: "ARG DIR\nCOPY $DIR/x /x", used: true, whole: true},
		{name: "files", text: "COPY ./go.mod go.sum ./\nADD assets /a", used: true,
			takes: []string{"go.mod", "go.sum", "assets/a/b"}, not: []string{"go.work", "x/go.mod", "assets2/a"}},
		{name: "pattern", text: "COPY package*.json cmd/*/main.go ./", used: true,
			takes: []string{"package-lock.json", "package.json", "cmd/a/main.go"}, not: []string{"a/package.json", "cmd/main.go"}},
		{name: "climbing", text: "COPY ../../etc/passwd /x", used: true, takes: []string{"etc/passwd"}, not: []string{"passwd"}},
		{name: "bind mount of all", text: "RUN --mount=type=bind,target=/src true", used: true, whole: true},
		{name: "bind mount", text: "RUN --mount=source=go.mod,target=/src/go.mod true", used: true, takes: []string{"go.mod"}, not: []string{"go.sum"}},
		{name: "for others to build on", text: "ONBUILD COPY . ."},
		{name: "for a later stage", text: "ONBUILD COPY . .\nFROM 0", used: true, whole: true},
		{name: "for a later stage by name", text: "FROM scratch AS one\nONBUILD ADD go.mod ./\nFROM One", used: true, takes: []string{"go.mod"}, not: []string{"go.sum"}},
		{name: "bind mount of a stage", text: "RUN --mount=from=registry.example/x,target=/src true"},
	} {
		t.Run(test.name, func(t *testing.T) {
			t.Parallel()
			f, err := dockerfile.Parse("Dockerfile", []byte("FROM scratch\n"+test.text+"\n"), nil)
			if err != nil {
				t.Fatal(err)
			}
			if f.Context.Used() != test.used || f.Context.Whole != test.whole {
				t.Errorf("it takes %+v", f.Context)
			}
			for _, name := range test.takes {
				if !f.Context.Takes(name) {
					t.Errorf("%s is not taken", name)
				}
			}
			for _, name := range test.not {
				if f.Context.Takes(name) {
					t.Errorf("%s is taken", name)
				}
			}
		})
	}
}

// What a link on a source's way leads to is known to the build alone.
func TestContextFollow(t *testing.T) {
	t.Parallel()
	for _, test := range []struct {
		text  string
		links []string
		whole bool
	}{
		{"COPY conf /etc/conf", []string{"conf"}, true},
		{"COPY current/app /app", []string{"current"}, true},
		{"COPY a/*/main.go ./", []string{"a/now"}, true},
		{"COPY *.json ./", []string{"package.json"}, true},
		{"COPY conf /etc/conf", []string{"conf/prod", "config", "other", "a/conf"}, false}, // copied as it is, or not at all
		{"COPY a/b /b", []string{"b", "a/c"}, false},
	} {
		f, err := dockerfile.Parse("Dockerfile", []byte("FROM scratch\n"+test.text+"\n"), nil)
		if err != nil {
			t.Fatal(err)
		}
		for _, link := range test.links {
			f.Context.Follow(link)
		}
		if f.Context.Whole != test.whole {
			t.Errorf("%s with the links %q takes all: %t", test.text, test.links, f.Context.Whole)
		}
	}
}

func TestServes(t *testing.T) {
	t.Parallel()
	for _, test := range []struct {
		text, trigger string
		want          bool
	}{
		{"RUN true", "RUN npm ci", true},
		{"RUN true", "COPY --from=other /a /b", true},
		{"RUN true", "COPY . .", false},
		{"RUN true", "COPY package.json ./", false},
		{"RUN true", "RUN --mount=type=bind,target=/src make", false},
		{"COPY package.json go.mod ./", "COPY package.json ./", true},
		{"COPY package.json ./", "COPY . .", false},
		{"COPY . .", "COPY . .", true},
	} {
		f, err := dockerfile.Parse("Dockerfile", []byte("FROM scratch\n"+test.text+"\n"), nil)
		if err != nil {
			t.Fatal(err)
		}
		if got := f.Serves(test.trigger); got != test.want {
			t.Errorf("%s serves %s: %t", test.text, test.trigger, got)
		}
	}
}

func TestFaults(t *testing.T) {
	t.Parallel()
	for _, test := range []struct{ name, text, want string }{
		{"unknown instruction", "FROM scratch\nRUNN npm ci\n", "Dockerfile:2: unknown instruction: RUNN (did you mean RUN?)\n   2 | RUNN npm ci"},
		{"empty", "", "Dockerfile: file with no instructions"},
		{"no FROM", "# a comment\n", "Dockerfile:1: file with no instructions\n   1 | # a comment"},
		{"before FROM", "RUN true\n", "Dockerfile:1: no build stage in current context\n   1 | RUN true"},
		{"heredoc without end", "FROM scratch\nRUN <<EOF\ntrue\n", "Dockerfile:2: unterminated heredoc\n   2 | RUN <<EOF"},
		{"bad flag", "FROM scratch\n\nCOPY --form=a /a /b\n", "Dockerfile:3: unknown flag: --form (did you mean from?)\n   3 | COPY --form=a /a /b"},
		{"no base", "ARG BASE\nFROM $BASE\n", "Dockerfile:2: the base $BASE is empty: its build argument has no value\n   2 | FROM $BASE"},
		{"bad mount", "FROM scratch\nRUN --mount=type=nope true\n", "Dockerfile:2: unsupported mount type \"nope\"\n   2 | RUN --mount=type=nope true"},
	} {
		t.Run(test.name, func(t *testing.T) {
			t.Parallel()
			_, err := dockerfile.Parse("Dockerfile", []byte(test.text), nil)
			if errand.KindOf(err) != errand.Invalid {
				t.Fatalf("error %v", err)
			}
			if diff := cmp.Diff(test.want, err.Error()); diff != "" {
				t.Errorf("(-want +got):\n%s", diff)
			}
		})
	}
}

func TestIgnore(t *testing.T) {
	t.Parallel()
	ignore, err := dockerfile.ParseIgnore(".dockerignore", []byte("# a comment\nnode_modules\n**/*.log\n/docs\n!docs/keep.md\n"))
	if err != nil {
		t.Fatal(err)
	}
	for name, want := range map[string]bool{
		"node_modules/a/b": true, "a.log": true, "x/y/a.log": true, "docs/a.md": true, "docs/keep.md": false, "src/a.go": false, "src/node_modules/x": false,
	} {
		if got := ignore.Excludes(name); got != want {
			t.Errorf("%s is left out: %t", name, got)
		}
	}
	if (*dockerfile.Ignore)(nil).Excludes("a") {
		t.Error("nothing leaves something out")
	}
	if _, err := dockerfile.ParseIgnore("x/.dockerignore", []byte("a[\n")); errand.KindOf(err) != errand.Invalid {
		t.Errorf("a pattern that cannot be read: %v", err)
	}
}

func TestKey(t *testing.T) {
	t.Parallel()
	in := dockerfile.KeyInput{File: []byte("FROM a"), Args: map[string]string{"a": "1", "b": "2"}, Content: map[string]string{"x": "1"}}
	key := dockerfile.Key(in)
	seen := map[string]bool{key: true}
	for _, other := range []dockerfile.KeyInput{
		{File: []byte("FROM b"), Args: in.Args, Content: in.Content},
		{File: in.File, Args: map[string]string{"a": "1"}, Content: in.Content},
		{File: in.File, Args: in.Args, Content: map[string]string{"x": "2"}},
		{File: in.File, Args: in.Args, Content: map[string]string{"y": "1"}},
		{File: in.File, Args: in.Args, Content: in.Content, Target: "t"},
		{File: in.File, Args: in.Content, Content: in.Args},
	} {
		if k := dockerfile.Key(other); seen[k] || len(k) > 80 {
			t.Errorf("%+v has the key %s", other, k)
		} else {
			seen[k] = true
		}
	}
	if dockerfile.Key(in) != key {
		t.Error("the key is not stable")
	}
}

func FuzzParse(f *testing.F) {
	f.Add([]byte(node))
	f.Add([]byte("FROM a\nCOPY [\"a\", \"b\"]\nRUN --mount=type=secret x\n"))
	f.Fuzz(func(t *testing.T, text []byte) {
		file, err := dockerfile.Parse("Dockerfile", text, nil)
		if err != nil {
			if errand.KindOf(err) == errand.Internal {
				t.Errorf("%v", err)
			}
			return
		}
		file.Context.Takes("a/b")
		file.LineOf("[stage-0 1/1] x")
	})
}
