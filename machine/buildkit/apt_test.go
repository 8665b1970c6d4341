//go:build linux

package buildkit

import (
	"os"
	"os/exec"
	"slices"
	"strings"
	"testing"

	"github.com/errand-dev/errand"
	"github.com/errand-dev/errand/guest/guesttest"
	"github.com/errand-dev/errand/machine/imagetest"
)

// aptBase pushes an image that has apt and what it runs, as this host has it,
// and just enough installed for a package that needs the C library.
func (w *world) aptBase() string {
	w.t.Helper()
	if _, err := exec.LookPath("apt-get"); err != nil {
		guesttest.Lacking(w.t, "this test needs a Debian: %v", err)
	}
	const keyring = "/usr/share/keyrings/debian-archive-keyring.gpg"
	release, err := exec.Command("/bin/sh", "-c", ". /etc/os-release && echo $VERSION_CODENAME").Output()
	if err != nil {
		w.t.Fatal(err)
	}
	status, err := os.ReadFile("/var/lib/dpkg/status")
	if err != nil {
		guesttest.Lacking(w.t, "this test needs a Debian: %v", err)
	}
	installed := slices.DeleteFunc(strings.Split(string(status), "\n\n"), func(paragraph string) bool {
		name, _, _ := strings.Cut(strings.TrimPrefix(paragraph, "Package: "), "\n")
		return name != "libc6" && name != "libcrypt1" && name != "libgcc-s1" && !(strings.HasPrefix(name, "gcc-") && strings.HasSuffix(name, "-base"))
	})
	files := append(imagetest.Tree(w.t, keyring, nil), imagetest.Tree(w.t, "/usr/share/dpkg", nil)...)
	files = append(files,
		imagetest.File{Name: "etc/apt/sources.list", Mode: 0o644, Data: []byte("deb [signed-by=" + keyring + "] http://deb.debian.org/debian " + strings.TrimSpace(string(release)) + " main\n")},
		imagetest.File{Name: "etc/apt/apt.conf.d/small", Mode: 0o644, Data: []byte("Acquire::Languages \"none\";\nAPT::Sandbox::User \"root\";\n")},
		imagetest.File{Name: "var/lib/dpkg/status", Mode: 0o644, Data: []byte(strings.Join(installed, "\n\n") + "\n\n")})
	for _, dir := range []string{"etc/apt/preferences.d/", "var/lib/dpkg/info/", "var/lib/dpkg/updates/", "var/lib/dpkg/triggers/", "var/lib/apt/lists/partial/",
		"var/cache/apt/archives/partial/", "var/log/apt/", "dev/", "proc/", "sys/"} {
		files = append(files, imagetest.File{Name: dir, Mode: 0o755})
	}
	programs := strings.Fields(`apt-get apt-key apt-config dpkg dpkg-deb dpkg-split dpkg-query tar rm gpgv ldconfig start-stop-daemon
		/usr/lib/apt/methods/http /usr/lib/apt/methods/gpgv /usr/lib/apt/methods/store /usr/lib/apt/methods/copy /usr/lib/apt/methods/file`)
	// The programs of the host are found before those of busybox.
	return w.base("debian", []string{"PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"}, programs, files...)
}

// TestApt installs a real package, from where it really is.
func TestApt(t *testing.T) {
	need(t, GVisor)
	w := newWorld(t)
	text := "FROM " + w.aptBase() + `
RUN --mount=type=cache,target=/var/cache/apt apt-get update && apt-get install -y --no-install-recommends hello
RUN --mount=type=cache,target=/var/cache/apt ls /var/cache/apt/archives
RUN hello -t
`
	ref, s := w.mustBuild(w.builder(GVisor), text)
	if got := s.output.String(); !strings.Contains(got, "\nhello_") || !strings.Contains(got, "hello, world\n") {
		t.Errorf("the commands said:\n%s", got)
	}
	if got := w.boot("gvisor", ref, "hello -t; ls /var/cache/apt/archives"); got != "hello, world\n" && got != "hello, world\npartial\n" {
		t.Errorf("a machine of the image says %q", got)
	}
	w.mu.Lock()
	defer w.mu.Unlock()
	if !slices.ContainsFunc(w.connections, func(c errand.Connection) bool { return c.Name == "deb.debian.org" && c.Refused == "" }) {
		t.Errorf("the connections are %+v", w.connections)
	}
}
