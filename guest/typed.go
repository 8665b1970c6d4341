package guest

import (
	"bytes"
	"context"
	"crypto/rand"
	"fmt"
	"strconv"
	"strings"
)

// Typed is a command that somebody typed into a shell.
type Typed struct {
	Terminal string // "" where the shell is in no terminal of ours
	Command  string // as the shell's history has it, perhaps of several lines
}

const (
	// typedFiles are where shells tell what was typed into them, one for each user.
	typedFiles = "/tmp/.errand-typed."
	// maxTypedFile is how much of one is read, its end, and maxTypedRead of all
	// together, in bytes.
	maxTypedFile = 128 << 10
	maxTypedRead = 1 << 20
)

// ShellEnv are the variables by which an interactive shell tells what is typed into
// it: bash after each command, from its own history, so that what it leaves out
// there (a command after a space) is not told. Other shells tell nothing. A
// user's own PROMPT_COMMAND takes its place.
func ShellEnv(terminal string) []string {
	return []string{
		"ERRAND_TERMINAL=" + terminal,
		`PROMPT_COMMAND={ printf '\1%s\2%s\n' "$ERRAND_TERMINAL" $$; history 1; } 2>/dev/null >>"` + typedFiles + `$UID"`,
	}
}

// TypedSizes gives how much shells have told so far, in bytes by file.
func (l *Line) TypedSizes(ctx context.Context, user string) (map[string]int64, error) {
	sizes := map[string]int64{}
	err := l.readTyped(ctx, user, 0, func(name string, size int64, _ []byte) { sizes[name] = size })
	return sizes, err
}

// Typed gives what was typed since TypedSizes said since, in each file's order. It
// is what programs in the machine wrote, of which the newest is read.
func (l *Line) Typed(ctx context.Context, user string, since map[string]int64) ([]Typed, error) {
	var all []Typed
	err := l.readTyped(ctx, user, maxTypedFile, func(name string, size int64, end []byte) {
		all = append(all, parseTyped(end, since[name]-(size-int64(len(end))))...)
	})
	return all, err
}

// readTyped gives each file's size and its last bytes, at most most.
func (l *Line) readTyped(ctx context.Context, user string, most int, each func(name string, size int64, end []byte)) error {
	const script = `for f in "$1"*; do
	[ -f "$f" ] && [ ! -L "$f" ] && [ -r "$f" ] || continue
	all=$(wc -c <"$f"); n=$all; [ "$n" -gt "$2" ] && n=$2
	printf '%s %s %s\n' "${f#"$1"}" "$((all))" "$((n))"
	tail -c "$n" "$f" | head -c "$n"
done`
	c := Command{ID: "typed-" + rand.Text(), Args: []string{"sh", "-c", script, "typed", typedFiles, strconv.Itoa(most)}, User: user, Limit: tmuxLimit, Keep: maxTypedRead}
	var out bytes.Buffer
	exit, err := l.RunBounded(ctx, c, maxTypedRead, func(o Output) {
		if !o.Stderr {
			out.Write(o.Data)
		}
	})
	if err != nil {
		return err
	}
	if err := l.Forget(ctx, c.ID); err != nil {
		return err
	}
	if exit.Code != 0 && out.Len() == 0 {
		return fmt.Errorf("reading what was typed: exit code %d", exit.Code)
	}
	for out.Len() > 0 {
		head, err := out.ReadString('\n')
		f := strings.Fields(head)
		if err != nil || len(f) != 3 {
			return nil // a file shrank while it was read
		}
		size, _ := strconv.ParseInt(f[1], 10, 64)
		each(f[0], size, bytes.Clone(out.Next(number(f[2]))))
	}
	return nil
}

// parseTyped reads entries "\x01terminal\x02shell\nNUMBER COMMAND\n" and gives those
// that begin at from or later. The first of each shell is what its history had
// before; one with the number of the last is a mere Enter.
func parseTyped(text []byte, from int64) (all []Typed) {
	last := map[string]string{}
	for at := 0; at < len(text); {
		next := bytes.IndexByte(text[at+1:], 1)
		end := len(text)
		if next >= 0 {
			end = at + 1 + next
		}
		head, entry, ok := strings.Cut(string(text[at:end]), "\n")
		begins := int64(at)
		at = end
		name, shell, of := strings.Cut(strings.TrimPrefix(head, "\x01"), "\x02")
		if !ok || !of || head[0] != 1 {
			continue // the beginning is cut off, or it is not ours
		}
		n, command, _ := strings.Cut(strings.TrimLeft(entry, " "), " ")
		before, known := last[shell]
		last[shell] = n
		command = strings.TrimSpace(strings.ToValidUTF8(command, ""))
		if known && n != before && command != "" && begins >= from {
			all = append(all, Typed{Terminal: strings.ToValidUTF8(name, ""), Command: command})
		}
	}
	return all
}
