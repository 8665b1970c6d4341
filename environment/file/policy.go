package file

import (
	"strings"

	"github.com/tailscale/hujson"
)

// The keys of this file bound what a machine may reach and an agent may use.
// What is not understood of them is refused: a guess could open what was meant
// to be closed.

// allowed reads a list of what is allowed.
func (r *reader) allowed(key string, v hujson.Value, into *[]string) error {
	*into = nil
	array, ok := v.Value.(*hujson.Array)
	if !ok {
		text, isText := literalText(v)
		if !isText {
			return r.refuse(v.StartOffset, `%q is an array of strings, as in { %q: ["…"] }; this is %s.`, key, key, kindOf(v))
		}
		r.wrap(r.warn(v.StartOffset, "%q is an array; %q was understood as its one entry.", key, clip(text)), v, "[", "]")
		*into = []string{text}
		return nil
	}
	for _, element := range array.Elements {
		text, isText := literalText(element)
		if !isText {
			return r.refuse(element.StartOffset, `%q holds strings, as in { %q: ["…"] }; this is %s.`, key, key, kindOf(element))
		}
		*into = append(*into, text)
	}
	return nil
}

func (r *reader) egressMode(v hujson.Value) error {
	text, _ := literalText(v)
	modes := []EgressMode{EgressAllowAll, EgressParentPlusSettings, EgressDefaultWithSettings, EgressNetworkSettingsOnly}
	for _, mode := range modes {
		if fold(text) != fold(string(mode)) {
			continue
		}
		if text != string(mode) {
			r.write(r.warn(v.StartOffset, "%q was understood as %q.", clip(text), mode), v, quote(string(mode)))
		}
		r.env.EgressMode = mode
		return nil
	}
	return r.refuse(v.StartOffset, `"egressMode" is one of "%s", "%s", "%s" and "%s".`, modes[0], modes[1], modes[2], modes[3])
}

func (r *reader) disableMCP(at spot, v hujson.Value) error {
	if text, isText := literalText(v); v.Value.Kind() != 't' && v.Value.Kind() != 'f' && (!isText || !strings.EqualFold(text, "true") && !strings.EqualFold(text, "false")) {
		return r.refuse(v.StartOffset, `"disableAllMcpServers" is true or false; this is %s.`, kindOf(v))
	}
	if disable := r.truth("disableAllMcpServers", at, v); disable != nil {
		r.env.MCP.DisableAll = *disable
	}
	return nil
}

func (r *reader) allowMCP(v hujson.Value) error {
	array, ok := v.Value.(*hujson.Array)
	if !ok {
		return r.refuse(v.StartOffset, `"mcpServerAllowlist" is an array, [{ "command": "…" }]; this is %s.`, kindOf(v))
	}
	for i, element := range array.Elements {
		if _, ok := element.Value.(*hujson.Object); !ok {
			r.omit(r.warn(element.StartOffset, `An allowed server is an object with a "serverUrl" or a "command"; this is %s and was left out.`, kindOf(element)), spot{v, i})
			continue
		}
		server, err := r.allowedServer(element)
		if err != nil {
			return err
		}
		if server.URL == "" && server.Command == "" {
			r.omit(r.warn(element.StartOffset, `An allowed server needs a "serverUrl" or a "command"; this entry was left out.`), spot{v, i})
			continue
		}
		r.env.MCP.Allow = append(r.env.MCP.Allow, server)
	}
	return nil
}

func (r *reader) allowedServer(v hujson.Value) (server MCPServer, err error) {
	for i := range r.members(v, nameOf) {
		m, at := v.Value.(*hujson.Object).Members[i], spot{v, i}
		switch name := nameOf(m); name {
		case "name":
			server.Name, _ = r.text(name, at, m.Value)
		case "serverUrl":
			server.URL, _ = r.text(name, at, m.Value)
		case "command":
			server.Command, _ = r.text(name, at, m.Value)
		case "toolAllowlist":
			err = r.allowed(name, m.Value, &server.Tools)
		default:
			r.omit(r.warn(m.Name.StartOffset, "%q is not a key of an allowed server; it has no effect.%s", clip(name), meant(name, "name", "serverUrl", "command", "toolAllowlist")), at)
		}
		if err != nil {
			return server, err
		}
	}
	return server, nil
}
