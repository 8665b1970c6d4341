// Package scripted is a language model that follows a script. It speaks the
// providers' real protocols over HTTP (Anthropic's Messages, OpenAI's Responses
// and Chat Completions, in a stream and in one piece), so that everything from
// the wire up is tested and shown without a provider.
//
// Three ideas. It keeps nothing: which turn of the script a request gets is read
// off the conversation in the request, so it works for any number of agents at
// once and after either side was killed. It is strict where the providers are:
// a tool call without its result, a forged signature, a fifth cache mark are
// refused. And it fails on command: errors, cut streams, silence, garbage, each
// for as many tries as the script says; counting those tries is its only memory.
//
// docs/scripted-model.md is the manual of the script. It is no model of how
// well a model works, and it has no business in front of untrusted callers.
package scripted

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"slices"
	"strings"
	"sync"
	"time"

	"github.com/errand-dev/errand/llm"
)

const (
	maxBody = 64 << 20 // bytes of a request
	kept    = 1000     // requests on record
	epoch   = 1767225600
)

// Server answers from a script. It is safe for use by many goroutines.
type Server struct {
	script *Script
	mux    *http.ServeMux

	mu    sync.Mutex
	count int            // of all requests so far
	log   []Record       // the last ones
	tries map[string]int // by fingerprint, where the turn has faults
}

// Record is one request as the server took it.
type Record struct {
	Number  int         `json:"number"` // from 1
	Time    time.Time   `json:"time"`
	Path    string      `json:"path"`
	Dialect llm.Dialect `json:"dialect,omitempty"`
	Model   string      `json:"model,omitempty"`
	Key     string      `json:"key,omitempty"` // the client's name for the conversation
	Stream  bool        `json:"stream,omitempty"`
	// Start names the conversation or follow-up, Turn counts in it from 1, and
	// Try counts the tries of the same request from 1 where the turn has faults.
	Start string `json:"start,omitempty"`
	Turn  int    `json:"turn,omitempty"`
	Try   int    `json:"try,omitempty"`
	// Outcome is "answer", "fault", "mismatch", "invalid" or "denied".
	Outcome string          `json:"outcome"`
	Note    string          `json:"note,omitempty"` // what was wrong, or which fault
	Body    json.RawMessage `json:"body,omitempty"`
}

// New returns a server for a script. It panics when the script cannot be used;
// what Parse returned always can.
func New(script *Script) *Server {
	if err := script.Check(); err != nil {
		panic(err)
	}
	s := &Server{script: script, mux: http.NewServeMux(), tries: map[string]int{}}
	s.mux.HandleFunc("POST /v1/messages", s.answer(messages))
	s.mux.HandleFunc("POST /v1/messages/count_tokens", s.countTokens)
	s.mux.HandleFunc("POST /v1/responses", s.answer(responses))
	s.mux.HandleFunc("POST /v1/chat/completions", s.answer(chat))
	s.mux.HandleFunc("GET /v1/models", s.models)
	s.mux.HandleFunc("GET /requests", s.requests)
	s.mux.HandleFunc("/", func(w http.ResponseWriter, r *http.Request) {
		dialectOf(r).refuse(w, &refusal{status: 404, message: fmt.Sprintf("there is nothing at %s %s", r.Method, r.URL.Path)})
	})
	return s
}

// Serve serves script on listener until ctx ends, then closes it and returns
// nil once every answer under way has been broken off. Other errors are the
// listener's.
func Serve(ctx context.Context, listener net.Listener, script *Script) error {
	if err := script.Check(); err != nil {
		return errors.Join(err, listener.Close())
	}
	server := &http.Server{
		Handler:           New(script),
		ReadHeaderTimeout: 10 * time.Second,
		BaseContext:       func(net.Listener) context.Context { return ctx },
	}
	ended := make(chan error, 1)
	go func() { ended <- server.Serve(listener) }()
	select {
	case err := <-ended:
		return fmt.Errorf("serving the scripted model: %w", err)
	case <-ctx.Done():
	}
	// Answers end with ctx; the wait is for those between two writes.
	last, cancel := context.WithTimeout(context.WithoutCancel(ctx), 5*time.Second)
	defer cancel()
	if server.Shutdown(last) != nil {
		server.Close()
	}
	<-ended
	return nil
}

