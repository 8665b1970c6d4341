package cli

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"strings"

	"github.com/spf13/cobra"

	"github.com/errand-dev/errand"
	"github.com/errand-dev/errand/environment/file"
)

func (a *app) envCheckCommand() *cobra.Command {
	var fix, strict bool
	cmd := &cobra.Command{
		Use: "check [PATH]", Short: "Check an environment file, and correct it", Args: usage(cobra.MaximumNArgs(1)),
		Long: `Read an environment file as a server would, and tell what is odd about it, how it
is understood and how it is written correctly. PATH is a file, or a folder with
.errand/environment.json or .cursor/environment.json in it; without it, this
folder. No server is needed.

Errors make the command fail; warnings do with --strict. What BuildKit's linter says
of a Dockerfile is told where errand-buildkit lies beside errand or in PATH.`,
		RunE: func(cmd *cobra.Command, args []string) error {
			path := "."
			if len(args) > 0 {
				path = args[0]
			}
			c, err := openChecked(path)
			if err != nil {
				return err
			}
			report, err := c.check(cmd.Context())
			if err != nil {
				return err
			}
			fixed := 0
			if fix {
				if report, fixed, err = a.fixEnvironment(cmd.Context(), c, report); err != nil {
					return err
				}
			}
			if err := a.showReport(c, report, fixed); err != nil {
				return err
			}
			if report.Failed() || strict && len(report.Findings) > 0 {
				return &exitError{code: ExitFailed}
			}
			return nil
		},
	}
	cmd.Flags().BoolVar(&fix, "fix", false, "write the corrected file")
	cmd.Flags().BoolVar(&strict, "strict", false, "fail for warnings too")
	return cmd
}

func (a *app) envSchemaCommand() *cobra.Command {
	return &cobra.Command{
		Use: "schema", Short: "Print the JSON Schema of environment files, for editors", Args: usage(cobra.NoArgs),
		RunE: func(*cobra.Command, []string) error {
			_, err := a.out.Write(file.Schema())
			return err
		},
	}
}

// checked is an environment file to check.
type checked struct {
	path string // where it is
	name string // from the repository's root, with slashes
	root string // of the repository; "" where the file stands alone
	also string // another file that is not used beside it, or ""
}

// openChecked finds the file that a person means by path.
func openChecked(path string) (checked, error) {
	info, err := os.Stat(path)
	if err != nil {
		return checked{}, errand.Errorf(errand.NotFound, "not_found", "%s cannot be read: %w. Name an environment file, or the folder of a repository.", path, plainError(err))
	}
	if !info.IsDir() {
		return checkedFile(path), nil
	}
	if inside := filepath.Join(path, "environment.json"); isPlace(path) && exists(inside) {
		return checkedFile(inside), nil
	}
	own, other := filepath.Join(path, filepath.FromSlash(file.Path)), filepath.Join(path, filepath.FromSlash(file.CursorPath))
	switch {
	case exists(own) && exists(other):
		return checked{path: own, name: file.Path, root: path, also: other}, nil
	case exists(own):
		return checked{path: own, name: file.Path, root: path}, nil
	case exists(other):
		return checked{path: other, name: file.CursorPath, root: path}, nil
	}
	return checked{}, errand.Errorf(errand.NotFound, "not_found", "There is neither %s nor %s in %s. An environment file is optional; `errand setup` proposes one.", file.Path, file.CursorPath, path)
}

// checkedFile gives a file that was named itself. Where it stands as it would in
// a repository, it is seen as there; elsewhere, as one that is meant for the
// folder of such files, which is what its paths are relative to.
func checkedFile(path string) checked {
	full, err := filepath.Abs(path)
	if err != nil {
		full = path
	}
	dir := filepath.Dir(full)
	if !isPlace(dir) {
		return checked{path: path, name: filepath.ToSlash(filepath.Join(filepath.Dir(file.Path), filepath.Base(full)))}
	}
	return checked{path: path, name: filepath.Base(dir) + "/" + filepath.Base(full), root: filepath.Dir(dir)}
}

// isPlace says whether a folder is one of those that environment files are in.
func isPlace(dir string) bool {
	full, err := filepath.Abs(dir)
	base := filepath.Base(full)
	return err == nil && (base == ".errand" || base == ".cursor")
}

func exists(path string) bool {
	info, err := os.Stat(path)
	return err == nil && !info.IsDir()
}

// plainError gives what the system said without the path that it names again.
func plainError(err error) error {
	if e := (*fs.PathError)(nil); errors.As(err, &e) {
		return e.Err
	}
	return err
}

