package main_test

import (
	"encoding/json"
	"net/url"
	"strings"
	"testing"
	"time"

	"github.com/errand-dev/errand/api"
	"github.com/errand-dev/errand/llm/scripted"
)

// TestArtifacts has an agent leave files for people, who list them by the paths of
// v0 and v1 and download them by a link that needs no key: also when the machine
// sleeps, and after the server was killed.
func TestArtifacts(t *testing.T) {
	t.Parallel()
	in := install(t, &scripted.Script{Conversations: []*scripted.Conversation{{Turns: []*scripted.Turn{
		{ExpectSystem: scripted.Pat(`/opt/cursor/artifacts`), Calls: []scripted.Call{{Name: "run_terminal_cmd", Args: []byte(`{"command":"cd /opt/cursor/artifacts && mkdir deep && echo '<script>alert(1)</script>' >page.html && printf PNG >deep/shot.png && ln -s /etc/passwd passwd"}`)}}},
		{Text: "Look."},
	}}}}, "--idle", "2s")
	for _, engine := range []string{"gvisor", "runc"} {
		t.Run(engine, func(t *testing.T) {
			made := in.agent("Show me", remote(t, map[string]string{"README": "hello\n"}), engine)
			in.finished(made.Agent.ID, made.Run.ID)
			s := in.shelf(t, made.Agent.ID)
			in.slept(made.Agent.ID)
			s.lists()
			s.links(made.Agent.Branch)
		})
	}
	other := in.shelf(t, "bc-00000000-0000-0000-0000-000000000000")
	other.refused(404, "agent_not_found", "GET", "/v0/agents/"+other.agent+"/artifacts", nil)
}

func (s *shelf) lists() {
	s.Helper()
	status, _, text := s.ask("GET", "/artifacts", nil)
	var v1 api.Artifacts
	if err := json.Unmarshal(text, &v1); err != nil || status != 200 || len(v1.Items) != 2 {
		s.Fatalf("v1 lists %d %s", status, text)
	}
	status, _, text = s.ask("GET", "/v0/agents/"+s.agent+"/artifacts", nil)
	var v0 api.ArtifactsV0
	if err := json.Unmarshal(text, &v0); err != nil || status != 200 || len(v0.Artifacts) != 2 {
		s.Fatalf("v0 lists %d %s", status, text)
	}
	for i, want := range []struct {
		path string
		size int64
	}{{"deep/shot.png", 3}, {"page.html", 26}} {
		a, b := v1.Items[i], v0.Artifacts[i]
		if a.Path != "artifacts/"+want.path || b.AbsolutePath != "/opt/cursor/artifacts/"+want.path || a.SizeBytes != want.size || b.SizeBytes != want.size || time.Since(a.UpdatedAt) > time.Hour {
			s.Errorf("listed are %+v and %+v", a, b)
		}
	}
}

func (s *shelf) links(branch string) {
	s.Helper()
	link := func(path string) string {
		s.Helper()
		status, _, text := s.ask("GET", path, nil)
		var l api.ArtifactLink
		if err := json.Unmarshal(text, &l); err != nil || status != 200 || time.Until(l.ExpiresAt) > 15*time.Minute || time.Until(l.ExpiresAt) < 14*time.Minute {
			s.Fatalf("%s gave %d %s", path, status, text)
		}
		return l.URL
	}
	page := link("/artifacts/download" + at("artifacts/page.html"))
	shot := link("/v0/agents/" + s.agent + "/artifacts/download" + at("/opt/cursor/artifacts/deep/shot.png"))
	nobody := *s
	nobody.key = ""
	s.in.kill()
	s.in.start("--idle", "2s")
	// The server has another port now, which its address does not say.
	moved := func(u string) string {
		p, err := url.Parse(u)
		if err != nil {
			s.Fatal(err)
		}
		return s.in.client.URL() + p.RequestURI()
	}
	status, header, text := nobody.ask("GET", moved(page), nil)
	if status != 200 || string(text) != "<script>alert(1)</script>\n" || header.Get("Content-Type") != "application/octet-stream" ||
		header.Get("Content-Disposition") != "attachment; filename=page.html" || !strings.Contains(header.Get("Content-Security-Policy"), "sandbox") || header.Get("X-Content-Type-Options") != "nosniff" {
		s.Errorf("a link gave %d %v %s", status, header, text)
	}
	if status, header, text := nobody.ask("GET", moved(shot), nil, "Range", "bytes=1-1"); status != 206 || string(text) != "N" || header.Get("Content-Type") != "image/png" {
		s.Errorf("a link to a picture gave %d %v %s", status, header, text)
	}
	// A link is for one file of one agent, and for nothing else.
	for _, bent := range []string{
		strings.Replace(page, "page.html", "deep%2Fshot.png", 1), strings.Replace(page, "expires=", "expires=9", 1),
		strings.Replace(page, "signature=", "signature=A", 1), strings.Replace(page, s.agent, "bc-00000000-0000-0000-0000-000000000000", 1), strings.Split(page, "?")[0],
	} {
		nobody.refused(403, "bad_link", "GET", moved(bent), nil)
	}
	nobody.refused(401, "unauthorized", "GET", "/artifacts", nil)
	nobody.refused(401, "unauthorized", "POST", moved(page), nil)
	nobody.refused(403, "forbidden_origin", "GET", moved(page), nil, "Sec-Fetch-Site", "cross-site", "Sec-Fetch-Mode", "no-cors")
	if status, _, _ := nobody.ask("GET", moved(page), nil, "Sec-Fetch-Site", "cross-site", "Sec-Fetch-Mode", "navigate"); status != 200 {
		s.Errorf("a link on a page elsewhere gave %d", status)
	}
	for _, name := range []string{"artifacts/../etc/passwd", "/etc/passwd", "page.html", "artifacts/", "artifacts", "/opt/cursor/artifacts/../../../etc/passwd"} {
		s.refused(400, "validation_error", "GET", "/artifacts/download"+at(name), nil)
	}
	s.refused(400, "path_outside", "GET", "/artifacts/download"+at("artifacts/passwd"), nil)
	s.refused(404, "artifact_not_found", "GET", "/artifacts/download"+at("artifacts/nothing"), nil)
	d := &desk{T: s.T, in: s.in, dir: s.TempDir()}
	if out := d.must("artifacts", s.agent); !strings.Contains(out, "artifacts/page.html") {
		s.Errorf("errand artifacts says %q", out)
	}
	if status, _, _ := nobody.ask("GET", strings.TrimSpace(d.must("artifacts", s.agent, "page.html")), nil); status != 200 {
		s.Errorf("the command's link gave %d", status)
	}
}
