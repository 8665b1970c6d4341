package image

import (
	"context"
	"crypto/sha256"
	"encoding/hex"
	"fmt"
	"os"
	"path"
	"path/filepath"
	"slices"
	"strings"
)

// hostTops are the top-level names that hold a distribution's programs. Those
// that are symbolic links (a merged /usr) stay links.
var hostTops = []string{"usr", "opt", "bin", "sbin", "lib", "lib32", "lib64", "libx32"}

// hostFiles are what the host image copies besides: the package databases, and
// the chosen handful of /etc without which programs of /usr do not find each
// other. Whatever is not readable by everyone, or looks like it holds a
// credential, is left out even here.
var hostFiles = strings.Fields(`
	etc/X11 etc/adduser.conf etc/alpine-release etc/alternatives etc/apk etc/apt etc/bash.bashrc
	etc/bash_completion.d etc/bindresvport.blacklist etc/binfmt.d etc/ca-certificates etc/ca-certificates.conf
	etc/crypto-policies etc/dbus-1 etc/debconf.conf etc/debian_version etc/default etc/deluser.conf etc/dnf
	etc/dpkg etc/ethertypes etc/fedora-release etc/fonts etc/gai.conf etc/glvnd etc/groff etc/gss etc/host.conf
	etc/init.d etc/inputrc etc/issue etc/issue.net etc/ld.so.cache etc/ld.so.conf etc/ld.so.conf.d
	etc/libaudit.conf etc/locale.alias etc/locale.conf etc/locale.gen etc/localtime etc/login.defs
	etc/lsb-release etc/magic etc/magic.mime etc/mailcap etc/manpath.config etc/maven etc/mime.types
	etc/mke2fs.conf etc/nanorc etc/netconfig etc/networks etc/npmrc etc/nsswitch.conf etc/os-release etc/pam.conf
	etc/pam.d etc/perl etc/php etc/pip.conf etc/pki etc/profile etc/profile.d etc/protocols etc/rc0.d etc/rc1.d
	etc/rc2.d etc/rc3.d etc/rc4.d etc/rc5.d etc/rc6.d etc/rcS.d etc/redhat-release etc/rmt etc/rpc etc/rpm
	etc/security etc/services etc/sgml etc/shells etc/skel etc/ssl etc/terminfo etc/timezone etc/tmpfiles.d
	etc/ucf.conf etc/update-motd.d etc/vim etc/wgetrc etc/xattr.conf etc/xdg etc/xml etc/yum.repos.d
	var/lib/apt/extended_states var/lib/ca-certificates-java var/lib/dpkg var/lib/pam var/lib/python
	var/lib/rpm var/lib/sgml-base var/lib/ucf var/lib/vim var/lib/xml-core`)

// hostGlobs are hostFiles whose names carry a version.
var hostGlobs = []string{"etc/java*", "etc/python*", "etc/openjdk*"}

// hostSkips are never copied, whatever holds them.
var hostSkips = []string{"etc/apt/auth.conf", "etc/apt/auth.conf.d", "etc/ssl/private", "etc/pki/tls/private",
	"etc/pki/entitlement", "etc/pki/consumer", "etc/security/opasswd", "var/lib/dpkg/lock", "var/lib/dpkg/lock-frontend"}

// hostDirs are made empty.
var hostDirs = []struct {
	name string
	mode os.FileMode
}{
	{"dev", 0o755}, {"proc", 0o555}, {"sys", 0o555}, {"run", 0o755}, {"tmp", 0o777 | os.ModeSticky}, {"root", 0o700},
	{"home", 0o755}, {"mnt", 0o755}, {"media", 0o755}, {"srv", 0o755}, {"boot", 0o755}, {"etc", 0o755},
	{"var", 0o755}, {"var/tmp", 0o777 | os.ModeSticky}, {"var/cache", 0o755}, {"var/cache/apt", 0o755},
	{"var/cache/apt/archives", 0o755}, {"var/cache/apt/archives/partial", 0o700}, {"var/log", 0o755},
	{"var/log/apt", 0o755}, {"var/lib", 0o755}, {"var/lib/apt", 0o755}, {"var/lib/apt/lists", 0o755},
	{"var/lib/apt/lists/partial", 0o700}, {"var/lib/dpkg", 0o755}, {"var/lib/misc", 0o755}, {"var/local", 0o755},
	{"var/mail", 0o755}, {"var/opt", 0o755}, {"var/spool", 0o755},
}

// host gives the image made of this host's own system directories. The first
// call copies a few thousand small files; later ones look at their dates only.
func (s *Store) host(ctx context.Context, progress func(string)) (Image, error) {
	s.hostMu.Lock()
	defer s.hostMu.Unlock()
	copies := hostCopies()
	version := hostPrefix + hostVersion(copies)
	unpin := s.pin(version)
	defer unpin()
	layer := s.path("layers", version)
	if !s.whole(layer) {
		progress("Reading the host's system directories for the image \"host\".")
		if err := s.makeHostLayer(ctx, layer, copies); err != nil {
			return Image{}, fmt.Errorf("making image \"host\": %w", err)
		}
	}
	if err := s.keepHost(version); err != nil {
		return Image{}, fmt.Errorf("keeping image \"host\": %w", err)
	}
	return Image{Reference: Host, Layers: []string{layer}, Trees: s.hostTrees(), Env: hostEnv(), WorkingDir: "/"}, nil
}

