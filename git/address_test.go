package git

import (
	"strings"
	"testing"

	"github.com/errand-dev/errand"
)

func TestSplit(t *testing.T) {
	tests := []struct {
		raw, url string
		cred     Credential
	}{
		{"/srv/x.git", "/srv/x.git", Credential{}},
		{"/srv//a/../x.git/", "/srv/x.git", Credential{}},
		{"/srv/with space", "/srv/with space", Credential{}},
		{"file:///srv/x", "file:///srv/x", Credential{}},
		{"https://GitHub.com/Owner/Name.git", "https://github.com/Owner/Name.git", Credential{}},
		{" https://github.com/o/n/ ", "https://github.com/o/n", Credential{}},
		{"https://bob:pw@host:8443/o/n", "https://host:8443/o/n", Credential{User: "bob", Password: "pw"}},
		{"https://ghp_token@host/o/n", "https://host/o/n", Credential{Password: "ghp_token"}},
		{"HTTP://host/o#readme", "http://host/o", Credential{}},
		{"https://host/gr%C3%B6%C3%9Fe/x%20y", "https://host/gr%C3%B6%C3%9Fe/x%20y", Credential{}},
		{"ssh://git@Host:22/o/n.git", "ssh://git@host:22/o/n.git", Credential{}},
		{"ssh://git:pw@host/o", "ssh://git@host/o", Credential{User: "git", Password: "pw"}},
		{"git@GitHub.com:o/n.git", "git@github.com:o/n.git", Credential{}},
		{"git@host:/abs/n.git/", "git@host:/abs/n.git", Credential{}},
		{"git@[::1]:o/n", "git@[::1]:o/n", Credential{}},
	}
	for _, tt := range tests {
		url, cred, err := Split(tt.raw)
		if url != tt.url || cred != tt.cred || err != nil {
			t.Errorf("Split(%q) = %q, %+v, %v; want %q, %+v", tt.raw, url, cred, err, tt.url, tt.cred)
		}
		if again, err := Clean(url); again != url || err != nil {
			t.Errorf("Clean(%q) = %q, %v: not the same again", url, again, err)
		}
	}
}

func TestCleanRefuses(t *testing.T) {
	for _, raw := range []string{
		"", " ", "x", "./x", "../x", "~/x", "srv/x", "-x", "--upload-pack=touch /tmp/x", "C:\\x", "host:path",
		"ext::sh -c touch% /tmp/x", "fd::3", "git://host/x", "ftp://host/x", "rsync://host/x", "transport-helper://x",
		"https://", "https:///x", "https://host", "https://host/", "ssh://-oProxyCommand=x/y", "ssh://-oProxy@host/y",
		"file://host/x", "file://x", "-oProxyCommand=x@host:y", "git@host:-x", "git@-host:x", "git@host:", "git@host::x",
		"https://host/a\nb", "/srv/\x00x", "https://bob:sesame@ho st/x", "https://bob:sesame@host:port/x", "/" + strings.Repeat("x", 3000),
	} {
		got, err := Clean(raw)
		if errand.KindOf(err) != errand.Invalid {
			t.Errorf("Clean(%q) = %q, %v", raw, got, err)
		} else if strings.Contains(err.Error(), "sesame") {
			t.Errorf("Clean(%q) tells the password: %v", raw, err)
		}
	}
}

func TestSlug(t *testing.T) {
	for text, want := range map[string]string{
		"Fix the failing test in add.go":    "fix-the-failing-test-in-add-go",
		"Fix x!":                            "fix-x",
		"\n\n  # Größe ändern, bitte\nmore": "groesse-aendern-bitte",
		"日本語":                               "change",
		"日本語\nsecond line":                  "second-line",
		"":                                  "change",
		"Don't panic":                       "dont-panic",
		"one two three four five six seven eight nine":    "one-two-three-four-five-six-seven-eight",
		strings.Repeat("x", 60):                           strings.Repeat("x", 40),
		"$(rm -rf /); `ls` && a..b@{c}~^:?*[\\ .lock ///": "rm-rf-ls-a-b-c-lock",
	} {
		if got := Slug(text); got != want {
			t.Errorf("Slug(%q) = %q, want %q", text, got, want)
		}
	}
}

func TestBranchName(t *testing.T) {
	seen := map[string]bool{}
	for _, prefix := range []string{"", "errand", "cursor/", "a b"} {
		name := BranchName(prefix, "Fix it")
		if !validRef(name) || seen[name] || !strings.Contains(name, "/fix-it-") || len(name) != strings.LastIndexByte(name, '-')+5 {
			t.Errorf("BranchName(%q) = %q", prefix, name)
		}
		seen[name] = true
	}
}

func FuzzClean(f *testing.F) {
	for _, s := range []string{"/srv/x", "https://u:p@h/x", "git@h:x", "ssh://h/x", "file:///x"} {
		f.Add(s)
	}
	f.Fuzz(func(t *testing.T, raw string) {
		url, err := Clean(raw)
		if err != nil {
			return
		}
		if again, err := Clean(url); again != url || err != nil {
			t.Errorf("Clean(%q) = %q, then %q, %v", raw, url, again, err)
		}
		if strings.HasPrefix(url, "-") || strings.Contains(url, "::") && !strings.HasPrefix(url, "/") && !strings.Contains(url, "[") && !strings.Contains(url, "://") {
			t.Errorf("Clean(%q) = %q", raw, url)
		}
	})
}
