//go:build linux

package buildkit

import (
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	v1 "github.com/google/go-containerregistry/pkg/v1"

	"github.com/errand-dev/errand/guest/guesttest"
	"github.com/errand-dev/errand/machine/imagetest"
)

// The files below have the shape that public projects' have. Their bases are
// made of the host's own toolchains.

// base pushes an image of busybox, programs of the host and more files.
func (w *world) base(name string, env []string, programs []string, more ...imagetest.File) string {
	w.t.Helper()
	env = append([]string{"PATH=/usr/local/go/bin:/usr/local/bin:/usr/bin:/bin"}, env...)
	all := append(imagetest.BusyboxFiles(w.t, programs...), more...)
	// Directories stand once, and before what is in them.
	slices.SortStableFunc(all, func(a, b imagetest.File) int { return strings.Compare(a.Name, b.Name) })
	all = slices.CompactFunc(all, func(a, b imagetest.File) bool { return a.Name == b.Name })
	return imagetest.Push(w.t, w.host, name, imagetest.Image(w.t, v1.Config{Env: env}, all...))
}

func TestNodeShape(t *testing.T) {
	need(t, GVisor)
	w := newWorld(t)
	npm, err := exec.LookPath("npm")
	if err == nil {
		npm, err = filepath.EvalSymlinks(npm)
	}
	if err != nil {
		guesttest.Lacking(t, "this test needs npm: %v", err)
	}
	modules := filepath.Dir(filepath.Dir(npm)) // …/npm/bin/npm-cli.js
	node := w.base("node", []string{"NODE_EXTRA_CA_CERTS=/etc/ssl/certs/ca-certificates.crt"}, []string{"node"},
		append(imagetest.Tree(t, modules, nil), append(imagetest.Tree(t, "/etc/ssl/certs/ca-certificates.crt", nil),
			imagetest.File{Name: "usr/local/bin/npm", Data: []byte("#!/bin/sh\nexec node " + npm + " \"$@\"\n"), Mode: 0o755})...)...)
	text := `# syntax=docker/dockerfile:1
ARG BASE=` + node + `

FROM ${BASE} AS base
WORKDIR /app
ENV CI=1

FROM base AS deps
COPY package.json ./
RUN --mount=type=cache,target=/root/.npm npm install --omit=dev --no-audit --no-fund

FROM base AS build
COPY --from=deps /app/node_modules ./node_modules
COPY . .
RUN <<EOF
set -e
node build.js > dist.txt
EOF

FROM ${BASE} AS runner
ENV NODE_ENV=production
WORKDIR /app
RUN chown app:app /app
COPY --from=build --chown=app:app /app/dist.txt ./
USER app
CMD ["node", "dist.txt"]
`
	ref, _ := w.mustBuild(w.builder(GVisor), text, files(map[string]string{
		"package.json":  `{"name": "app", "version": "1.0.0", "dependencies": {"is-number": "7.0.0"}}`,
		"build.js":      `console.log(require("is-number")(process.argv.length), process.cwd())`,
		".dockerignore": "node_modules\n.git\n",
	}))
	if got := w.boot("gvisor", ref, "cat /app/dist.txt; stat -c %U /app/dist.txt; echo $NODE_ENV; node -p 1+1"); got != "true /app\napp\nproduction\n2\n" {
		t.Errorf("it has %q", got)
	}
}

