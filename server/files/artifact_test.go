package files

import (
	"os"
	"path/filepath"
	"testing"
	"time"

	"github.com/errand-dev/errand"
)

func TestLinksExpire(t *testing.T) {
	file := filepath.Join(t.TempDir(), "link.key")
	links, err := OpenLinks(file)
	if err != nil {
		t.Fatal(err)
	}
	if stat, err := os.Stat(file); err != nil || stat.Mode().Perm() != 0o600 {
		t.Errorf("the key's file is %v, %v", stat, err)
	}
	agent, now := errand.NewAgentID(), time.Now()
	q := links.query(agent, "a/b", now.Add(linkFor))
	again, err := OpenLinks(file)
	if err != nil {
		t.Fatal(err)
	}
	if path, err := again.check(agent, q, now.Add(linkFor-2*time.Second)); err != nil || path != "a/b" {
		t.Errorf("just before its end: %q, %v", path, err)
	}
	if _, err := again.check(agent, q, now.Add(linkFor+time.Second)); errand.KindOf(err) != errand.Gone {
		t.Errorf("after its end: %v", err)
	}
	other, err := OpenLinks(filepath.Join(t.TempDir(), "link.key"))
	if err != nil {
		t.Fatal(err)
	}
	if _, err := other.check(agent, q, now); errand.KindOf(err) != errand.Forbidden {
		t.Errorf("with another key: %v", err)
	}
	if err := os.WriteFile(file, []byte("short"), 0o600); err != nil {
		t.Fatal(err)
	}
	if _, err := OpenLinks(file); errand.KindOf(err) != errand.Invalid {
		t.Errorf("a key that is none: %v", err)
	}
}
