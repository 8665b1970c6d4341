package file

import (
	"cmp"
	"fmt"
	"strings"
	"unicode"

	"github.com/tailscale/hujson"
)

// StartTerminal is the name of the terminal in which start runs.
const StartTerminal = "start"

// terminalSpot is where a terminal was read.
type terminalSpot struct {
	object hujson.Value // no value where it was no object
	name   hujson.Value // no value where it had none
}

// terminals reads the array of terminals, in which an inner array groups those
// that share a window.
func (r *reader) terminals(v hujson.Value) error {
	switch composite := v.Value.(type) {
	case *hujson.Array:
		if err := r.terminalArray(v, composite); err != nil {
			return err
		}
	case *hujson.Object:
		return r.terminalObject(v, composite)
	default:
		text, ok := literalText(v)
		switch {
		case ok && !isNothing(v):
			f := r.warn(v.StartOffset, `"terminals" is an array; %q was understood as the command of its one terminal.`, clip(text))
			r.wrap(f, v, `[{ "command": `, " }]")
			r.put(Terminal{Command: text}, terminalSpot{})
		case isNothing(v):
			r.write(r.warn(v.StartOffset, `"terminals" is an array; %s was understood as none.`, kindOf(v)), v, "[]")
		default:
			return r.refuse(v.StartOffset, `"terminals" is an array, [{ "name": "dev", "command": "npm run dev" }]; this is %s.`, kindOf(v))
		}
	}
	r.nameTerminals()
	return nil
}

func (r *reader) terminalArray(v hujson.Value, array *hujson.Array) error {
	window := 0
	for i, element := range array.Elements {
		before := len(r.env.Terminals)
		if err := r.terminalGroup(spot{v, i}, element, window, 0); err != nil {
			return err
		}
		if len(r.env.Terminals) > before {
			window++
		}
	}
	return nil
}

// put adds a terminal.
func (r *reader) put(t Terminal, at terminalSpot) {
	r.env.Terminals = append(r.env.Terminals, t)
	r.spots = append(r.spots, at)
}

// terminalObject reads terminals that are one object: a single terminal, or a
// command for each name.
func (r *reader) terminalObject(v hujson.Value, object *hujson.Object) error {
	for _, m := range object.Members {
		if fold(nameOf(m)) == "command" {
			r.wrap(r.warn(v.StartOffset, `"terminals" is an array; the object was understood as its one terminal.`), v, "[", "]")
			if err := r.terminal(v, 0); err != nil {
				return err
			}
			r.nameTerminals()
			return nil
		}
	}
	f := r.warn(v.StartOffset, `"terminals" is an array; each key of the object was understood as a terminal's name.`)
	window := 0
	for i := range r.members(v, nameOf) {
		before := len(r.env.Terminals)
		if err := r.terminalGroup(spot{v, i}, object.Members[i].Value, window, 0); err != nil {
			return err
		}
		for j := before; j < len(r.env.Terminals); j++ {
			window = r.env.Terminals[j].Window + 1
			if r.env.Terminals[j].Name == "" {
				r.env.Terminals[j].Name = nameOf(object.Members[i])
			}
		}
	}
	r.nameTerminals()
	r.write(f, v, writeTerminals(r.env.Terminals))
	return nil
}

// terminalGroup reads a terminal, or an array of terminals that share a window.
func (r *reader) terminalGroup(at spot, v hujson.Value, window, depth int) error {
	switch composite := v.Value.(type) {
	case *hujson.Object:
		return r.terminal(v, window)
	case *hujson.Array:
		before := len(r.env.Terminals)
		for i, element := range composite.Elements {
			if err := r.terminalGroup(spot{v, i}, element, window, depth+1); err != nil {
				return err
			}
		}
		if depth > 0 {
			f := r.warn(v.StartOffset, "Arrays of terminals go one deep; this one was understood as part of its outer one.")
			if len(r.env.Terminals) == before {
				r.omit(f, at)
				return nil
			}
			r.replace(f, v.StartOffset, v.StartOffset+1, "")
			r.replace(f, v.EndOffset-1, v.EndOffset, "")
		}
		return nil
	}
	if text, ok := literalText(v); ok && strings.TrimSpace(text) != "" {
		f := r.warn(v.StartOffset, "A terminal is an object; %q was understood as its command.", clip(text))
		r.wrap(f, v, `{ "command": `, " }")
		r.put(Terminal{Command: text, Window: window}, terminalSpot{})
		return nil
	}
	r.omit(r.warn(v.StartOffset, `A terminal is an object, { "name": "dev", "command": "npm run dev" }; this is %s and was left out.`, kindOf(v)), at)
	return nil
}

