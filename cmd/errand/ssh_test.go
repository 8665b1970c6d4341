package main_test

import (
	"bytes"
	"crypto/rand"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/http/httptest"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/creack/pty"
	"golang.org/x/crypto/ssh"

	"github.com/errand-dev/errand"
	"github.com/errand-dev/errand/api"
	"github.com/errand-dev/errand/guest/guesttest"
)

// sshHome is a person's home with a key that the server knows and a
// configuration that `errand ssh-config --write` has made.
type sshHome struct {
	*testing.T
	dir string
	in  *installation
}

// newSSHHome makes one. OpenSSH asks the system where a home is and does not
// look at $HOME, so its programs are told each file.
func newSSHHome(t *testing.T, in *installation) *sshHome {
	t.Helper()
	for _, program := range []string{"ssh", "scp", "sftp", "rsync", "ssh-keygen"} {
		if _, err := exec.LookPath(program); err != nil {
			guesttest.Lacking(t, "this test needs %s", program)
		}
	}
	h := &sshHome{T: t, dir: t.TempDir(), in: in}
	if err := os.Mkdir(filepath.Join(h.dir, ".ssh"), 0o700); err != nil {
		t.Fatal(err)
	}
	h.newKey("id_ed25519")
	h.errand("ssh-key", "add")
	h.configure()
	return h
}

func (h *sshHome) file(name string) string { return filepath.Join(h.dir, ".ssh", name) }

func (h *sshHome) newKey(name string) {
	h.Helper()
	if out, err := exec.Command("ssh-keygen", "-q", "-t", "ed25519", "-N", "", "-f", h.file(name)).CombinedOutput(); err != nil {
		h.Fatalf("%v %s", err, out)
	}
}

// errand runs the errand command with this home.
func (h *sshHome) errand(args ...string) string {
	h.Helper()
	cmd := h.in.command(args...)
	cmd.Env = append(cmd.Env, "HOME="+h.dir)
	out, err := cmd.CombinedOutput()
	if err != nil {
		h.Fatalf("errand %q: %v\n%s", args, err, out)
	}
	return string(out)
}

// configure writes the configuration anew, as seen by a system whose home this
// is.
func (h *sshHome) configure() {
	h.Helper()
	h.errand("ssh-config", "--write")
	text, err := os.ReadFile(h.file("config"))
	if err != nil || string(text) != "Include errand\n" {
		h.Fatalf("the configuration is %q, %v", text, err)
	}
	text, err = os.ReadFile(h.file("errand"))
	if err != nil {
		h.Fatal(err)
	}
	if err := os.WriteFile(h.file("all"), fmt.Appendf(text, "Host *\n\tIdentityFile %s\n\tIdentitiesOnly yes\n\tBatchMode yes\n", h.file("id_ed25519")), 0o600); err != nil {
		h.Fatal(err)
	}
}

// command prepares one of OpenSSH's programs.
func (h *sshHome) command(program string, args ...string) *exec.Cmd {
	return exec.Command(program, append([]string{"-F", h.file("all")}, args...)...)
}

// run runs one, with an input, and gives what it printed and its exit code.
func (h *sshHome) run(stdin io.Reader, program string, args ...string) (stdout, stderr string, code int) {
	h.Helper()
	return h.ends(h.command(program, args...), stdin)
}

// ends runs a command to its end.
func (h *sshHome) ends(cmd *exec.Cmd, stdin io.Reader) (stdout, stderr string, code int) {
	h.Helper()
	var out, complaints bytes.Buffer
	cmd.Stdin, cmd.Stdout, cmd.Stderr = stdin, &out, &complaints
	err := cmd.Run()
	if exit := (*exec.ExitError)(nil); err != nil && !errors.As(err, &exit) {
		h.Fatal(err)
	}
	return out.String(), complaints.String(), cmd.ProcessState.ExitCode()
}

// must is run for what must end well.
func (h *sshHome) must(program string, args ...string) string {
	h.Helper()
	out, complaints, code := h.run(nil, program, args...)
	if code != 0 {
		h.Fatalf("%s %q ended with %d: %s%s", program, args, code, out, complaints)
	}
	return out
}

