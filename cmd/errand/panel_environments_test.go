package main_test

import (
	"testing"

	"github.com/errand-dev/errand/llm/scripted"
)

// TestPanelEnvironments drives the pages about environments in a real browser, on
// a wide screen and a phone's: check and correct a file, store it, watch its
// build, cancel one, compare and restore versions, start an agent on a build and
// see why its machine was ready at once, secrets, snapshots, and a setup to its
// end. Pictures are kept in bin/screenshots.
func TestPanelEnvironments(t *testing.T) {
	browser := panelBrowser(t)
	in := install(t, &scripted.Script{Conversations: []*scripted.Conversation{{
		Match: scripted.Pat("Look around"), Repeat: true, Turns: []*scripted.Turn{{Text: "All is there."}},
	}}}, "--engine", "runc")
	repo := remote(t, map[string]string{"package.json": "{}\n"})
	shop := remote(t, map[string]string{
		"package.json": `{"name": "shop", "scripts": {"dev": "sleep 600", "test": "false"}}` + "\n",
		"check.sh":     "[ -f made ] || { echo made is missing; exit 3; }\n", ".gitignore": "made\n",
	})
	browser.drive(in, "tests/environments.mjs", nil, "PANEL_REPO="+repo, "PANEL_SETUP_REPO="+shop)
}
