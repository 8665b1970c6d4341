package main_test

import (
	"archive/tar"
	"archive/zip"
	"bufio"
	"bytes"
	"crypto/rand"
	"encoding/json"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/url"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/errand-dev/errand"
	"github.com/errand-dev/errand/api"
	"github.com/errand-dev/errand/client"
)

// shelf is the files of one agent, over HTTP as anybody could ask for them.
type shelf struct {
	*testing.T
	in    *installation
	agent string
	key   string
}

func (s *shelf) here(args ...string) string {
	s.Helper()
	out, err := s.in.command(append([]string{"exec", s.agent, "--"}, args...)...).CombinedOutput()
	if err != nil {
		s.Fatalf("%q: %v %s", args, err, out)
	}
	return string(out)
}

// ask asks for what is below /v1/agents/ID, or for a whole path or URL.
func (s *shelf) ask(method, at string, body io.Reader, headers ...string) (int, http.Header, []byte) {
	s.Helper()
	if !strings.HasPrefix(at, "http") {
		if !strings.HasPrefix(at, "/v") {
			at = "/v1/agents/" + s.agent + at
		}
		at = s.in.client.URL() + at
	}
	if s.key != "" {
		headers = append([]string{"Authorization", "Bearer " + s.key}, headers...)
	}
	status, h, text := ask(s.T, http.DefaultClient, method, at, body, headers...)
	return status, h, []byte(text)
}

// refused wants a request to be refused with a status and a code.
func (s *shelf) refused(status int, code, method, at string, body io.Reader, headers ...string) {
	s.Helper()
	got, _, text := s.ask(method, at, body, headers...)
	var e api.ErrorBody
	if err := json.Unmarshal(text, &e); err != nil || got != status || e.Error.Code != code {
		s.Errorf("%s %s gave %d %s, not %d %s", method, at, got, text, status, code)
	}
}

func at(path string) string { return "?path=" + url.QueryEscape(path) }

func (in *installation) shelf(t *testing.T, agent string) *shelf {
	t.Helper()
	return &shelf{T: t, in: in, agent: agent, key: in.key()}
}

// TestFiles does everything that can be done with the files of a machine, on each
// engine.
func TestFiles(t *testing.T) {
	t.Parallel()
	in := install(t, here())
	for _, engine := range []string{"gvisor", "runc"} {
		t.Run(engine, func(t *testing.T) {
			bare := remote(t, map[string]string{"README": "hello\n", "src/a.go": "package a\n", ".gitignore": "ignored\n"})
			made, err := in.client.CreateAgent(t.Context(), api.CreateAgent{Prompt: api.Prompt{Text: "Be there"}, Engine: engine,
				Repos: []api.Repo{{URL: bare}}, EnvVars: map[string]string{"TOKEN": "very-secret-token-4711"}}, "")
			if err != nil {
				t.Fatal(err)
			}
			in.finished(made.Agent.ID, made.Run.ID)
			s := in.shelf(t, made.Agent.ID)
			s.browse()
			s.contents()
			s.archives()
			s.changes()
			s.tricks()
			s.watch()
			s.copies()
			if left := s.here("find", "/workspace", "-name", ".errand-*"); left != "" {
				t.Errorf("left behind: %s", left)
			}
		})
	}
}