func TestGoShape(t *testing.T) {
	need(t, Runc)
	w := newWorld(t)
	root, err := exec.Command("go", "env", "GOROOT").Output()
	if err != nil {
		guesttest.Lacking(t, "this test needs go: %v", err)
	}
	goroot := strings.TrimSpace(string(root))
	deps, err := exec.Command("go", "list", "-deps", "-f", "{{.Dir}}", "runtime").Output()
	if err != nil {
		t.Fatal(err)
	}
	toolchain := slices.Concat(imagetest.Tree(t, goroot+"/bin/go", nil), imagetest.Tree(t, goroot+"/VERSION", nil), imagetest.Tree(t, goroot+"/go.env", nil), imagetest.Tree(t, goroot+"/pkg/include", nil),
		imagetest.Tree(t, goroot+"/src/runtime/cgo", nil))
	for tool := range strings.FieldsSeq("compile link asm") {
		toolchain = append(toolchain, imagetest.Tree(t, goroot+"/pkg/tool", func(path string) bool {
			return filepath.Base(filepath.Dir(filepath.Dir(path))) == "tool" && filepath.Base(path) != tool
		})...)
	}
	for dir := range strings.FieldsSeq(string(deps)) {
		toolchain = append(toolchain, imagetest.Tree(t, dir, func(path string) bool {
			return path != dir && filepath.Ext(path) == "" || strings.HasSuffix(path, "_test.go")
		})...)
	}
	golang := w.base("golang", []string{"GOROOT=" + goroot, "GOFLAGS=-buildvcs=false", "GOTOOLCHAIN=local", "PATH=" + goroot + "/bin:/bin"}, nil, toolchain...)
	text := "FROM " + golang + ` AS builder
WORKDIR /src
COPY go.mod ./
RUN go mod download
COPY . .
ARG VERSION=dev
RUN --mount=type=cache,target=/root/.cache/go-build CGO_ENABLED=0 go build -ldflags "-X main.version=${VERSION}" -o /out/app ./cmd/app

FROM scratch
COPY --from=builder /out/app /bin/app
COPY --from=builder /bin/busybox /bin/sh
ENTRYPOINT ["/bin/app"]
`
	ref, _ := w.mustBuild(w.builder(Runc), text, files(map[string]string{
		"go.mod": "module example.com/app\n\ngo 1.26\n", "cmd/app/main.go": "package main\n\nvar version = \"none\"\n\nfunc main() { print(\"version \" + version + \"\\n\") }\n",
	}))
	if got := w.boot("runc", ref, "/bin/app 2>&1"); got != "version dev\n" {
		t.Errorf("it says %q", got)
	}
}

func TestPythonShape(t *testing.T) {
	need(t, GVisor)
	w := newWorld(t)
	out, err := exec.Command("/usr/bin/python3", "-c", "import sys, sysconfig; print(sysconfig.get_path('stdlib'), sys.executable)").Output()
	if err != nil {
		guesttest.Lacking(t, "this test needs /usr/bin/python3: %v", err)
	}
	stdlib := strings.Fields(string(out))[0]
	python := w.base("python", []string{"PYTHONUNBUFFERED=1"}, []string{"/usr/bin/python3"}, imagetest.Tree(t, stdlib, func(path string) bool {
		name := filepath.Base(path)
		return name == "__pycache__" || name == "test" || strings.HasPrefix(name, "config-") || name == "dist-packages" || name == "site-packages"
	})...)
	text := "FROM " + python + ` AS builder
ENV PYTHONDONTWRITEBYTECODE=1
WORKDIR /build
COPY requirements.txt .
RUN --mount=type=cache,target=/root/.cache/pip \
    --mount=type=bind,source=app,target=/mnt/app \
    python3 -m zipapp /mnt/app -m "main:run" -o /build/app.pyz

FROM ` + python + `
RUN mkdir /home/svc && chown app:app /home/svc
WORKDIR /home/svc
COPY --from=builder --chown=app /build/app.pyz .
COPY <<EOF settings.ini
[app]
name = shaped
EOF
USER app
CMD ["python3", "app.pyz"]
`
	ref, _ := w.mustBuild(w.builder(GVisor), text, files(map[string]string{
		"requirements.txt": "", "app/main.py": "import configparser\n\ndef run():\n    c = configparser.ConfigParser()\n    c.read('settings.ini')\n    print(c['app']['name'])\n",
	}))
	if got := w.boot("gvisor", ref, "cd /home/svc && python3 app.pyz && stat -c %U app.pyz"); got != "shaped\napp\n" {
		t.Errorf("it says %q", got)
	}
}
