package survey

import (
	"fmt"
	"path"
	"slices"
	"strings"

	"github.com/errand-dev/errand"
)

// pythonUnits takes up Python projects: the nearest to the root of what names
// needs, and without any, the root if Python stands there.
func (l *look) pythonUnits() {
	for _, file := range l.named("uv.lock", "poetry.lock", "Pipfile", "pyproject.toml", "setup.py", "requirements*.txt") {
		if dir := dirOf(file); !l.within("python", dir) && path.Base(dir) != "requirements" {
			l.pythonUnit(dir)
		}
	}
	if !l.within("python", "") && slices.ContainsFunc(l.tree.Files, func(f string) bool { return !strings.Contains(f, "/") && strings.HasSuffix(f, ".py") }) {
		l.want("python3", "", source{}, 9)
		u := &unit{kind: "python"}
		l.pythonTest(u, "python3", "")
		if u.test != "" {
			l.add(u)
		}
	}
}

func (l *look) pythonUnit(dir string) {
	project := l.read(path.Join(dir, "pyproject.toml"))
	want := ""
	if v, line := tomlLine(project, "project", "requires-python"); v != "" {
		l.want("python3", v, source{path.Join(dir, "pyproject.toml"), line}, 4)
		want = v
	} else if v, line := tomlLine(project, "tool.poetry.dependencies", "python"); v != "" {
		l.want("python3", v, source{path.Join(dir, "pyproject.toml"), line}, 4)
		want = v
	}
	if want == "" {
		l.want("python3", "", source{}, 9)
	}
	u := &unit{kind: "python", dir: dir}
	run := l.pythonInstall(u, project)
	l.pythonTest(u, run, project)
	l.add(u)
}

// pythonInstall settles how a project's needs are installed, and gives the
// program that runs Python with them.
func (l *look) pythonInstall(u *unit, project string) (run string) {
	at := func(name string) string { return path.Join(u.dir, name) }
	poetry := tomlHas(project, "tool.poetry")
	switch {
	case l.has[at("uv.lock")]:
		l.pythonTool(u, "uv", "sync --frozen", errand.Reason{Text: "uv.lock is here", File: at("uv.lock")})
		return u.enter + "python"
	case l.has[at("poetry.lock")] || poetry > 0:
		why := errand.Reason{Text: "poetry.lock is here", File: at("poetry.lock")}
		if !l.has[at("poetry.lock")] {
			why = errand.Reason{Text: "pyproject.toml is Poetry's", File: at("pyproject.toml"), Line: poetry}
		}
		l.pythonTool(u, "poetry", "install --no-interaction", why)
		return u.enter + "python"
	case l.has[at("Pipfile")]:
		why, how := errand.Reason{Text: "Pipfile is here", File: at("Pipfile")}, "install --dev"
		if l.has[at("Pipfile.lock")] {
			why, how = errand.Reason{Text: "Pipfile.lock is here", File: at("Pipfile.lock")}, "sync --dev"
		}
		l.pythonTool(u, "pipenv", how, why)
		return u.enter + "python"
	}
	venv := l.venv()
	u.enter = ". " + venv + "/bin/activate && "
	packages, why := l.pipPackages(u.dir, project)
	u.install, u.why = "python3 -m venv "+venv, why
	if packages != "" {
		u.install += " && " + venv + "/bin/pip install " + packages
	}
	return venv + "/bin/python"
}

// pythonTool installs with a tool that keeps its own virtual environment.
func (l *look) pythonTool(u *unit, tool, how string, why errand.Reason) {
	u.why, u.enter = why, tool+" run "
	u.install = tool + " " + how
	if l.lacks(tool) {
		const own = "$HOME/.tools"
		u.install = fmt.Sprintf("python3 -m venv %s && %s/bin/pip install %s && %s/bin/%s %s", own, own, tool, own, tool, how)
		u.enter = own + "/bin/" + tool + " run "
		u.why.Text += "; the machine has no " + tool
	}
}

// venv is where a project's virtual environment goes: inside only where git
// ignores it, because what is left uncommitted is committed at a run's end.
func (l *look) venv() string {
	for line := range strings.Lines(l.read(".gitignore")) {
		switch strings.Trim(strings.TrimSpace(line), "/") {
		case ".venv", ".venv*", "*venv", ".*":
			return ".venv"
		case "venv", "venv*":
			return "venv"
		}
	}
	return "$HOME/.venv"
}

// pipPackages gives what pip is to install, and why.
func (l *look) pipPackages(dir, project string) (string, errand.Reason) {
	at := func(name string) string { return path.Join(dir, name) }
	var files []string
	for _, name := range []string{"requirements.txt", "requirements-dev.txt", "requirements_dev.txt", "dev-requirements.txt", "requirements-test.txt", "requirements/dev.txt"} {
		if l.has[at(name)] {
			files = append(files, "-r "+name)
		}
	}
	if len(files) > 0 {
		first := strings.TrimPrefix(files[0], "-r ")
		return strings.Join(files, " "), errand.Reason{Text: path.Base(first) + " names the needs", File: at(first)}
	}
	if project != "" && tomlHas(project, "project") == 0 && tomlHas(project, "build-system") == 0 {
		return "", errand.Reason{Text: "pyproject.toml holds settings of tools only", File: at("pyproject.toml")}
	}
	if !l.has[at("pyproject.toml")] && !l.has[at("setup.py")] {
		return "", errand.Reason{Text: "there is Python here that names no needs"}
	}
	for _, extra := range []string{"dev", "test", "tests"} {
		if _, line := tomlLine(project, "project.optional-dependencies", extra); line > 0 {
			return fmt.Sprintf("-e '.[%s]'", extra), errand.Reason{Text: "pyproject.toml has the extra " + extra, File: at("pyproject.toml"), Line: line}
		}
	}
	file := at("pyproject.toml")
	if !l.has[file] {
		file = at("setup.py")
	}
	return "-e .", errand.Reason{Text: path.Base(file) + " is here; an editable install sees changes at once", File: file}
}

// pythonTest finds how a project is tested.
func (l *look) pythonTest(u *unit, run, project string) {
	at := func(name string) string { return path.Join(u.dir, name) }
	for _, name := range []string{"pytest.ini", "conftest.py", "tests/conftest.py", "pyproject.toml", "setup.cfg", "tox.ini", "requirements.txt", "requirements-dev.txt", "requirements-test.txt", "dev-requirements.txt", "Pipfile"} {
		text := l.read(at(name))
		named := strings.Contains(text, "pytest")
		if l.has[at(name)] && (named || strings.HasPrefix(path.Base(name), "conftest") || name == "pytest.ini") {
			u.test, u.testWhy = run+" -m pytest", errand.Reason{Text: name + " speaks of pytest", File: at(name), Line: lineOf(text, "pytest")}
			return
		}
	}
	if l.has[at("manage.py")] {
		u.test, u.testWhy = run+" manage.py test", errand.Reason{Text: "manage.py is Django's", File: at("manage.py")}
		return
	}
	for _, f := range l.tree.Files {
		rest, below := strings.CutPrefix(f, u.dir)
		rest = strings.TrimPrefix(rest, "/")
		name := path.Base(rest)
		if !below || !strings.HasPrefix(name, "test") || !strings.HasSuffix(name, ".py") || !isProject(dirOf(f)) {
			continue
		}
		u.test, u.testWhy = run+" -m unittest discover", errand.Reason{Text: "there are tests and no other runner is named", File: f}
		if dir := dirOf(rest); dir != "" && !l.has[path.Join(u.dir, dir, "__init__.py")] {
			u.test += " -s " + quote(dir)
		}
		return
	}
}
