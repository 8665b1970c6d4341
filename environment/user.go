package environment

import (
	"bufio"
	"bytes"
	"context"
	"errors"
	"fmt"
	"io/fs"
	"regexp"
	"strconv"
	"strings"

	"github.com/errand-dev/errand"
	"github.com/errand-dev/errand/machine"
)

var numericUser = regexp.MustCompile(`^[0-9]+(:[0-9]+)?$`)

// checkUser holds that the environment's user is in the machine: the one that
// the file names, or else the one that the image is for. Where the machine
// stands on another image than the file asks for, a user who is missing is part
// of that difference and root takes the place.
func (w *work) checkUser(ctx context.Context) error {
	if r, ok := w.machine.(machine.Reporter); ok && w.env.User == "" {
		w.env.User = plainUser(r.Report().User)
	}
	user := w.env.User
	if user == "" || numericUser.MatchString(user) {
		return nil
	}
	data, _, err := w.line.ReadFile(ctx, "/", "etc/passwd", 0, 1<<20)
	if err != nil && !errors.Is(err, fs.ErrNotExist) {
		return fmt.Errorf("reading the machine's users: %w", err)
	}
	people, found := users(data, user)
	if found {
		return nil
	}
	if len(w.baseNotes) > 0 {
		w.env.User = ""
		w.baseNotes = append(w.baseNotes, fmt.Sprintf("The user %s is not in that image; root is used.", clip(user)))
		return nil
	}
	return errand.Errorf(errand.Invalid, "user_not_found", "The environment's user %q is not in the image %s. Its users are %s; name one of these, or make the user in the image.", clip(user), w.image, strings.Join(people, ", "))
}

// plainUser gives an image's user as machines take it: a name without its group,
// or numbers; "" for root.
func plainUser(user string) string {
	name, _, _ := strings.Cut(user, ":")
	switch {
	case name == "root", name == "0":
		return ""
	case numericUser.MatchString(user):
		return user
	}
	return name
}

// users gives root and the people of a passwd file, and whether it has name.
func users(passwd []byte, name string) (people []string, found bool) {
	lines := bufio.NewScanner(bytes.NewReader(passwd))
	for lines.Scan() {
		fields := strings.Split(lines.Text(), ":")
		if len(fields) < 3 {
			continue
		}
		found = found || fields[0] == name
		uid, err := strconv.Atoi(fields[2])
		if err == nil && (uid == 0 || uid >= 1000 && uid < 65534) && len(people) < 20 {
			people = append(people, clip(fields[0]))
		}
	}
	return people, found
}