func (s *shelf) browse() {
	s.Helper()
	s.here("sh", "-ec", "chmod 755 README; echo $TOKEN >ignored; ln -s README link; mkdir many; cd many; touch $(seq 1200)")
	page, err := s.in.client.Files(s.Context(), client.FileAt{Agent: errand.AgentID(s.agent)}, 0, "")
	if err != nil {
		s.Fatal(err)
	}
	var names []string
	for _, f := range page.Items {
		names = append(names, fmt.Sprintf("%s %s %s %d", f.Path, f.Kind, f.Mode, f.SizeBytes))
	}
	list := strings.Join(names, "\n")
	if !strings.HasPrefix(list, "many folder d") || !strings.Contains(list, "\nREADME file -rwxr-xr-x 6") || !strings.Contains(list, "\nlink link L") || !strings.Contains(list, "\nignored file") || strings.Contains(list, ".git ") {
		s.Errorf("the folder has\n%s", list)
	}
	seen := map[string]bool{}
	for cursor, pages := "", 0; ; pages++ {
		page, err := s.in.client.Files(s.Context(), client.FileAt{Agent: errand.AgentID(s.agent), Path: "many"}, 500, cursor)
		if err != nil {
			s.Fatal(err)
		}
		for _, f := range page.Items {
			seen[f.Name] = true
		}
		if cursor = page.NextCursor; cursor == "" {
			if len(seen) != 1200 || pages != 2 {
				s.Errorf("%d files on %d pages", len(seen), pages+1)
			}
			break
		}
	}
	text, err := s.in.client.FileText(s.Context(), client.FileAt{Agent: errand.AgentID(s.agent), Path: "ignored"})
	if err != nil || !text.Redacted || strings.Contains(text.Text, "4711") {
		s.Errorf("a file with a secret is shown as %+v, %v", text, err)
	}
	if text, err := s.in.client.FileText(s.Context(), client.FileAt{Agent: errand.AgentID(s.agent), Root: "/", Path: "proc/version"}); err != nil || !strings.HasPrefix(text.Text, "Linux") {
		s.Errorf("/proc/version is %+v, %v", text, err)
	}
	if _, err := s.in.client.FileText(s.Context(), client.FileAt{Agent: errand.AgentID(s.agent), Path: "src"}); errand.KindOf(err) != errand.Invalid {
		s.Errorf("a folder as text: %v", err)
	}
}

func (s *shelf) contents() {
	s.Helper()
	big := make([]byte, 20<<20)
	rand.Read(big)
	status, header, text := s.ask("PUT", "/files/content"+at("new/dir/big.bin"), bytes.NewReader(big))
	var file api.File
	if err := json.Unmarshal(text, &file); err != nil || status != 200 || file.SizeBytes != int64(len(big)) || header.Get("ETag") != `"`+file.Tag+`"` {
		s.Fatalf("an upload gave %d %s", status, text)
	}
	status, header, back := s.ask("GET", "/files/content"+at("new/dir/big.bin"), nil)
	if status != 200 || !bytes.Equal(back, big) {
		s.Errorf("of %d bytes came back %d, %d", len(big), len(back), status)
	}
	for name, want := range map[string]string{
		"Content-Disposition": "attachment; filename=big.bin", "X-Content-Type-Options": "nosniff", "Content-Type": "application/octet-stream",
		"Content-Security-Policy": "default-src 'none'; frame-ancestors 'none'; sandbox", "ETag": `"` + file.Tag + `"`,
	} {
		if got := header.Get(name); got != want {
			s.Errorf("%s is %q, not %q", name, got, want)
		}
	}
	if status, header, part := s.ask("GET", "/files/content"+at("new/dir/big.bin"), nil, "Range", "bytes=5000000-5000009"); status != 206 || !bytes.Equal(part, big[5000000:5000010]) || header.Get("Content-Range") != fmt.Sprintf("bytes 5000000-5000009/%d", len(big)) {
		s.Errorf("a range gave %d, %v, %x", status, header, part)
	}
	if status, _, _ := s.ask("GET", "/files/content"+at("new/dir/big.bin"), nil, "Range", "bytes=99999999-"); status != 416 {
		s.Errorf("a range after the end gave %d", status)
	}
	// Nobody overwrites another's edit.
	if status, _, text := s.ask("PUT", "/files/content"+at("README"), strings.NewReader("one\n")); status != 200 {
		s.Fatalf("writing README gave %d %s", status, text)
	}
	text2, err := s.in.client.FileText(s.Context(), client.FileAt{Agent: errand.AgentID(s.agent), Path: "README"})
	if err != nil {
		s.Fatal(err)
	}
	s.here("sh", "-c", "echo agent >README")
	s.refused(409, "file_changed", "PUT", "/files/content"+at("README"), strings.NewReader("two\n"), "If-Match", `"`+text2.Tag+`"`)
	s.refused(409, "file_changed", "PUT", "/files/content"+at("README"), strings.NewReader("two\n"), "If-None-Match", "*")
	if got := s.here("sh", "-c", "cat README; stat -c %a README"); got != "agent\n755\n" {
		s.Errorf("README is %q", got)
	}
	// What is cut off leaves nothing.
	conn, err := net.Dial("tcp", strings.TrimPrefix(s.in.client.URL(), "http://"))
	if err != nil {
		s.Fatal(err)
	}
	fmt.Fprintf(conn, "PUT /v1/agents/%s/files/content?path=README HTTP/1.1\r\nHost: localhost\r\nAuthorization: Bearer %s\r\nContent-Length: 1000000\r\n\r\n%s", s.agent, s.key, strings.Repeat("x", 200_000))
	s.until("find /workspace -name '.errand-*' -size +150k", func(out string) bool { return out != "" })
	conn.Close()
	s.until("find /workspace -name '.errand-*'", func(out string) bool { return out == "" })
	if got := s.here("cat", "README"); got != "agent\n" {
		s.Errorf("after an upload that was cut off README is %d bytes", len(got))
	}
	s.refused(400, "validation_error", "PUT", "/files/content"+at("src"), strings.NewReader("x"))
	s.refused(404, "file_not_found", "GET", "/files/content"+at("nowhere"), nil)
}