// TestSSH walks into a machine of each engine with OpenSSH's own programs, rsync
// and git.
func TestSSH(t *testing.T) {
	t.Parallel()
	in := install(t, here())
	for _, engine := range []string{"gvisor", "runc"} {
		t.Run(engine, func(t *testing.T) {
			made := in.agent("Be there", remote(t, map[string]string{"README": "hello\n"}), engine)
			in.finished(made.Agent.ID, made.Run.ID)
			h := newSSHHome(t, in)
			host := "errand-" + strings.TrimPrefix(made.Agent.ID, "bc-")[:8]
			h.commands(host)
			h.signals(made.Agent.ID)
			h.terminal(host, made.Agent.ID)
			h.files(host)
			h.ports(host, made.Agent.ID)
			h.editors(host, made.Agent.ID)
			h.refusals(host, made.Agent.ID)
		})
	}
}

// editors gives the addresses under which editors open a machine, also of an agent
// that ssh was not told of.
func (h *sshHome) editors(host, agent string) {
	h.Helper()
	entries, err := os.ReadFile(h.file("errand"))
	if err != nil {
		h.Fatal(err)
	}
	if err := os.WriteFile(h.file("errand"), nil, 0o600); err != nil {
		h.Fatal(err)
	}
	for editor, want := range map[string]string{
		"vscode": "vscode://vscode-remote/ssh-remote+" + host + "/workspace\n",
		"cursor": "cursor://vscode-remote/ssh-remote+" + host + "/workspace\n",
		"zed":    "zed://ssh/" + host + "/workspace\n",
	} {
		if got := h.errand("open", agent, "--in", editor, "--print"); got != want {
			h.Errorf("%s is opened by %q", editor, got)
		}
	}
	if again, err := os.ReadFile(h.file("errand")); err != nil || !bytes.Equal(again, entries) {
		h.Errorf("afterwards ssh is told %q, %v", again, err)
	}
	if err := os.Remove(h.file("errand")); err != nil {
		h.Fatal(err)
	}
	cmd := h.in.command("open", agent, "--in", "zed", "--print")
	cmd.Env = append(cmd.Env, "HOME="+h.dir)
	if out, err := cmd.CombinedOutput(); err == nil || !strings.Contains(string(out), "errand ssh-config --write") {
		h.Errorf("where ssh was never told of machines: %s, %v", out, err)
	}
	h.errand("ssh-config", "--write")
}

func (h *sshHome) commands(host string) {
	h.Helper()
	out, complaints, code := h.run(strings.NewReader("typed\n"), "ssh", host, "pwd; cat; echo to stderr >&2; exit 7")
	if out != "/workspace\ntyped\n" || complaints != "to stderr\n" || code != 7 {
		h.Errorf("a command gave %q, %q, %d", out, complaints, code)
	}
	if out, _, code := h.run(strings.NewReader("echo $0 in $(pwd)\nexit 3\n"), "ssh", "-T", host); !strings.HasSuffix(out, "sh in /workspace\n") || code != 3 {
		h.Errorf("a shell that is typed at gave %q, %d", out, code)
	}
	// More than the guest keeps, both ways, and no byte lost.
	big := make([]byte, 24<<20)
	rand.Read(big)
	cmd := h.command("ssh", host, "cat")
	cmd.Stdin = bytes.NewReader(big)
	if back, err := cmd.Output(); err != nil || !bytes.Equal(back, big) {
		h.Errorf("of %d bytes through cat %d came back, the same: %t, %v", len(big), len(back), bytes.Equal(back, big), err)
	}
}

