package file

import (
	"fmt"
	"strconv"
	"strings"

	"github.com/tailscale/hujson"
)

func (r *reader) ports(at spot, v hujson.Value) error {
	array, ok := v.Value.(*hujson.Array)
	if ok {
		for i, element := range array.Elements {
			r.port(spot{v, i}, element)
		}
		return nil
	}
	if _, isPort := portNumber(v); !isPort && v.Value.Kind() != '{' {
		r.omit(r.warn(v.StartOffset, `"ports" is an array; this is %s and was left out.`, kindOf(v)), at)
		return nil
	}
	r.wrap(r.warn(v.StartOffset, `"ports" is an array; this was understood as its one entry.`), v, "[", "]")
	r.port(at, v)
	return nil
}

// port reads one port. at is the entry to omit where it is none.
func (r *reader) port(at spot, v hujson.Value) {
	object, ok := v.Value.(*hujson.Object)
	if !ok {
		n, isPort := portNumber(v)
		if !isPort {
			r.noPort(at, v)
			return
		}
		r.write(r.warn(v.StartOffset, `A port is an object; this was understood as { "port": %d }.`, n), v, fmt.Sprintf(`{ "port": %d }`, n))
		r.env.Ports = append(r.env.Ports, Port{Port: n})
		return
	}
	var p Port
	for i := range r.members(v, nameOf) {
		m := object.Members[i]
		switch name := nameOf(m); name {
		case "port":
			n, isPort := portNumber(m.Value)
			if isPort && m.Value.Value.Kind() != '0' {
				r.write(r.warn(m.Value.StartOffset, "A port is a number; this was understood as %d.", n), m.Value, strconv.Itoa(n))
			}
			p.Port = n
		case "name":
			p.Name, _ = r.text(name, spot{v, i}, m.Value)
		default:
			r.omit(r.warn(m.Name.StartOffset, "%q is not a key of a port; it has no effect.", clip(name)), spot{v, i})
		}
	}
	if p.Port == 0 {
		r.noPort(at, v)
		return
	}
	r.env.Ports = append(r.env.Ports, p)
}

func (r *reader) noPort(at spot, v hujson.Value) {
	text := ""
	if literal, ok := v.Value.(hujson.Literal); ok && literal.Kind() != 'n' {
		text = " (" + clip(literal.String()) + ")"
	}
	r.omit(r.warn(v.StartOffset, "A port is a number from 1 to 65535; this entry%s was left out.", text), at)
}

// portNumber reads a port written as a number or a string; of "8080:80" it is
// the first. It is 0 and false for what is none.
func portNumber(v hujson.Value) (int, bool) {
	literal, ok := v.Value.(hujson.Literal)
	if !ok {
		return 0, false
	}
	text, _, _ := strings.Cut(strings.TrimSpace(literal.String()), ":")
	n, err := strconv.Atoi(strings.TrimSuffix(text, "/tcp"))
	if err != nil || n < 1 || n > 65535 {
		return 0, false
	}
	return n, true
}