// until asks a shell in the machine until it says what is waited for.
func (s *shelf) until(script string, done func(string) bool) {
	s.Helper()
	for deadline := time.Now().Add(40 * time.Second); ; {
		out := s.here("sh", "-c", script)
		if done(out) {
			return
		}
		if time.Now().After(deadline) {
			s.Fatalf("%s says %q", script, out)
		}
	}
}

// packed makes an archive of names and contents; "-> " makes a link.
func packed(t *testing.T, zipped bool, files ...string) *bytes.Buffer {
	t.Helper()
	var b bytes.Buffer
	z, w := zip.NewWriter(&b), tar.NewWriter(&b)
	for i := 0; i < len(files); i += 2 {
		name, text := files[i], files[i+1]
		target, link := strings.CutPrefix(text, "-> ")
		var err error
		if zipped {
			h := &zip.FileHeader{Name: name}
			h.SetMode(0o644)
			if link {
				h.SetMode(0o777 | os.ModeSymlink)
			}
			var e io.Writer
			if e, err = z.CreateHeader(h); err == nil {
				_, err = io.WriteString(e, target)
			}
		} else {
			h := &tar.Header{Name: name, Mode: 0o755, Size: int64(len(text)), Typeflag: tar.TypeReg}
			if link {
				h.Typeflag, h.Linkname, h.Size = tar.TypeSymlink, target, 0
			}
			if err = w.WriteHeader(h); err == nil && !link {
				_, err = io.WriteString(w, text)
			}
		}
		if err != nil {
			t.Fatal(err)
		}
	}
	if zipped {
		w = nil
		if err := z.Close(); err != nil {
			t.Fatal(err)
		}
	} else if err := w.Close(); err != nil {
		t.Fatal(err)
	}
	return &b
}