// signals sends a command signals, as OpenSSH's client never does: one that it
// takes, one that there is not, and one that ends it with what it has begun.
func (h *sshHome) signals(agent string) {
	h.Helper()
	at, err := h.in.client.SSH(h.Context())
	if err != nil {
		h.Fatal(err)
	}
	private, err := os.ReadFile(h.file("id_ed25519"))
	if err != nil {
		h.Fatal(err)
	}
	key, err := ssh.ParsePrivateKey(private)
	if err != nil {
		h.Fatal(err)
	}
	server, _, _, _, err := ssh.ParseAuthorizedKey([]byte(at.HostKey))
	if err != nil {
		h.Fatal(err)
	}
	client, err := ssh.Dial("tcp", at.Address, &ssh.ClientConfig{User: agent, Auth: []ssh.AuthMethod{ssh.PublicKeys(key)}, HostKeyCallback: ssh.FixedHostKey(server)})
	if err != nil {
		h.Fatal(err)
	}
	defer client.Close()
	session, err := client.NewSession()
	if err != nil {
		h.Fatal(err)
	}
	defer session.Close()
	out, err := session.StdoutPipe()
	if err != nil {
		h.Fatal(err)
	}
	if err := session.Start("trap 'echo heard' USR1; echo ready; while :; do sleep 100 & wait $!; done"); err != nil {
		h.Fatal(err)
	}
	screen := newScreen(out)
	screen.until(h.T, "ready")
	for _, sig := range []ssh.Signal{"NONE", ssh.SIGUSR1} {
		if err := session.Signal(sig); err != nil {
			h.Fatal(err)
		}
	}
	screen.until(h.T, "heard")
	if err := session.Signal(ssh.SIGTERM); err != nil {
		h.Fatal(err)
	}
	if ended := (*ssh.ExitError)(nil); !errors.As(session.Wait(), &ended) || ended.ExitStatus() != 128+15 {
		h.Errorf("a command that was sent TERM ended with %v", ended)
	}
}

// terminal uses a pty: its size, a resize, and a terminal that people share.
func (h *sshHome) terminal(host, agent string) {
	h.Helper()
	ssh := h.command("ssh", "-t", host)
	ssh.Env = append(os.Environ(), "TERM=vt220")
	at, err := pty.StartWithSize(ssh, &pty.Winsize{Cols: 101, Rows: 31})
	if err != nil {
		h.Fatal(err)
	}
	defer at.Close()
	screen := newScreen(at)
	fmt.Fprintf(at, "stty size; echo $TERM\r")
	screen.until(h.T, "31 101\r\nvt220\r\n")
	if err := pty.Setsize(at, &pty.Winsize{Cols: 77, Rows: 22}); err != nil {
		h.Fatal(err)
	}
	fmt.Fprintf(at, "until [ \"$(stty size)\" = '22 77' ]; do :; done; echo re''sized\r")
	screen.until(h.T, "resized")
	fmt.Fprintf(at, "exit 5\r")
	for range screen.news { // to its end
	}
	if err := ssh.Wait(); ssh.ProcessState.ExitCode() != 5 {
		h.Errorf("the terminal ended with %v", err)
	}

	shared, err := pty.Start(h.command("ssh", "-t", host, "attach", "main"))
	if err != nil {
		h.Fatal(err)
	}
	defer shared.Close()
	fmt.Fprintf(shared, "echo sha''red\r")
	newScreen(shared).until(h.T, "shared")
	all, err := h.in.client.Terminals(h.Context(), errand.AgentID(agent))
	if err != nil || len(all.Items) != 1 || all.Items[0].Name != "main" {
		h.Errorf("the machine's terminals are %+v, %v", all, err)
	}
}

