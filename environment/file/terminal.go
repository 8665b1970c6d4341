package file

import (
	"cmp"
	"fmt"
	"strings"
	"unicode"

	"github.com/tailscale/hujson"
)

// terminals reads the array of terminals, in which an inner array groups those
// that share a window.
func (r *reader) terminals(v hujson.Value) error {
	r.env.Terminals = nil
	switch composite := v.Value.(type) {
	case *hujson.Array:
		window := 0
		for _, element := range composite.Elements {
			before := len(r.env.Terminals)
			if err := r.terminalGroup(element, window, 0); err != nil {
				return err
			}
			if len(r.env.Terminals) > before {
				window++
			}
		}
	case *hujson.Object:
		if err := r.terminalObject(v, composite); err != nil {
			return err
		}
	default:
		if text, ok := literalText(v); ok && !isNothing(v) {
			r.warn(v.StartOffset, `"terminals" is an array; %q was understood as the command of its one terminal.`, clip(text))
			r.env.Terminals = []Terminal{{Command: text}}
			break
		}
		if !isNothing(v) {
			return r.refuse(v.StartOffset, `"terminals" is an array, [{ "name": "dev", "command": "npm run dev" }]; this is %s.`, kindOf(v))
		}
		r.warn(v.StartOffset, `"terminals" is an array; %s was understood as none.`, kindOf(v))
	}
	return r.nameTerminals(v.StartOffset)
}

// terminalObject reads terminals that are one object: a single terminal, or a
// command for each name.
func (r *reader) terminalObject(v hujson.Value, object *hujson.Object) error {
	for _, m := range object.Members {
		if fold(m.Name.Value.(hujson.Literal).String()) == "command" {
			r.warn(v.StartOffset, `"terminals" is an array; the object was understood as its one terminal.`)
			return r.terminalGroup(v, 0, 0)
		}
	}
	r.warn(v.StartOffset, `"terminals" is an array; each key of the object was understood as a terminal's name.`)
	for i, m := range r.members(object) {
		before := len(r.env.Terminals)
		if err := r.terminalGroup(m.Value, i, 0); err != nil {
			return err
		}
		for j := before; j < len(r.env.Terminals); j++ {
			if r.env.Terminals[j].Name == "" {
				r.env.Terminals[j].Name = m.Name.Value.(hujson.Literal).String()
			}
		}
	}
	return nil
}

// terminalGroup reads a terminal, or an array of terminals that share a window.
func (r *reader) terminalGroup(v hujson.Value, window, depth int) error {
	switch composite := v.Value.(type) {
	case *hujson.Object:
		return r.terminal(v, composite, window)
	case *hujson.Array:
		if depth > 0 {
			r.warn(v.StartOffset, "Arrays of terminals go one deep; this one was understood as part of its outer one.")
		}
		for _, element := range composite.Elements {
			if err := r.terminalGroup(element, window, depth+1); err != nil {
				return err
			}
		}
		return nil
	}
	if text, ok := literalText(v); ok && strings.TrimSpace(text) != "" {
		r.warn(v.StartOffset, "A terminal is an object; %q was understood as its command.", clip(text))
		r.env.Terminals = append(r.env.Terminals, Terminal{Command: text, Window: window})
		return nil
	}
	r.warn(v.StartOffset, `A terminal is an object, { "name": "dev", "command": "npm run dev" }; this is %s and was left out.`, kindOf(v))
	return nil
}

// terminalKeys gives the key of a terminal that each spelling means.
var terminalKeys = map[string]string{
	"name": "name", "title": "name", "label": "name",
	"command": "command", "cmd": "command", "run": "command",
	"description": "description",
}

func (r *reader) terminal(v hujson.Value, object *hujson.Object, window int) error {
	t := Terminal{Window: window}
	seen := false
	for _, m := range r.members(object) {
		name := m.Name.Value.(hujson.Literal).String()
		meant := terminalKeys[fold(name)]
		switch meant {
		case "name":
			t.Name, _ = r.text(name, m.Value)
		case "command":
			seen = true
			if err := r.command(name, m.Value, &t.Command); err != nil {
				return err
			}
		case "description":
			t.Description, _ = r.text(name, m.Value)
		default:
			r.warn(m.Name.StartOffset, "%q is not a key of a terminal; it has no effect.", clip(name))
			continue
		}
		if name != meant {
			r.warn(m.Name.StartOffset, "%q is not a key of a terminal; it was understood as %q.", clip(name), meant)
		}
	}
	if !seen {
		r.warn(v.StartOffset, "This terminal has no command; it was understood as a shell.")
	}
	r.env.Terminals = append(r.env.Terminals, t)
	return nil
}

// nameTerminals gives every terminal a name of its own.
func (r *reader) nameTerminals(offset int) error {
	taken := map[string]bool{StartTerminal: true}
	for i := range r.env.Terminals {
		t := &r.env.Terminals[i]
		wanted := cmp.Or(plainName(t.Name), fmt.Sprintf("terminal-%d", i+1))
		name := wanted
		for n := 2; taken[name]; n++ {
			name = fmt.Sprintf("%s-%d", wanted, n)
		}
		if name != wanted {
			r.warn(offset, "There is more than one terminal named %q; number %d was named %q.", clip(wanted), i+1, clip(name))
		}
		t.Name, taken[name] = name, true
	}
	return nil
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

// StartTerminal is the name of the terminal in which start runs.
const StartTerminal = "start"

func (r *reader) ports(v hujson.Value) error {
	array, ok := v.Value.(*hujson.Array)
	if !ok {
		if _, isPort := portNumber(v); !isPort && v.Value.Kind() != '{' {
			r.warn(v.StartOffset, `"ports" is an array; this is %s and was left out.`, kindOf(v))
			return nil
		}
		r.warn(v.StartOffset, `"ports" is an array; this was understood as its one entry.`)
		array = &hujson.Array{Elements: []hujson.Value{v}}
	}
	for _, element := range array.Elements {
		r.port(element)
	}
	return nil
}

func (r *reader) port(v hujson.Value) {
	object, ok := v.Value.(*hujson.Object)
	if !ok {
		n, isPort := portNumber(v)
		if !isPort {
			r.warn(v.StartOffset, "A port is a number from 1 to 65535; this entry was left out.")
			return
		}
		r.warn(v.StartOffset, `A port is an object; this was understood as { "port": %d }.`, n)
		r.env.Ports = append(r.env.Ports, Port{Port: n})
		return
	}
	var p Port
	for _, m := range r.members(object) {
		switch name := m.Name.Value.(hujson.Literal).String(); name {
		case "port":
			p.Port, ok = portNumber(m.Value)
			if ok && m.Value.Value.Kind() != '0' {
				r.warn(m.Value.StartOffset, "A port is a number; this was understood as %d.", p.Port)
			}
		case "name":
			p.Name, _ = r.text(name, m.Value)
		default:
			r.warn(m.Name.StartOffset, "%q is not a key of a port; it has no effect.", clip(name))
		}
	}
	if !ok || p.Port == 0 {
		r.warn(v.StartOffset, "A port is a number from 1 to 65535; this entry was left out.")
		return
	}
	r.env.Ports = append(r.env.Ports, p)
}
