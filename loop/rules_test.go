package loop_test

import (
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/errand-dev/errand/loop"
	"github.com/errand-dev/errand/tool/tooltest"
)

func TestRules(t *testing.T) {
	root := t.TempDir()
	for name, content := range map[string]string{
		"AGENTS.md":                     "Run make test.\n",
		".cursorrules":                  "Old rules.\n",
		"web/AGENTS.md":                 "Only for the web.\n",
		".gitignore":                    "node_modules\n",
		"node_modules/x/AGENTS.md":      "Not ours.\n",
		".cursor/rules/always.mdc":      "---\ndescription: \"For all\"\nglobs:\nalwaysApply: true\n---\n# Always\n\nDo so.\n",
		".cursor/rules/go/style.mdc":    "---\r\ndescription: How Go is written\r\nglobs: [\"*.go\", 'go.mod']\r\nalwaysApply: false\r\n---\r\nBe plain.\r\n",
		".cursor/rules/list.mdc":        "---\nglobs:\n  - src/**\n  - \"lib/**\"\n---\nx\n",
		".cursor/rules/bare.mdc":        "No front matter.\n",
		"api/.cursor/rules/nested.mdc":  "---\nalwaysApply: true\n---\nOnly here.\n",
		".cursor/rules/not-a-rule.json": "{}",
	} {
		path := filepath.Join(root, name)
		if err := os.MkdirAll(filepath.Dir(path), 0o755); err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(path, []byte(content), 0o644); err != nil {
			t.Fatal(err)
		}
	}
	rules, err := loop.Rules(t.Context(), tooltest.Start(t).Line(), root)
	if err != nil {
		t.Fatal(err)
	}
	want := []loop.RuleFile{
		{Path: "AGENTS.md", Text: "Run make test."},
		{Path: ".cursorrules", Text: "Old rules."},
		{Path: ".cursor/rules/always.mdc", Text: "# Always\n\nDo so.", Description: "For all"},
		{Path: ".cursor/rules/bare.mdc"},
		{Path: ".cursor/rules/go/style.mdc", Globs: "*.go,go.mod", Description: "How Go is written"},
		{Path: ".cursor/rules/list.mdc", Globs: "src/**,lib/**"},
		{Path: "api/.cursor/rules/nested.mdc", Globs: "api/**"},
		{Path: "web/AGENTS.md", Globs: "web/**"},
	}
	if d := cmp.Diff(want, rules); d != "" {
		t.Errorf("wrong rules (-want +got):\n%s", d)
	}

	system := loop.System(loop.SystemInput{
		Repository: "acme/shop", Branch: "errand/fix-1a2b", Base: "main", Rules: rules,
		Environment: []string{"npm install has been run."}, Terminals: []string{"web: npm run dev"},
	})
	for _, s := range []string{
		"The repository acme/shop is checked out at /workspace, on branch errand/fix-1a2b, which began at main.",
		"- npm install has been run.", "- web: npm run dev", "git push origin HEAD:errand/fix-1a2b",
		"<rules file=\"AGENTS.md\">\nRun make test.\n</rules>", "- .cursor/rules/go/style.mdc for *.go,go.mod: How Go is written",
		"- web/AGENTS.md for web/**",
	} {
		if !strings.Contains(system, s) {
			t.Errorf("%q is not in the rules:\n%s", s, system)
		}
	}
	plan := loop.System(loop.SystemInput{Branch: "b", Mode: loop.ModePlan})
	if !strings.Contains(plan, "change nothing") || strings.Contains(plan, "git push") {
		t.Errorf("wrong rules for a plan:\n%s", plan)
	}
}

func TestLargeRules(t *testing.T) {
	root := t.TempDir()
	if err := os.WriteFile(filepath.Join(root, "AGENTS.md"), []byte(strings.Repeat("rule\n", 20_000)), 0o644); err != nil {
		t.Fatal(err)
	}
	rules, err := loop.Rules(t.Context(), tooltest.Start(t).Line(), root)
	if err != nil || len(rules) != 1 || !rules[0].Cut || len(rules[0].Text) > 32<<10 {
		t.Fatalf("got %d rules, %v", len(rules), err)
	}
	if system := loop.System(loop.SystemInput{Rules: rules}); !strings.Contains(system, "read AGENTS.md for the rest") {
		t.Error("it is not said that the rules are cut")
	}
}