func (h *sshHome) files(host string) {
	h.Helper()
	dir := h.TempDir()
	local := func(name string) string { return filepath.Join(dir, name) }
	big := make([]byte, 8<<20)
	rand.Read(big)
	if err := os.WriteFile(local("up"), big, 0o640); err != nil {
		h.Fatal(err)
	}
	h.must("scp", "-p", local("up"), host+":up")
	h.must("scp", host+":up", local("down"))
	if back, err := os.ReadFile(local("down")); err != nil || !bytes.Equal(back, big) {
		h.Errorf("a file came back from scp with %d bytes of %d, %v", len(back), len(big), err)
	}
	if out := h.must("ssh", host, "stat -c %a up && rm up"); out != "640\n" {
		h.Errorf("after scp -p the file's mode is %q", out)
	}
	if out, complaints, code := h.run(strings.NewReader("mkdir sub\ncd sub\nput "+local("up")+" a\nrename a b\nls\nget b "+local("b")+"\nrm b\ncd ..\nrmdir sub\n"), "sftp", "-b", "-", host); code != 0 || !strings.Contains(out, "\nb ") {
		h.Errorf("sftp gave %q, %q, %d", out, complaints, code)
	}
	if err := os.MkdirAll(local("tree/deep"), 0o755); err != nil {
		h.Fatal(err)
	}
	if err := os.WriteFile(local("tree/deep/leaf"), []byte("green\n"), 0o644); err != nil {
		h.Fatal(err)
	}
	rsync := exec.Command("rsync", "-a", "-e", "ssh -F "+h.file("all"), local("tree")+"/", host+":tree/")
	if out, err := rsync.CombinedOutput(); err != nil {
		h.Errorf("rsync: %v %s", err, out)
	}
	if out := h.must("ssh", host, "cat tree/deep/leaf && rm -r tree"); out != "green\n" {
		h.Errorf("after rsync the leaf is %q", out)
	}
	clone := exec.Command("git", "-c", "core.sshCommand=ssh -F "+h.file("all"), "clone", "-q", host+":/workspace", local("clone"))
	if out, err := clone.CombinedOutput(); err != nil {
		h.Errorf("git clone: %v %s", err, out)
	}
	if text, err := os.ReadFile(local("clone/README")); err != nil || string(text) != "hello\n" {
		h.Errorf("the clone's README is %q, %v", text, err)
	}
}

// ports forwards one each way.
func (h *sshHome) ports(host, agent string) {
	h.Helper()
	h.must("ssh", host, "cd / && echo inside >/srv/index.html && { busybox httpd -p 127.0.0.1:3111 -h /srv || python3 -m http.server -b 127.0.0.1 -d /srv 3111 >/dev/null 2>&1 & }; until (exec 3<>/dev/tcp/127.0.0.1/3111) 2>/dev/null; do :; done")
	mine := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) { io.WriteString(w, "outside\n") }))
	defer mine.Close()
	free, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		h.Fatal(err)
	}
	here := free.Addr().String()
	free.Close()
	cmd := h.command("ssh", "-o", "ExitOnForwardFailure=yes", "-L", here+":localhost:3111", "-R", "3222:"+mine.Listener.Addr().String(), host, "echo forwarded; cat")
	cmd.Stderr = os.Stderr
	stdin, err := cmd.StdinPipe()
	if err != nil {
		h.Fatal(err)
	}
	stdout, err := cmd.StdoutPipe()
	if err != nil {
		h.Fatal(err)
	}
	if err := cmd.Start(); err != nil {
		h.Fatal(err)
	}
	if _, err := io.ReadFull(stdout, make([]byte, len("forwarded\n"))); err != nil {
		h.Fatalf("ssh with forwarded ports: %v", err)
	}
	if got := fetch(h.T, "http://"+here+"/index.html"); got != "inside\n" {
		h.Errorf("through -L came %q", got)
	}
	h.in.isHere(agent, api.Present{Doing: "port", Port: 3111})
	if out := h.must("ssh", host, "curl -s http://127.0.0.1:3222/"); out != "outside\n" {
		h.Errorf("through -R came %q", out)
	}
	stdin.Close()
	if err := cmd.Wait(); err != nil {
		h.Errorf("ssh with forwarded ports: %v", err)
	}
	// The port in the machine ends with the connection.
	if out := h.must("ssh", host, "for i in $(seq 100); do (exec 3<>/dev/tcp/127.0.0.1/3222) 2>/dev/null || { echo closed; break; }; sleep 0.05; done"); out != "closed\n" {
		h.Errorf("after its connection ended a port that it listened on is %q", out)
	}
}

