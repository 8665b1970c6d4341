package setup

import (
	"context"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"time"
)

// hostDirs are where programs stand that the image "host" has too.
var hostDirs = []string{"/usr/local/sbin", "/usr/local/bin", "/usr/sbin", "/usr/bin", "/sbin", "/bin", "/usr/local/go/bin", "/usr/local/cargo/bin", "/opt/bin"}

// known are the programs that a survey asks about, with what makes them tell
// their version; "" is not worth asking.
var known = map[string]string{
	"node": "--version", "npm": "", "pnpm": "", "yarn": "", "bun": "--version", "deno": "--version", "go": "version",
	"python3": "--version", "uv": "", "poetry": "", "pipenv": "", "cargo": "--version", "ruby": "--version", "bundle": "",
	"php": "--version", "composer": "", "java": "-version", "mvn": "", "gradle": "", "elixir": "", "mix": "", "dotnet": "--version", "git": "", "make": "",
}

var versionIn = regexp.MustCompile(`[0-9]+(\.[0-9]+)+`)

// HostPrograms gives the programs that machines on the image "host" have, with
// their versions. It starts those that tell theirs, which takes a moment.
func HostPrograms(ctx context.Context) map[string]string {
	found := map[string]string{}
	for name, ask := range known {
		for _, dir := range hostDirs {
			path := filepath.Join(dir, name)
			if st, err := os.Stat(path); err != nil || !st.Mode().IsRegular() || st.Mode()&0o111 == 0 {
				continue
			}
			found[name] = ""
			if ask != "" {
				found[name] = versionOf(ctx, path, ask)
			}
			break
		}
	}
	return found
}

// versionOf gives what a program says of its version, "" where it says nothing.
func versionOf(ctx context.Context, path, ask string) string {
	ctx, cancel := context.WithTimeout(ctx, 3*time.Second)
	defer cancel()
	cmd := exec.CommandContext(ctx, path, ask)
	cmd.Dir, cmd.Env = "/", []string{"PATH=/usr/local/bin:/usr/bin:/bin", "HOME=/nonexistent", "GOTOOLCHAIN=local"}
	out, err := cmd.CombinedOutput()
	if err != nil {
		return ""
	}
	return versionIn.FindString(string(out))
}
