package image

import (
	"io/fs"
	"os"
	"path/filepath"
	"strings"
	"testing"
)

func TestHost(t *testing.T) {
	t.Parallel()
	s := newStore(t, t.TempDir())
	img := get(t, s, Host)
	again := get(t, s, "")
	if img.Reference != Host || len(img.Layers) != 1 || again.Layers[0] != img.Layers[0] {
		t.Fatalf("host: %+v, then %+v", img, again)
	}
	root := img.Layers[0]
	for _, name := range []string{"etc/passwd", "etc/group", "tmp", "proc", "var/tmp", "var/cache/apt/archives/partial"} {
		if _, err := os.Stat(filepath.Join(root, name)); err != nil {
			t.Errorf("%s is missing", name)
		}
	}
	for _, name := range []string{"root/.ssh", "root/.npmrc", "root/.docker", "etc/ssh", "etc/apt/auth.conf.d", "etc/ssl/private", "etc/gitconfig", "etc/environment.d"} {
		if _, err := os.Lstat(filepath.Join(root, name)); err == nil {
			t.Errorf("%s was taken from the host", name)
		}
	}
	shadow, err := os.ReadFile(filepath.Join(root, "etc/shadow"))
	if err != nil {
		t.Fatal(err)
	}
	for line := range strings.Lines(string(shadow)) {
		if f := strings.Split(line, ":"); len(f) < 2 || f[1] != "*" {
			t.Errorf("etc/shadow has a password: %q", line)
		}
	}
	home, err := os.ReadDir(filepath.Join(root, "home"))
	if err != nil || len(home) > 0 {
		t.Errorf("home holds %v, %v", home, err)
	}
	err = filepath.WalkDir(root, func(path string, d fs.DirEntry, err error) error {
		if err == nil && d.Type().IsRegular() && strings.HasPrefix(path, filepath.Join(root, "etc")) {
			if data, err := os.ReadFile(path); err == nil && holdsSecret(data) {
				t.Errorf("%s looks like it holds a secret", path)
			}
		}
		return err
	})
	if err != nil {
		t.Error(err)
	}
}

func TestHoldsSecret(t *testing.T) {
	t.Parallel()
	tests := []struct {
		text string
		want bool
	}{
		{"cafile=/etc/ssl/certs/ca-certificates.crt\n", false},
		{"//registry.example/:_authToken=npm_abc\n", true},
		{"_auth = Zm9vOmJhcg==\n", true},
		{"index-url = https://joe:pass@pypi.example/simple\n", true},
		{"deb https://deb.debian.org/debian bookworm main\n", false},
		{"URIs: https://user:secret@apt.example/\n", true},
		{"extraheader = Authorization: Basic abc\n", true},
		{"password: hunter2\n", true},
		{"password\trequisite pam_deny.so\n", false},
		{"-----BEGIN RSA PRIVATE KEY-----\n", true},
		{"-----BEGIN CERTIFICATE-----\n", false},
	}
	for _, test := range tests {
		if got := holdsSecret([]byte(test.text)); got != test.want {
			t.Errorf("%q: %v, want %v", test.text, got, test.want)
		}
	}
}