func (s *shelf) archives() {
	s.Helper()
	s.here("sh", "-ec", "mkdir -p box/deep; echo x >box/deep/leaf; ln -s deep/leaf box/to; chmod 755 box/deep/leaf; mkfifo box/pipe; mkdir box/.git; echo no >box/.git/no")
	for _, format := range []string{"tar.gz", "tar", "zip"} {
		status, header, archive := s.ask("GET", "/files/archive"+at("box")+"&format="+format, nil)
		if status != 200 || header.Get("Content-Disposition") != "attachment; filename=box."+format {
			s.Fatalf("a folder as %s gave %d %v", format, status, header)
		}
		if status, _, text := s.ask("POST", "/files/archive"+at("again"), bytes.NewReader(archive)); status != 200 || !strings.Contains(string(text), `"entries":3`) {
			s.Fatalf("unpacking %s gave %d %s", format, status, text)
		}
		if got := s.here("sh", "-ec", "cat again/to; find again | sort; stat -c %a again/deep/leaf; rm -r again"); got != "x\nagain\nagain/deep\nagain/deep/leaf\nagain/to\n755\n" {
			s.Errorf("through %s came %q", format, got)
		}
	}
	s.here("sh", "-ec", "mkdir out; echo old >out/file; ln -s /etc out/etc; ln -s .. out/up; mkdir out/dir; echo keep >out/dir/kept")
	if status, _, text := s.ask("POST", "/files/archive"+at("out"), packed(s.T, true, "file", "new\n", "dir/more", "more\n", "link", "-> dir/kept")); status != 200 {
		s.Errorf("unpacking over what is there gave %d %s", status, text)
	}
	before := s.here("sh", "-c", "cd out && find . | sort && cat file dir/* link")
	if before != ".\n./dir\n./dir/kept\n./dir/more\n./etc\n./file\n./link\n./up\nnew\nkeep\nmore\nkeep\n" {
		s.Errorf("the folder has %q", before)
	}
	for name, entries := range map[string][]string{
		"..":               {"ok", "x", "../evil", "x"},
		"a hidden ..":      {"ok", "x", "dir/../../evil", "x"},
		"an absolute path": {"ok", "x", "/tmp/evil", "x"},
		"a backslash":      {"ok", "x", `..\evil`, "x"},
		"a link outside":   {"ok", "x", "l", "-> ../../etc"},
		"an absolute link": {"ok", "x", "l", "-> /etc"},
		"through its link": {"ok", "x", "l", "-> dir", "l/evil", "x"},
		"through a link":   {"ok", "x", "etc/evil", "x"},
		"through another":  {"ok", "x", "up/evil", "x"},
		"a file as folder": {"ok", "x", "file/evil", "x"},
	} {
		for _, zipped := range []bool{true, false} {
			status, _, text := s.ask("POST", "/files/archive"+at("out"), packed(s.T, zipped, entries...))
			if status != 400 && status != 409 {
				s.Errorf("an archive with %s (zip %t) gave %d %s", name, zipped, status, text)
			}
		}
	}
	s.refused(400, "validation_error", "POST", "/files/archive"+at("out"), strings.NewReader("no archive"))
	whole := packed(s.T, false, "ok", strings.Repeat("x", 100_000)).Bytes()
	s.refused(400, "validation_error", "POST", "/files/archive"+at("out"), bytes.NewReader(whole[:50_000]))
	if after := s.here("sh", "-c", "cd out && find . | sort && cat file dir/* link"); after != before {
		s.Errorf("a refused archive left %q", after)
	}
}

func (s *shelf) changes() {
	s.Helper()
	a := client.FileAt{Agent: errand.AgentID(s.agent)}
	a.Path = "moved/deep"
	if f, err := s.in.client.MakeFolder(s.Context(), a); err != nil || f.Kind != api.FileFolder {
		s.Errorf("making a folder gave %+v, %v", f, err)
	}
	a.Path = "src/a.go"
	if f, err := s.in.client.MoveFile(s.Context(), a, "moved/deep/b.go", false); err != nil || f.Path != "moved/deep/b.go" {
		s.Errorf("moving gave %+v, %v", f, err)
	}
	a.Path = "README"
	if _, err := s.in.client.MoveFile(s.Context(), a, "moved/deep/b.go", false); errand.KindOf(err) != errand.Conflict {
		s.Errorf("moving over a file: %v", err)
	}
	if _, err := s.in.client.MoveFile(s.Context(), client.FileAt{Agent: a.Agent, Path: "moved"}, "moved/deep/moved", false); errand.KindOf(err) != errand.Invalid {
		s.Errorf("moving a folder into itself: %v", err)
	}
	for _, name := range []string{"moved", "link"} {
		a.Path = name
		if err := s.in.client.DeleteFile(s.Context(), a); err != nil {
			s.Error(err)
		}
		if err := s.in.client.DeleteFile(s.Context(), a); errand.KindOf(err) != errand.NotFound {
			s.Errorf("deleting again: %v", err)
		}
	}
	a.Path = ""
	if err := s.in.client.DeleteFile(s.Context(), a); errand.KindOf(err) != errand.Invalid {
		s.Errorf("deleting the workspace: %v", err)
	}
	if got := s.here("cat", "README"); got != "agent\n" {
		s.Errorf("what the link led to is %q", got)
	}
}