// terminalKeys gives the key of a terminal that each spelling means.
var terminalKeys = map[string]string{
	"name": "name", "title": "name", "label": "name",
	"command": "command", "cmd": "command", "run": "command",
	"description": "description",
}

func (r *reader) terminal(v hujson.Value, window int) error {
	t, at := Terminal{Window: window}, terminalSpot{object: v}
	seen := false
	known := func(m hujson.ObjectMember) string { return terminalKeys[fold(nameOf(m))] }
	for i, key := range r.members(v, known) {
		m, place := v.Value.(*hujson.Object).Members[i], spot{v, i}
		name := nameOf(m)
		if key == "" {
			r.omit(r.warn(m.Name.StartOffset, "%q is not a key of a terminal; it has no effect.%s", clip(name), meant(name, "name", "command", "description")), place)
			continue
		}
		if name != key {
			r.rename(r.warn(m.Name.StartOffset, "%q is not a key of a terminal; it was understood as %q.", clip(name), key), m, key)
		}
		switch key {
		case "name":
			if text, ok := r.text(name, place, m.Value); ok {
				t.Name, at.name = text, m.Value
			}
		case "command":
			seen = true
			if err := r.command(name, m.Value, &t.Command); err != nil {
				return err
			}
		case "description":
			t.Description, _ = r.text(name, place, m.Value)
		}
	}
	if !seen {
		r.add(r.warn(v.StartOffset, "This terminal has no command; it was understood as a shell."), v, `"command": ""`)
	}
	r.put(t, at)
	return nil
}

// nameTerminals gives every terminal a name of its own.
func (r *reader) nameTerminals() {
	taken := map[string]bool{StartTerminal: true}
	for i := range r.env.Terminals {
		t, at := &r.env.Terminals[i], r.spots[i]
		wanted := cmp.Or(plainName(t.Name), fmt.Sprintf("terminal-%d", i+1))
		name := wanted
		for n := 2; taken[name]; n++ {
			name = fmt.Sprintf("%s-%d", wanted, n)
		}
		if name != wanted {
			r.renameTerminal(i, wanted, name, at)
		}
		t.Name, taken[name] = name, true
	}
}

// renameTerminal tells that a terminal has got another name than its own.
func (r *reader) renameTerminal(i int, wanted, name string, at terminalSpot) {
	text := fmt.Sprintf("There is more than one terminal named %q; number %d was named %q.", clip(wanted), i+1, clip(name))
	if wanted == StartTerminal {
		text = fmt.Sprintf("%q is the terminal in which start runs; number %d was named %q.", wanted, i+1, clip(name))
	}
	switch {
	case at.name.Value != nil:
		r.write(r.warn(at.name.StartOffset, "%s", text), at.name, quote(name))
	case at.object.Value != nil:
		r.add(r.warn(at.object.StartOffset, "%s", text), at.object, `"name": `+quote(name))
	default:
		r.warn(r.places["terminals"].StartOffset, "%s", text)
	}
}

// plainName makes a terminal's name one that tmux and people can deal with.
func plainName(name string) string {
	name = strings.Map(func(r rune) rune {
		if !unicode.IsPrint(r) {
			return -1
		}
		return r
	}, name)
	const most = 48 // bytes, so that a number fits behind it
	if len(name) > most {
		name = strings.ToValidUTF8(name[:most], "")
	}
	return strings.TrimSpace(name)
}

// writeTerminals gives terminals as a file has them.
func writeTerminals(all []Terminal) string {
	var windows []string
	for i := 0; i < len(all); {
		var panes []string
		for window := all[i].Window; i < len(all) && all[i].Window == window; i++ {
			pane := `{ "name": ` + quote(all[i].Name) + `, "command": ` + quote(all[i].Command)
			if all[i].Description != "" {
				pane += `, "description": ` + quote(all[i].Description)
			}
			panes = append(panes, pane+" }")
		}
		text := strings.Join(panes, ", ")
		if len(panes) > 1 {
			text = "[" + text + "]"
		}
		windows = append(windows, text)
	}
	return "[" + strings.Join(windows, ", ") + "]"
}
