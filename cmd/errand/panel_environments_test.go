package main_test

import "testing"

// TestPanelEnvironments drives the pages about environments: check and correct a
// file, store it, watch its build, cancel one, compare and restore versions, start
// an agent on a build and see why its machine was ready at once, secrets,
// snapshots, and a setup to its end.
func TestPanelEnvironments(t *testing.T) {
	p := openPanel(t, "testdata/panel_environments.json", "--engine", "runc")
	p.env = append(p.env, "PANEL_SETUP_REPO="+remote(t, map[string]string{
		"package.json": `{"name": "shop", "scripts": {"dev": "sleep 600", "test": "false"}}` + "\n",
		"check.sh":     "[ -f made ] || { echo made is missing; exit 3; }\n", ".gitignore": "made\n",
	}))
	p.drive("environments.mjs", remote(t, map[string]string{"package.json": "{}\n"}), nil)
}
