package inside

import (
	"errors"
	"io/fs"
	"os"
	"path"
	"strings"

	"golang.org/x/sys/unix"

	"github.com/errand-dev/errand/guest/wire"
)

// maxLinks is how many symbolic links one path may go through.
const maxLinks = 40

// physical gives the path of name without links, and refuses one that leaves
// the root or is absolute. A last link is followed only if followLast is set.
// What does not exist has no links.
//
// os.Root alone does not do: it opens directories with O_NOFOLLOW|O_DIRECTORY,
// and gVisor follows a link there all the same. So no path with a link in it
// gets that far. (Somebody in the machine who puts a link into the path between
// this look and the use can still win against us there, and see a file of their
// own machine.)
func physical(r *os.Root, name string, followLast bool) (string, error) {
	var done []string // of the path, without links
	missing := 0      // how much of done is known to lead nowhere; 0 for none
	todo := strings.Split(name, "/")
	for links := 0; len(todo) > 0; {
		element := todo[0]
		todo = todo[1:]
		switch element {
		case "", ".":
			continue
		case "..":
			if len(done) == 0 {
				return "", outside(name)
			}
			done = done[:len(done)-1]
			if len(done) < missing {
				missing = 0
			}
			continue
		}
		done = append(done, element)
		if missing > 0 {
			continue
		}
		target, err := readLink(r, path.Join(done...), len(todo) == 0 && !followLast)
		switch {
		case errors.Is(err, fs.ErrNotExist):
			missing = len(done)
			continue
		case err != nil:
			return "", err
		case target == "":
			continue
		case path.IsAbs(target):
			return "", outside(name)
		}
		if links++; links > maxLinks {
			return "", faultf(wire.CodeInvalid, "%s goes through more than %d links", name, maxLinks)
		}
		done = done[:len(done)-1]
		todo = append(strings.Split(target, "/"), todo...)
	}
	return path.Join(append([]string{"."}, done...)...), nil
}

// readLink gives where a link points, and "" for what is none, or is not to be
// followed. What is below a file does not exist.
func readLink(r *os.Root, name string, leave bool) (string, error) {
	stat, err := r.Lstat(name)
	switch {
	case errors.Is(err, unix.ENOTDIR):
		return "", fs.ErrNotExist
	case err != nil:
		return "", err
	case stat.Mode()&fs.ModeSymlink == 0 || leave:
		return "", nil
	}
	return r.Readlink(name)
}

// Physical gives the path of name, which came with a request, in r: without links,
// and nowhere outside. A last link is followed only if followLast is set. Errors
// travel as Fault gives them.
func Physical(r *os.Root, name string, followLast bool) (string, error) {
	name, err := relative(name)
	if err != nil {
		return "", err
	}
	return physical(r, name, followLast)
}

func outside(name string) error {
	return faultf(wire.CodeOutside, "%s goes through a link that leaves the root or is absolute", name)
}