// tricks are paths that lead out of the workspace, in each call.
func (s *shelf) tricks() {
	s.Helper()
	s.here("sh", "-ec", "ln -s /etc abs; ln -s ../etc rel; ln -s /etc/passwd passwd; ln -s abs/passwd twice")
	for _, name := range []string{"../etc/passwd", "/etc/passwd", "src/../../etc/passwd", "abs/passwd", "rel/passwd", "passwd", "twice", "./../etc/passwd"} {
		for _, call := range []struct {
			method, at string
			body       string
		}{
			{"GET", "/files" + at(name), ""}, {"GET", "/files/text" + at(name), ""}, {"GET", "/files/content" + at(name), ""},
			{"PUT", "/files/content" + at(name), "x"}, {"GET", "/files/archive" + at(name), ""}, {"POST", "/files/archive" + at(name), "x"},
			{"GET", "/files/changes" + at(name), ""}, {"POST", "/files/folder", fmt.Sprintf(`{"path":%q}`, name)},
			{"POST", "/files/move", fmt.Sprintf(`{"path":"README","to":%q,"replace":true}`, name+"/x")},
		} {
			var body io.Reader
			if call.body != "" {
				body = strings.NewReader(call.body)
			}
			s.refused(400, "path_outside", call.method, call.at, body)
		}
	}
	for _, name := range []string{"../etc/passwd", "/etc/passwd", "abs/passwd", "rel/passwd"} {
		s.refused(400, "path_outside", "DELETE", "/files"+at(name), nil)
	}
	s.refused(400, "validation_error", "GET", "/files/content"+at("README")+"&root=/etc", nil)
	if got := s.here("sh", "-c", "head -c 5 /etc/passwd; cat README; rm abs rel passwd twice"); got != "root:agent\n" {
		s.Errorf("after all that there is %q", got)
	}
	other := *s
	other.agent = "bc-00000000-0000-0000-0000-000000000000"
	for _, call := range []string{"/files", "/files/text" + at("x"), "/files/content" + at("x"), "/files/archive", "/files/changes", "/artifacts", "/artifacts/download" + at("artifacts/x")} {
		other.refused(404, "agent_not_found", "GET", call, nil)
	}
	other.agent, other.key = s.agent, "errand_wrong"
	for _, call := range []string{"/files", "/files/content" + at("README"), "/artifacts"} {
		other.refused(401, "unauthorized", "GET", call, nil)
	}
	var made struct{ ID, Token string }
	if _, _, text := s.ask("POST", "/v1/keys", strings.NewReader(fmt.Sprintf(`{"name":%q}`, s.Name()))); json.Unmarshal(text, &made) != nil || made.Token == "" {
		s.Fatalf("making a key gave %s", text)
	}
	other.key = made.Token
	if status, _, text := other.ask("GET", "/files", nil); status != 200 {
		s.Errorf("with a key that holds: %d %s", status, text)
	}
	if status, _, text := s.ask("DELETE", "/v1/keys/"+made.ID, nil); status != 200 {
		s.Fatalf("revoking a key gave %d %s", status, text)
	}
	other.refused(401, "unauthorized", "GET", "/files", nil)
}