// refusals come as whom the server does not know, for an agent that is not, and
// with a key that was taken away.
func (h *sshHome) refusals(host, agent string) {
	h.Helper()
	h.newKey("other")
	known, err := os.ReadFile(h.file("all"))
	if err != nil {
		h.Fatal(err)
	}
	if err := os.WriteFile(h.file("stranger"), bytes.ReplaceAll(known, []byte("id_ed25519"), []byte("other")), 0o600); err != nil {
		h.Fatal(err)
	}
	if _, complaints, code := h.run(nil, "ssh", "-F", h.file("stranger"), host, "true"); code != 255 || !strings.Contains(complaints, "Permission denied (publickey)") {
		h.Errorf("an unknown key gave %q, %d", complaints, code)
	}
	for _, name := range []string{"bc-00000000-0000-0000-0000-000000000000", "nobody"} {
		if _, complaints, code := h.run(nil, "ssh", "-l", name, "-o", "User="+name, host, "true"); code != 255 || !strings.Contains(complaints, "agent") {
			h.Errorf("as %s it said %q, %d", name, complaints, code)
		}
	}
	private, err := os.ReadFile(h.file("id_ed25519"))
	if err != nil {
		h.Fatal(err)
	}
	cmd := h.in.command("ssh-key", "add", "-")
	cmd.Stdin = bytes.NewReader(private)
	if out, err := cmd.CombinedOutput(); err == nil || !strings.Contains(string(out), "private key") {
		h.Errorf("a private key was taken: %v %s", err, out)
	}
	public, err := exec.Command("ssh-keygen", "-lf", h.file("id_ed25519.pub")).Output()
	if err != nil {
		h.Fatal(err)
	}
	fingerprint := strings.Fields(string(public))[1]
	if list := h.errand("ssh-key", "ls"); !strings.Contains(list, fingerprint) || strings.Contains(list, "never") {
		h.Errorf("the keys are\n%s", list)
	}
	h.errand("ssh-key", "rm", fingerprint)
	if _, complaints, code := h.run(nil, "ssh", host, "true"); code != 255 || !strings.Contains(complaints, "Permission denied (publickey)") {
		h.Errorf("a key that was removed gave %q, %d", complaints, code)
	}
}

// screen is what a terminal has shown.
type screen struct {
	news chan string
	seen string
}

// newScreen reads a terminal until its end.
func newScreen(r io.Reader) *screen {
	s := &screen{news: make(chan string)}
	go func() {
		defer close(s.news)
		for {
			buf := make([]byte, 4096)
			n, err := r.Read(buf)
			if n > 0 {
				s.news <- string(buf[:n])
			}
			if err != nil {
				return
			}
		}
	}()
	return s
}

// until waits until the terminal has shown something.
func (s *screen) until(t *testing.T, want string) {
	t.Helper()
	limit := time.After(30 * time.Second)
	for !strings.Contains(s.seen, want) {
		select {
		case more, ok := <-s.news:
			if s.seen += more; !ok {
				t.Fatalf("the terminal ended; it showed %q, not %q", s.seen, want)
			}
		case <-limit:
			t.Fatalf("the terminal shows %q, not %q", s.seen, want)
		}
	}
}

// TestSSHWakes walks into a machine that sleeps, and comes again after the server
// was killed: it is the same server for the client, at the same port.
func TestSSHWakes(t *testing.T) {
	t.Parallel()
	in := install(t, here(), "--idle", "1s")
	made := in.agent("Be there", remote(t, map[string]string{"README": "hello\n"}), "runc")
	in.finished(made.Agent.ID, made.Run.ID)
	h := newSSHHome(t, in)
	host := "errand-" + strings.TrimPrefix(made.Agent.ID, "bc-")[:8]
	boot := h.must("ssh", host, "cat /proc/sys/kernel/random/boot_id; readlink /proc/1/ns/pid")
	in.slept(made.Agent.ID)
	if again := h.must("ssh", host, "cat README; readlink /proc/1/ns/pid"); !strings.HasPrefix(again, "hello\n") || strings.HasSuffix(boot, strings.TrimPrefix(again, "hello\n")) {
		t.Errorf("after it slept the machine is %q, before it was %q", again, boot)
	}
	in.kill()
	in.start()
	if out := h.must("ssh", host, "cat README"); out != "hello\n" {
		t.Errorf("after the server was killed the file is %q", out)
	}
}
