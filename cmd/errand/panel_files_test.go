package main_test

import "testing"

// TestPanelFiles drives the files of an agent's machine in a real browser: browse,
// view, edit while the agent does too, upload by button and drop, download, rename,
// delete, and what the agent left for people.
func TestPanelFiles(t *testing.T) {
	t.Parallel()
	p := openPanel(t, "testdata/panel_files.json")
	p.drive("files.mjs", remote(t, map[string]string{"README.md": "# App\n"}), nil)
}