// watch sees what the agent does, and in a folder that is new.
func (s *shelf) watch() {
	s.Helper()
	resp := request(s.Context(), s.T, http.DefaultClient, "GET", s.in.client.URL()+"/v1/agents/"+s.agent+"/files/changes", nil, "Authorization", "Bearer "+s.key)
	defer resp.Body.Close()
	told := make(chan string, 100)
	go func() {
		defer close(told)
		for scan := bufio.NewScanner(resp.Body); scan.Scan(); {
			if text, ok := strings.CutPrefix(scan.Text(), "data: "); ok {
				told <- text
			}
		}
	}()
	wait := func(want string) {
		s.Helper()
		limit := time.After(20 * time.Second)
		for {
			select {
			case text, open := <-told:
				var c api.FileChanges
				if err := json.Unmarshal([]byte(text), &c); !open || err != nil {
					s.Fatalf("before a change of %q it told %q, %v; it goes on: %t", want, text, err, open)
				}
				if slices.Contains(c.Paths, want) || want == "" {
					return
				}
			case <-limit:
				s.Fatalf("no change of %q was told", want)
			}
		}
	}
	wait("") // it watches
	s.in.isHere(s.agent, api.Present{Doing: "files"})
	s.here("sh", "-c", "echo 1 >seen")
	wait("seen")
	s.here("sh", "-c", "mkdir -p fresh/deep")
	wait("fresh/deep")
	s.here("sh", "-c", "echo 1 >fresh/deep/leaf")
	wait("fresh/deep/leaf")
	s.here("sh", "-c", "rm -r fresh seen")
	wait("seen")
}

// copies uses errand files and errand cp.
func (s *shelf) copies() {
	s.Helper()
	d := &desk{T: s.T, in: s.in, dir: s.TempDir()}
	d.write("one", "1\n")
	d.must("cp", "one", s.agent+":")
	d.must("cp", "one", s.agent+":two/three")
	if err := os.MkdirAll(filepath.Join(d.dir, "folder", "deep"), 0o755); err != nil {
		s.Fatal(err)
	}
	d.write("folder/deep/x", "x\n")
	d.must("cp", "folder", s.agent+":two")
	d.must("cp", "folder", s.agent+":fresh")
	if got := s.here("sh", "-c", "cat one two/three two/folder/deep/x fresh/deep/x"); got != "1\n1\nx\nx\n" {
		s.Errorf("copied is %q", got)
	}
	d.must("cp", s.agent+":two", "back")
	d.must("cp", s.agent+":two/three", ".")
	d.must("cp", s.agent+":/proc/version", "version")
	for name, want := range map[string]string{"back/folder/deep/x": "x\n", "three": "1\n", "back/three": "1\n"} {
		if got, err := os.ReadFile(filepath.Join(d.dir, name)); err != nil || string(got) != want {
			s.Errorf("%s came back as %q, %v", name, got, err)
		}
	}
	if got, err := os.ReadFile(filepath.Join(d.dir, "version")); err != nil || !strings.HasPrefix(string(got), "Linux") {
		s.Errorf("a file without a size came as %q, %v", got, err)
	}
	if out := d.must("cp", s.agent+":one", "-"); out != "1\n" {
		s.Errorf("to standard output came %q", out)
	}
	if out := d.must("files", s.agent, "two"); !strings.Contains(out, "folder/\n") || !strings.Contains(out, "three\n") {
		s.Errorf("files says %q", out)
	}
	d.refused(3, "nowhere", "cp", s.agent+":nowhere", "x")
	d.refused(1, "leaves /workspace", "cp", s.agent+":../etc/passwd", "x")
	if _, err := os.Stat(filepath.Join(d.dir, "x")); err == nil {
		s.Error("a copy that failed left a file")
	}
	s.here("rm", "-r", "two", "fresh", "one")
}
