package scripted

import (
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"fmt"
	"strings"

	"github.com/errand-dev/errand"
	"github.com/errand-dev/errand/llm/wire"
)

// reply is an answer with everything filled in, before any dialect.
type reply struct {
	id       string // the same for every try; dialects put their prefix before it
	model    string
	thinking string
	text     string
	calls    []replyCall
	stop     string
	usage    errand.Usage
	chunk    int
}

type replyCall struct{ id, name, args string }

// frame is one event of a stream.
type frame struct {
	kind string // its type, for Cut.Before
	text []byte // as it goes out
}

// reply fills in a turn for a request.
func (c *choice) reply(a *ask, fingerprint string) *reply {
	t := c.turn
	r := &reply{
		id: fingerprint[:24], model: a.model, stop: t.Stop, chunk: t.Chunk,
		thinking: c.fill(t.Thinking, plain), text: c.fill(t.Text, plain),
	}
	if r.chunk <= 0 {
		r.chunk = 24
	}
	output := tokens(r.thinking) + tokens(r.text)
	for i, call := range t.Calls {
		args := "{}"
		if len(call.Args) > 0 {
			args = compact(c.fill(string(call.Args), inString))
		}
		id := call.ID
		if id == "" {
			sum := sha256.Sum256(fmt.Appendf(nil, "%s %d", fingerprint, i))
			id = "call_" + hex.EncodeToString(sum[:12])
		}
		r.calls = append(r.calls, replyCall{id, call.Name, args})
		output += tokens(call.Name) + tokens(args) + 8
	}
	if r.stop == "length" {
		r.cut()
	}
	r.usage = a.usage(output)
	if t.Usage != nil {
		r.usage = errand.Usage(*t.Usage)
	}
	return r
}

// cut ends the reply in the middle of what comes last.
func (r *reply) cut() {
	if n := len(r.calls); n > 0 {
		args := r.calls[n-1].args
		r.calls[n-1].args = strings.ToValidUTF8(args[:len(args)/2], "")
		return
	}
	r.text = strings.ToValidUTF8(r.text[:len(r.text)/2], "")
}

// pieces splits s for streaming, at letters. A text of any length gives at
// least two, so that no client can rely on one.
func (r *reply) pieces(s string) []string {
	letters := []rune(s)
	size := min(r.chunk, max(1, (len(letters)+1)/2))
	var out []string
	for len(letters) > 0 {
		n := min(size, len(letters))
		out = append(out, string(letters[:n]))
		letters = letters[n:]
	}
	return out
}

// compact takes the space out of a JSON text.
func compact(s string) string {
	var v json.RawMessage
	if json.Unmarshal([]byte(s), &v) != nil {
		return s
	}
	b, err := wire.Encode(v)
	if err != nil {
		return s
	}
	return string(b)
}

// seal gives the mark by which a dialect knows its own thinking again.
func seal(text string) string {
	sum := sha256.Sum256([]byte("scripted thinking: " + text))
	return hex.EncodeToString(sum[:])
}

// must encodes what cannot fail to encode: plain structs and maps of ours.
func must(v any) []byte {
	b, err := wire.Encode(v)
	if err != nil {
		panic(err)
	}
	return b
}
