package survey

import (
	"fmt"
	"path"
	"regexp"
	"slices"
	"strconv"
	"strings"

	"github.com/errand-dev/errand"
)

// packageJSON is what is read of a package.json.
type packageJSON struct {
	PackageManager  string            `json:"packageManager"`
	Workspaces      any               `json:"workspaces"`
	Scripts         map[string]string `json:"scripts"`
	Dependencies    map[string]string `json:"dependencies"`
	DevDependencies map[string]string `json:"devDependencies"`
	Engines         map[string]string `json:"engines"`
}

func (p packageJSON) needs(name string) bool {
	return p.Dependencies[name] != "" || p.DevDependencies[name] != ""
}

// nodeLocks are lockfiles in the order in which one of several is believed.
var nodeLocks = []struct{ file, manager string }{
	{"pnpm-lock.yaml", "pnpm"}, {"bun.lock", "bun"}, {"bun.lockb", "bun"}, {"yarn.lock", "yarn"},
	{"package-lock.json", "npm"}, {"npm-shrinkwrap.json", "npm"},
}

// nodeUnits takes up the projects with a package.json: the nearest to the root,
// and those below that have a lockfile of their own. Packages of a workspace
// are installed with its root.
func (l *look) nodeUnits() {
	for _, file := range l.named("package.json") {
		dir := dirOf(file)
		own := slices.ContainsFunc(nodeLocks, func(k struct{ file, manager string }) bool { return l.has[path.Join(dir, k.file)] })
		if l.within("node", dir) && !own {
			continue
		}
		var p packageJSON
		doc, ok := l.json(file, &p)
		if !ok {
			continue
		}
		if !own && dir != "" && len(p.Dependencies)+len(p.DevDependencies) == 0 {
			continue // settings for a tool, not a project
		}
		l.nodeUnit(dir, file, p, doc)
	}
}

func (l *look) nodeUnit(dir, file string, p packageJSON, doc jsonFile) {
	manager, version, lock, why := l.nodeManager(dir, file, p, doc)
	u := &unit{kind: "node", dir: dir, why: why}
	l.want(manager, version, source{file, 0}, 9)
	if manager != "bun" {
		l.want("node", "", source{file, 0}, 9)
	}
	if v := p.Engines["node"]; v != "" {
		l.want("node", v, source{file, doc.line("engines", "node")}, 4)
	}
	u.install = nodeInstall(manager, lock, l.has[path.Join(dir, ".yarnrc.yml")])
	if l.lacks(manager) && (manager == "pnpm" || manager == "yarn") {
		pinned := manager
		if version != "" {
			pinned += "@" + version
		}
		u.install = "npm install --global " + quote(pinned) + " && " + u.install
		u.why.Text += "; the machine has no " + manager
	}
	if text := p.Scripts["test"]; text != "" && !strings.Contains(text, "no test specified") {
		u.test = manager + " test"
		if manager == "bun" {
			u.test = "bun run test"
		}
		u.testWhy = errand.Reason{Text: "package.json has a test script", File: file, Line: doc.line("scripts", "test")}
	} else if p.Scripts["build"] != "" {
		u.test = manager + " run build"
		u.testWhy = errand.Reason{Text: "package.json has no test script but a build", File: file, Line: doc.line("scripts", "build")}
	}
	l.add(u)
	l.nodeServers(dir, file, manager, p, doc)
}

// nodeManager says which package manager a project uses, its version if that is
// pinned, its lockfile, and why.
func (l *look) nodeManager(dir, file string, p packageJSON, doc jsonFile) (manager, version, lock string, why errand.Reason) {
	var found []string
	for _, k := range nodeLocks {
		at := path.Join(dir, k.file)
		if !l.has[at] || slices.Contains(found, k.manager) {
			continue
		}
		found = append(found, k.manager)
		if lock == "" {
			manager, lock = k.manager, at
		}
	}
	if name, rest, ok := strings.Cut(p.PackageManager, "@"); ok && slices.Contains([]string{"npm", "pnpm", "yarn", "bun"}, name) {
		version, _, _ = strings.Cut(rest, "+")
		if !plainVersion.MatchString(version) {
			version = ""
		}
		if manager != name {
			lock = l.nodeLock(dir, name)
		}
		return name, version, lock, errand.Reason{Text: fmt.Sprintf("packageManager says %s", clip(p.PackageManager)), File: file, Line: doc.line("packageManager")}
	}
	if len(found) > 1 {
		manager = l.ask(errand.Question{
			ID: "packages:" + dir, Choices: found, Default: manager,
			Text: fmt.Sprintf("There are lockfiles of %s. Which package manager is used?", strings.Join(found, " and ")),
		})
		lock = l.nodeLock(dir, manager)
	}
	if lock == "" {
		return "npm", "", "", errand.Reason{Text: "package.json is here without a lockfile, so versions may change between installs", File: file}
	}
	return manager, "", lock, errand.Reason{Text: path.Base(lock) + " is here", File: lock}
}

var plainVersion = regexp.MustCompile(`^[0-9]+(\.[0-9A-Za-z-]+)*$`)

func (l *look) nodeLock(dir, manager string) string {
	for _, k := range nodeLocks {
		if at := path.Join(dir, k.file); k.manager == manager && l.has[at] {
			return at
		}
	}
	return ""
}

// nodeInstall gives the command that installs exactly what a lockfile says.
func nodeInstall(manager, lock string, berry bool) string {
	switch {
	case manager == "npm" && lock != "":
		return "npm ci"
	case manager == "yarn" && lock != "" && berry:
		return "yarn install --immutable"
	case lock != "":
		return manager + " install --frozen-lockfile"
	}
	return manager + " install"
}

// frameworks tell the port that a development server listens on unless told
// otherwise, by the package that brings it.
var frameworks = []struct {
	name string
	port int
}{
	{"next", 3000}, {"nuxt", 3000}, {"astro", 4321}, {"@angular/cli", 4200}, {"@remix-run/dev", 3000},
	{"react-scripts", 3000}, {"gatsby", 8000}, {"@sveltejs/kit", 5173}, {"vite", 5173}, {"@vue/cli-service", 8080},
	{"webpack-dev-server", 8080}, {"parcel", 1234}, {"@11ty/eleventy", 8080},
}

var portFlag = regexp.MustCompile(`(?:--port[= ]|-p +|\bPORT=)([0-9]{2,5})\b`)

// nodeServers proposes the development server as a terminal.
func (l *look) nodeServers(dir, file, manager string, p packageJSON, doc jsonFile) {
	for _, name := range []string{"dev", "serve", "start"} {
		text := p.Scripts[name]
		if text == "" {
			continue
		}
		t := terminal{name: name, command: inDir(dir, manager+" run "+name), from: source{file, doc.line("scripts", name)},
			why: fmt.Sprintf("package.json has a %s script", name)}
		if dir != "" {
			t.name = path.Base(dir)
		}
		if m := portFlag.FindStringSubmatch(text); m != nil {
			t.port, _ = strconv.Atoi(m[1])
			t.portWhy = fmt.Sprintf("the %s script names it", name)
		} else if name != "start" || p.needs("react-scripts") || p.needs("@angular/cli") {
			for _, f := range frameworks {
				if p.needs(f.name) {
					t.port, t.portWhy = f.port, "what "+f.name+" listens on by default"
					break
				}
			}
		}
		l.terminals = append(l.terminals, t)
		return
	}
}