// ServeHTTP answers one request.
func (s *Server) ServeHTTP(w http.ResponseWriter, r *http.Request) { s.mux.ServeHTTP(w, r) }

// Requests returns the requests taken so far, oldest first; of very many, the
// last 1000. The caller may keep the slice.
func (s *Server) Requests() []Record {
	s.mu.Lock()
	defer s.mu.Unlock()
	return slices.Clone(s.log)
}

// record notes a request.
func (s *Server) record(rec Record) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.count++
	rec.Number, rec.Time = s.count, time.Now().UTC()
	if len(s.log) == kept {
		s.log = slices.Delete(s.log, 0, 1)
	}
	s.log = append(s.log, rec)
}

// try counts a try of a request and gives how many came before it.
func (s *Server) try(fingerprint string) int {
	s.mu.Lock()
	defer s.mu.Unlock()
	n := s.tries[fingerprint]
	s.tries[fingerprint]++
	return n
}

// dialect is one form of asking and answering.
type dialect struct {
	read   func(body []byte) (*ask, *refusal)
	whole  func(*reply) []byte
	frames func(*reply, *ask) []frame
	fault  func(kind, message string) []byte
	kinds  map[int]string // error types by status
	// inStream wraps an error for a stream.
	inStream func(kind, message string) []byte
}

var messages = &dialect{
	read: readMessages, whole: messagesWhole, frames: messagesFrames, fault: messagesError,
	kinds: map[int]string{
		401: "authentication_error", 402: "billing_error", 403: "permission_error", 404: "not_found_error",
		413: "request_too_large", 429: "rate_limit_error", 500: "api_error", 504: "timeout_error", 529: "overloaded_error",
	},
	inStream: func(kind, message string) []byte {
		return fmt.Appendf(nil, "event: error\ndata: %s\n\n", messagesError(kind, message))
	},
}

var openaiKinds = map[int]string{
	401: "invalid_api_key", 404: "model_not_found", 429: "rate_limit_exceeded", 500: "server_error", 503: "server_is_overloaded",
}

var responses = &dialect{
	read: readResponses, whole: responsesWhole, frames: responsesFrames, fault: openaiError, kinds: openaiKinds,
	inStream: func(kind, message string) []byte {
		return fmt.Appendf(nil, "event: error\ndata: %s\n\n", must(map[string]any{"type": "error", "code": kind, "message": message, "param": nil}))
	},
}

var chat = &dialect{
	read: readChat, whole: chatWhole, frames: chatFrames, fault: openaiError, kinds: openaiKinds,
	inStream: func(kind, message string) []byte {
		return fmt.Appendf(nil, "data: %s\n\n", openaiError(kind, message))
	},
}

// dialectOf guesses the dialect of a request that is not for a model.
func dialectOf(r *http.Request) *dialect {
	if r.Header.Get("Anthropic-Version") != "" {
		return messages
	}
	return responses
}

// refuse answers with an error in the dialect's form.
func (d *dialect) refuse(w http.ResponseWriter, no *refusal) {
	kind := no.kind
	if kind == "" {
		kind = d.kinds[no.status]
	}
	if kind == "" && no.status >= 500 {
		kind = d.kinds[500]
	}
	if kind == "" {
		kind = "invalid_request_error"
	}
	w.Header().Set("Content-Type", "application/json")
	w.WriteHeader(no.status)
	w.Write(d.fault(kind, no.message))
}

