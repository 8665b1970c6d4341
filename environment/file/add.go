package file

import (
	"fmt"
	"slices"
	"strings"

	"github.com/tailscale/hujson"

	"github.com/errand-dev/errand"
)

// AddPorts gives the text of an environment file with more ports in it, and
// leaves all else as it stands, comments too. Ports that the file has already
// are not added. An error is Parse's, or says that the text is not one that can
// be added to.
func AddPorts(file, text string, ports ...int) (string, error) {
	e, _, err := Parse(file, []byte(text))
	if err != nil {
		return "", err
	}
	var added []string
	for _, port := range ports {
		if !slices.ContainsFunc(e.Ports, func(p Port) bool { return p.Port == port }) {
			added = append(added, fmt.Sprintf(`{ "port": %d }`, port))
		}
	}
	if len(added) == 0 {
		return text, nil
	}
	strict := errand.Errorf(errand.Invalid, "environment_invalid", "The ports cannot be added to %s as it is written. Correct it first: errand env check --fix", file)
	top, err := hujson.Parse([]byte(text))
	object, ok := top.Value.(*hujson.Object)
	if err != nil || !ok {
		return "", strict
	}
	list := strings.Join(added, ", ")
	offset, piece := insertion(text, top, list)
	for _, m := range object.Members {
		array, isArray := m.Value.Value.(*hujson.Array)
		if nameOf(m) != "ports" || !isArray {
			continue
		}
		offset, piece = m.Value.StartOffset+1, list
		if n := len(array.Elements); n > 0 {
			offset, piece = array.Elements[n-1].EndOffset, ", "+list
		}
	}
	text = text[:offset] + piece + text[offset:]
	after, _, err := Parse(file, []byte(text))
	if err != nil || len(after.Ports) != len(e.Ports)+len(added) {
		return "", strict
	}
	return text, nil
}

// insertion gives where a member of a list of ports goes into an object that has
// none, and how it is written there: on a line of its own, as the last member is.
func insertion(text string, top hujson.Value, list string) (offset int, piece string) {
	object := top.Value.(*hujson.Object)
	member := `"ports": [` + list + `]`
	n := len(object.Members)
	if n == 0 {
		return top.StartOffset + 1, member
	}
	last := object.Members[n-1]
	lead := " "
	if at := strings.LastIndexByte(text[:last.Name.StartOffset], '\n'); at >= 0 {
		lead = text[at:last.Name.StartOffset]
		if strings.TrimSpace(lead) != "" {
			lead = " "
		}
	}
	return last.Value.EndOffset, "," + lead + member
}