func (c checked) check(ctx context.Context) (file.Report, error) {
	data, err := os.ReadFile(c.path)
	if err != nil {
		return file.Report{}, errand.Errorf(errand.NotFound, "not_found", "%s cannot be read: %w.", c.path, plainError(err))
	}
	around := file.Around{Linter: linter(ctx)}
	if c.root != "" {
		root, err := os.OpenRoot(c.root)
		if err != nil {
			return file.Report{}, fmt.Errorf("opening the repository: %w", err)
		}
		defer root.Close()
		around.Repository = root.FS()
	}
	report := file.Check(c.name, data, around)
	if c.also != "" {
		report.Findings = append(report.Findings, file.Finding{File: c.also, Severity: file.Warning, Text: "This file is not used, because there is also " + c.path + "."})
	}
	return report, nil
}

// fixEnvironment writes the corrected file and gives what is left to say of it.
func (a *app) fixEnvironment(ctx context.Context, c checked, report file.Report) (file.Report, int, error) {
	before, err := os.ReadFile(c.path)
	if err != nil {
		return report, 0, err
	}
	corrected := report.Corrected()
	if bytes.Equal(before, corrected) {
		return report, 0, nil
	}
	if err := replaceFile(c.path, corrected); err != nil {
		return report, 0, errand.Errorf(errand.Internal, "not_written", "%s could not be written: %w. It is as it was.", c.path, err)
	}
	left, err := c.check(ctx)
	if err != nil {
		return report, 0, err
	}
	remains := map[string]bool{}
	for _, f := range left.Findings {
		remains[f.Text] = true
	}
	fixed := 0
	for _, f := range report.Findings {
		if remains[f.Text] {
			continue
		}
		if fixed++; !a.json {
			a.showFinding(c, report, f, "fixed")
		}
	}
	return left, fixed, nil
}

// replaceFile puts a file in the place of another, whole or not at all.
func replaceFile(path string, data []byte) error {
	path, err := filepath.EvalSymlinks(path)
	if err != nil {
		return err
	}
	info, err := os.Stat(path)
	if err != nil {
		return err
	}
	t, err := os.CreateTemp(filepath.Dir(path), ".environment-*.json")
	if err != nil {
		return err
	}
	_, err = t.Write(data)
	err = errors.Join(err, t.Chmod(info.Mode().Perm()), t.Sync(), t.Close())
	if err == nil {
		err = os.Rename(t.Name(), path)
	}
	if err != nil {
		return errors.Join(err, os.Remove(t.Name()))
	}
	return nil
}

// checkReport is what `errand env check --json` prints.
type checkReport struct {
	File        string            `json:"file"`
	Environment *file.Environment `json:"environment,omitempty"` // as it was understood
	Findings    []checkFinding    `json:"findings"`
	Fixed       int               `json:"fixed"` // findings that --fix has corrected
}

type checkFinding struct {
	file.Finding
	Corrected string `json:"corrected,omitempty"` // the lines as they should be
}

func (a *app) showReport(c checked, report file.Report, fixed int) error {
	if a.json {
		out := checkReport{File: c.path, Environment: report.Environment, Findings: []checkFinding{}, Fixed: fixed}
		for _, f := range report.Findings {
			out.Findings = append(out.Findings, checkFinding{f, report.Shown(f)})
		}
		return a.printJSON(out)
	}
	correctable := 0
	for _, f := range report.Findings {
		a.showFinding(c, report, f, string(f.Severity))
		correctable += min(len(f.Edits), 1)
	}
	if !isTerminal(a.err) {
		return nil
	}
	switch {
	case len(report.Findings) == 0:
		fmt.Fprintf(a.err, "%s is in order.\n", c.path)
	case correctable > 0:
		fmt.Fprintf(a.err, "errand env check --fix %s corrects %d of %d.\n", c.path, correctable, len(report.Findings))
	}
	return nil
}

// showFinding prints a finding as compilers do, and below it the corrected text.
func (a *app) showFinding(c checked, report file.Report, f file.Finding, label string) {
	st := styleFor(a.out, a.getenv)
	paint := st.yellow
	switch label {
	case "fixed":
		paint = st.green
	case string(file.Error):
		paint = st.red
	}
	at := c.path
	if f.File != c.name {
		at = f.File
	}
	if f.Line > 0 {
		at += fmt.Sprintf(":%d:%d", f.Line, f.Column)
	}
	fmt.Fprintf(a.out, "%s: %s %s\n", at, paint(label+":"), printable(f.Text))
	if shown := report.Shown(f); shown != "" {
		for _, line := range splitLines(cutLines(printable(shown), 12, 0)) {
			fmt.Fprintf(a.out, "  %s %s\n", st.dim("|"), strings.TrimRight(line, "\r"))
		}
	}
}
