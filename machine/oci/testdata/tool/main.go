// The program of the image that tests of archives run on: it changes files in
// ways that matter to layers, and says what a file system holds.
package main

import (
	"crypto/sha256"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
	"syscall"
	"time"
)

func main() {
	switch os.Args[1] {
	case "first":
		first()
	case "second":
		second()
	case "tree":
		tree(os.Args[2:])
	}
}

func must(err error) {
	if err != nil {
		fmt.Println(err)
		os.Exit(1)
	}
}

func write(name, text string) {
	must(os.MkdirAll(filepath.Dir(name), 0o755))
	must(os.WriteFile(name, []byte(text), 0o644))
}

// first is what the lower disk holds.
func first() {
	write("/srv/kept", "kept")
	write("/srv/removed", "removed")
	write("/srv/replaced/old", "old")
	write("/srv/moved/deep/file", "deep")
	write("/srv/moved/other", "other")
	write("/srv/dir-to-file/x", "x")
	write("/srv/owned", "owned")
	must(os.Chown("/srv/owned", 1234, 5678))
	must(os.Chmod("/srv/owned", 0o4751))
	write("/srv/link-a", "several names")
	must(os.Link("/srv/link-a", "/srv/link-b"))
	must(os.Symlink("../../etc/passwd", "/srv/symlink"))
	must(syscall.Mkfifo("/srv/pipe", 0o640))
	write("/srv/with attribute", "attribute")
	if err := syscall.Setxattr("/srv/with attribute", "user.mine", []byte("a\x00b"), 0); err != nil {
		fmt.Println("no attributes:", err)
	}
	f, err := os.Create("/srv/sparse")
	must(err)
	must(f.Truncate(8 << 20))
	_, err = f.WriteAt([]byte("end"), 8<<20-3)
	must(err)
	must(f.Close())
	write("/srv/.wh.not-a-whiteout", "left out")
	must(os.Chtimes("/srv/kept", time.Unix(1, 0), time.Unix(1_600_000_000, 123456789)))
}

// second is what the upper disk changes.
func second() {
	must(os.Remove("/srv/removed"))
	must(os.Remove("/data/from-image"))
	must(os.RemoveAll("/srv/replaced"))
	write("/srv/replaced/new", "new")
	must(os.Rename("/srv/moved", "/srv/renamed"))
	must(os.Rename("/srv/renamed/deep", "/srv/renamed/deeper"))
	write("/srv/renamed/added", "added")
	must(os.Remove("/srv/renamed/other"))
	must(os.Rename("/data/tree", "/srv/tree-of-image"))
	must(os.RemoveAll("/srv/dir-to-file"))
	write("/srv/dir-to-file", "now a file")
	must(os.Chmod("/srv/kept", 0o600))
	write("/srv/"+strings.Repeat("long", 60), "a long name")
	write("/srv/späce and\nline", "odd")
}

// tree prints all that is below some directories, in order.
func tree(dirs []string) {
	names := map[uint64]string{}
	for _, dir := range dirs {
		must(filepath.WalkDir(dir, func(name string, e fs.DirEntry, err error) error {
			must(err)
			st, err := e.Info()
			must(err)
			sys := st.Sys().(*syscall.Stat_t)
			fmt.Printf("%q %v %d:%d", name, st.Mode(), sys.Uid, sys.Gid)
			switch {
			case st.Mode().IsRegular():
				data, err := os.ReadFile(name)
				must(err)
				fmt.Printf(" %d %x %d", len(data), sha256.Sum256(data), st.ModTime().UnixNano())
				if sys.Nlink > 1 {
					if names[sys.Ino] == "" {
						names[sys.Ino] = name
					}
					fmt.Printf(" is %s", names[sys.Ino])
				}
				value := make([]byte, 100)
				if n, err := syscall.Getxattr(name, "user.mine", value); err == nil {
					fmt.Printf(" user.mine=%q", value[:n])
				}
			case st.Mode()&fs.ModeSymlink != 0:
				target, err := os.Readlink(name)
				must(err)
				fmt.Printf(" to %q", target)
			}
			fmt.Println()
			return nil
		}))
	}
}