// hostPrefix begins the names of the host image's layers and manifests.
const hostPrefix = "host-"

// keepHost notes that the host image is now version, and forgets what it was.
func (s *Store) keepHost(version string) error {
	file := s.path("manifests", version+".json")
	if _, err := os.Stat(file); err == nil {
		touch(file)
		return nil
	}
	if err := s.Remove(Host); err != nil {
		return err
	}
	return s.keepManifest(file, manifest{Reference: Host, Layers: []string{version}})
}

// hostTrees are the host's directories that a machine sees in place. A tree
// that holds the store itself is left out: overlayfs refuses a layer inside
// another one.
func (s *Store) hostTrees() []string {
	var trees []string
	for _, top := range hostTops {
		dir := "/" + top
		if st, err := os.Lstat(dir); err != nil || !st.IsDir() || strings.HasPrefix(s.opts.Dir, dir+"/") {
			continue
		}
		trees = append(trees, dir)
	}
	return trees
}

// hostCopies lists what is there of hostFiles, relative to /, in order.
func hostCopies() []string {
	names := slices.Clone(hostFiles)
	for _, glob := range hostGlobs {
		matches, _ := filepath.Glob("/" + glob) // the patterns are well formed
		for _, m := range matches {
			names = append(names, strings.TrimPrefix(m, "/"))
		}
	}
	slices.Sort(names)
	return slices.DeleteFunc(names, func(name string) bool {
		_, err := os.Lstat("/" + name)
		return err != nil
	})
}

// hostVersion names the present state of what is copied, by dates and sizes of
// its roots and of the files that change with every installed package.
func hostVersion(copies []string) string {
	h := sha256.New()
	telling := []string{"etc/passwd", "etc/group", "etc/ssl/certs", "etc/apt/sources.list.d", "etc/apt/apt.conf.d",
		"var/lib/dpkg/status", "var/lib/dpkg/info", "usr", "opt"}
	for _, name := range slices.Concat(copies, telling, hostTops) {
		st, err := os.Lstat("/" + name)
		if err != nil {
			continue
		}
		fmt.Fprintf(h, "%s %v %d %d\n", name, st.Mode(), st.Size(), st.ModTime().UnixNano())
	}
	return hex.EncodeToString(h.Sum(nil))[:16]
}

func (s *Store) makeHostLayer(ctx context.Context, layer string, copies []string) error {
	p, err := s.newPartial()
	if err != nil {
		return err
	}
	defer p.discard()
	if err := makeHostSkeleton(p.dir); err != nil {
		return err
	}
	for _, name := range copies {
		if err := copyTree(ctx, p.dir, name); err != nil {
			return err
		}
	}
	if err := writeAccounts(p.dir); err != nil {
		return err
	}
	if err := s.keep(p, layer); err != nil {
		return err
	}
	s.syncLater(layer)
	return nil
}

// makeHostSkeleton makes the empty directories, and the links and mount points
// of the top level.
func makeHostSkeleton(root string) error {
	for _, d := range hostDirs {
		dir := filepath.Join(root, d.name)
		if err := os.Mkdir(dir, 0o755); err != nil {
			return err
		}
		if err := os.Chmod(dir, d.mode); err != nil { // Mkdir's mode is cut by the umask
			return err
		}
	}
	for _, top := range hostTops {
		st, err := os.Lstat("/" + top)
		if err != nil {
			continue
		}
		if target, err := os.Readlink("/" + top); err == nil {
			err = os.Symlink(target, filepath.Join(root, top))
			if err != nil {
				return err
			}
		} else if st.IsDir() {
			if err := os.Mkdir(filepath.Join(root, top), 0o755); err != nil {
				return err
			}
		}
	}
	for link, target := range map[string]string{"var/run": "/run", "var/lock": "/run/lock", "etc/mtab": "/proc/mounts"} {
		if err := os.Symlink(target, filepath.Join(root, link)); err != nil {
			return err
		}
	}
	return os.WriteFile(filepath.Join(root, "etc/machine-id"), nil, 0o444)
}

// hostEnv makes programs of the host find each other, and trust whom the host
// trusts: Node and Python bring certificate lists of their own otherwise.
func hostEnv() []string {
	dirs := []string{"/usr/local/sbin", "/usr/local/bin", "/usr/sbin", "/usr/bin", "/sbin", "/bin"}
	for _, extra := range []string{"/usr/local/go/bin", "/usr/local/cargo/bin", "/opt/bin"} {
		if _, err := os.Stat(extra); err == nil {
			dirs = append(dirs, extra)
		}
	}
	env := []string{"PATH=" + strings.Join(dirs, ":"), "LANG=C.UTF-8"}
	const bundle = "/etc/ssl/certs/ca-certificates.crt"
	if _, err := os.Stat(bundle); err == nil {
		for _, name := range []string{"SSL_CERT_FILE", "NODE_EXTRA_CA_CERTS", "REQUESTS_CA_BUNDLE", "PIP_CERT"} {
			env = append(env, name+"="+bundle)
		}
	}
	return env
}

func skipped(name string) bool {
	return slices.Contains(hostSkips, path.Clean(name))
}