// enter lets a request in by its key and reads its body.
func (s *Server) enter(w http.ResponseWriter, r *http.Request) ([]byte, *refusal) {
	key := r.Header.Get("X-Api-Key")
	if key == "" {
		key = strings.TrimSpace(strings.TrimPrefix(r.Header.Get("Authorization"), "Bearer"))
	}
	if key == "" || s.script.Key != "" && key != s.script.Key {
		return nil, &refusal{status: 401, message: "the key is missing or wrong", outcome: "denied"}
	}
	body, err := io.ReadAll(http.MaxBytesReader(w, r.Body, maxBody))
	if err != nil {
		return nil, &refusal{status: 413, message: fmt.Sprintf("reading the request body: %v", err), outcome: "invalid"}
	}
	return body, nil
}

// answer is the endpoint of a dialect.
func (s *Server) answer(d *dialect) http.HandlerFunc {
	return func(w http.ResponseWriter, r *http.Request) {
		rec := Record{Path: r.URL.Path}
		body, no := s.enter(w, r)
		var a *ask
		var c *choice
		if no == nil {
			a, c, no = s.understand(d, body, &rec)
		}
		if no != nil {
			rec.Outcome, rec.Note = no.outcome, no.message
			s.record(rec)
			d.refuse(w, no)
			return
		}
		fingerprint := a.fingerprint()
		var fault *Fault
		if len(c.turn.Faults) > 0 {
			n := s.try(fingerprint)
			rec.Try, fault = n+1, c.turn.fault(n)
		}
		rec.Outcome = "answer"
		if fault != nil {
			rec.Outcome, rec.Note = "fault", string(must(fault))
		}
		s.record(rec)
		if !pause(r.Context(), c.turn.Delay) {
			return
		}
		d.play(w, r, &performance{ask: a, choice: c, reply: c.reply(a, fingerprint), fault: fault})
	}
}

// understand reads a request and finds its turn.
func (s *Server) understand(d *dialect, body []byte, rec *Record) (*ask, *choice, *refusal) {
	if json.Valid(body) {
		rec.Body = body
	}
	a, no := d.read(body)
	if no != nil {
		return nil, nil, no
	}
	rec.Dialect, rec.Model, rec.Key, rec.Stream = a.dialect, a.model, a.key, a.stream
	if len(s.script.Models) > 0 && !slices.Contains(s.script.Models, a.model) {
		return nil, nil, &refusal{status: 404, message: fmt.Sprintf("model: %s is not one of the script's models", a.model), outcome: "invalid"}
	}
	if no := a.check(); no != nil {
		return nil, nil, no
	}
	c, no := s.script.choose(a)
	if no != nil {
		return nil, nil, no
	}
	rec.Start, rec.Turn = c.start.name, c.number
	return a, c, nil
}

// countTokens answers Anthropic's question of how long a prompt is.
func (s *Server) countTokens(w http.ResponseWriter, r *http.Request) {
	body, no := s.enter(w, r)
	var a *ask
	if no == nil {
		a, no = readMessages(body)
	}
	if no != nil {
		messages.refuse(w, no)
		return
	}
	u := a.usage(0)
	writeJSON(w, map[string]any{"input_tokens": u.Total()})
}

// models lists the script's models, in a form that serves both providers'
// clients.
func (s *Server) models(w http.ResponseWriter, r *http.Request) {
	if _, no := s.enter(w, r); no != nil {
		dialectOf(r).refuse(w, no)
		return
	}
	names := s.script.Models
	if len(names) == 0 {
		names = []string{"scripted"}
	}
	var data []any
	for _, name := range names {
		data = append(data, map[string]any{
			"id": name, "type": "model", "display_name": name, "created_at": "2026-01-01T00:00:00Z",
			"object": "model", "created": epoch, "owned_by": "scripted",
		})
	}
	writeJSON(w, map[string]any{"object": "list", "data": data, "has_more": false, "first_id": names[0], "last_id": names[len(names)-1]})
}

// requests lists what was asked so far. It wants no key: it is for scripts that
// look over the server's shoulder.
func (s *Server) requests(w http.ResponseWriter, _ *http.Request) {
	writeJSON(w, map[string]any{"requests": s.Requests()})
}

func writeJSON(w http.ResponseWriter, v any) {
	w.Header().Set("Content-Type", "application/json")
	w.Write(must(v))
}
