package main_test

import (
	"encoding/json"
	"os"
	"os/exec"
	"strings"
	"testing"

	"github.com/errand-dev/errand/api"
)

// TestSSHCertificates walks into a machine with certificates that ssh-keygen has
// signed.
func TestSSHCertificates(t *testing.T) {
	t.Parallel()
	in := install(t, here())
	made := in.agent("Be there", remote(t, map[string]string{"README": "hello\n"}), "runc")
	in.finished(made.Agent.ID, made.Run.ID)
	h := newSSHHome(t, in)
	host := "errand-" + strings.TrimPrefix(made.Agent.ID, "bc-")[:8]
	for _, name := range []string{"ca", "unknown", "visitor"} {
		h.newKey(name)
	}
	h.errand("ssh-key", "add", "--authority", "--principal", "ada", "--principal", "ada@example.com", h.file("ca.pub"))
	var keys []api.SSHKey
	if err := json.Unmarshal([]byte(h.errand("ssh-key", "ls", "--json")), &keys); err != nil || len(keys) != 2 || strings.Join(keys[1].Principals, " ") != "ada ada@example.com" {
		t.Fatalf("the keys are %+v, %v", keys, err)
	}

	h.sign("ca", "-n", "ada@example.com", "-V", "+5m")
	if out, complaints, code := h.visit(host, "echo in"); code != 0 || out != "in\n" {
		t.Errorf("with a certificate: %d %s%s", code, out, complaints)
	}
	h.sign("ca", "-n", "ada", "-O", "source-address=127.0.0.0/8", "-O", "clear")
	if out, complaints, code := h.visit(host, "echo in"); code != 0 || out != "in\n" {
		t.Errorf("from where it may: %d %s%s", code, out, complaints)
	}
	if _, complaints, code := h.visit("-W", "127.0.0.1:1", host); code == 0 || !strings.Contains(complaints, "does not permit forwarded ports") {
		t.Errorf("a port without permission: %d %s", code, complaints)
	}
	if _, complaints, code := h.visit("-R", "3999:127.0.0.1:1", "-o", "ExitOnForwardFailure=yes", host, "true"); code == 0 || !strings.Contains(complaints, "remote port forwarding failed") {
		t.Errorf("a port back without permission: %d %s", code, complaints)
	}
	if out, complaints, _ := h.visit("-tt", host, "tty"); strings.Contains(out, "/dev/") || !strings.Contains(complaints, "PTY allocation request failed") {
		t.Errorf("a terminal without permission: %s%s", out, complaints)
	}

	for what, how := range map[string][]string{
		"for somebody else":       {"ca", "-n", "grace"},
		"for nobody":              {"ca"},
		"that is over":            {"ca", "-n", "ada", "-V", "-2h:-1h"},
		"that is not yet":         {"ca", "-n", "ada", "-V", "+1h:+2h"},
		"of a host":               {"ca", "-n", "ada", "-h"},
		"that forces a command":   {"ca", "-n", "ada", "-O", "force-command=id"},
		"for another address":     {"ca", "-n", "ada", "-O", "source-address=192.0.2.0/24"},
		"of an unknown authority": {"unknown", "-n", "ada"},
		"that a plain key signed": {"id_ed25519", "-n", "ada"},
	} {
		h.sign(how[0], how[1:]...)
		if out, complaints, code := h.visit(host, "echo in"); code != 255 || !strings.Contains(complaints, "Permission denied") {
			t.Errorf("a certificate %s: %d %s%s", what, code, out, complaints)
		}
	}
	if err := os.Remove(h.file("visitor-cert.pub")); err != nil {
		t.Fatal(err)
	}
	if err := os.Rename(h.file("ca"), h.file("visitor")); err != nil {
		t.Fatal(err)
	}
	if out, complaints, code := h.visit(host, "echo in"); code != 255 {
		t.Errorf("the authority's own key: %d %s%s", code, out, complaints)
	}
	if err := os.Rename(h.file("visitor"), h.file("ca")); err != nil {
		t.Fatal(err)
	}
	h.newKey("other")
	for _, end := range []string{"", ".pub"} {
		if err := os.Rename(h.file("other"+end), h.file("visitor"+end)); err != nil {
			t.Fatal(err)
		}
	}

	h.sign("ca", "-n", "ada")
	if _, complaints, code := h.visit(host, "true"); code != 0 {
		t.Errorf("again: %d %s", code, complaints)
	}
	h.errand("ssh-key", "rm", keys[1].ID)
	if out, complaints, code := h.visit(host, "echo in"); code != 255 {
		t.Errorf("after the authority was removed: %d %s%s", code, out, complaints)
	}
}

// sign makes the visitor's certificate.
func (h *sshHome) sign(authority string, options ...string) {
	h.Helper()
	args := append([]string{"-q", "-s", h.file(authority), "-I", "visitor"}, options...)
	if out, err := exec.Command("ssh-keygen", append(args, h.file("visitor.pub"))...).CombinedOutput(); err != nil {
		h.Fatalf("%v %s", err, out)
	}
}

// visit runs ssh with the visitor's key and certificate alone.
func (h *sshHome) visit(args ...string) (stdout, stderr string, code int) {
	h.Helper()
	return h.ends(exec.Command("ssh", append([]string{"-F", h.file("errand"), "-o", "BatchMode=yes", "-o", "IdentitiesOnly=yes", "-i", h.file("visitor")}, args...)...), nil)
}
