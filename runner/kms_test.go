package runner_test

import (
	"encoding/base64"
	"encoding/json"
	"fmt"
	"net"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"

	"github.com/errand-dev/errand"
	"github.com/errand-dev/errand/guest/guesttest"
	"github.com/errand-dev/errand/llm/scripted"
	"github.com/errand-dev/errand/runner"
	"github.com/errand-dev/errand/secret/kms"
	"github.com/errand-dev/errand/vault"
)

// transit is a Vault whose Transit engine has one key, "errand". It can be down,
// and the key lost.
type transit struct {
	t       *testing.T
	address string
	server  *httptest.Server

	mu   sync.Mutex
	lost bool
}

func newTransit(t *testing.T) *transit {
	v := &transit{t: t, address: "127.0.0.1:0"}
	v.up()
	t.Cleanup(func() { v.server.Close() })
	return v
}

// up starts it, at the address that it had before.
func (v *transit) up() {
	v.t.Helper()
	l, err := net.Listen("tcp", v.address)
	if err != nil {
		v.t.Fatal(err)
	}
	v.address = l.Addr().String()
	v.server = &httptest.Server{Listener: l, Config: &http.Server{Handler: v}}
	v.server.Start()
}

func (v *transit) lose(lost bool) {
	v.mu.Lock()
	defer v.mu.Unlock()
	v.lost = lost
}

func (v *transit) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	v.mu.Lock()
	lost := v.lost
	v.mu.Unlock()
	var in struct{ Plaintext, Ciphertext string }
	err := json.NewDecoder(r.Body).Decode(&in)
	turned := func(text string) string {
		b, decodeErr := base64.StdEncoding.DecodeString(text)
		if decodeErr != nil {
			err = decodeErr
		}
		for i := range b {
			b[i] ^= 0xff
		}
		return base64.StdEncoding.EncodeToString(b)
	}
	data := map[string]string{}
	switch r.URL.Path {
	case "/v1/transit/encrypt/errand":
		data["ciphertext"] = "vault:v1:" + turned(in.Plaintext)
	case "/v1/transit/decrypt/errand":
		data["plaintext"] = turned(strings.TrimPrefix(in.Ciphertext, "vault:v1:"))
	}
	if err != nil || lost || len(data) == 0 {
		w.WriteHeader(http.StatusBadRequest)
		fmt.Fprint(w, `{"errors": ["encryption key not found"]}`)
		return
	}
	_ = json.NewEncoder(w).Encode(map[string]any{"data": data}) // who asked may be gone
}

// TestKeyServiceAway keeps the key in a Vault, which goes down while an agent
// works, comes back, and loses the key: the agent goes on and ends well, new ones
// fail with the reason, nothing is overwritten, and with Vault back all works.
func TestKeyServiceAway(t *testing.T) {
	v := newTransit(t)
	t.Setenv("VAULT_ADDR", "http://"+v.address)
	t.Setenv("VAULT_TOKEN", "test")
	program := kms.NewProgram(guesttest.Program(t, "errand-kms"))
	t.Cleanup(func() {
		if err := program.Close(); err != nil {
			t.Error(err)
		}
	})
	h := build(t, script(
		talk("^new", command(`test "$TOKEN" = hunter2-is-long && echo has it`), &scripted.Turn{Expect: scripted.Pat("has it"), Text: "done"}),
		&scripted.Conversation{Match: scripted.Pat("work"), Turns: []*scripted.Turn{
			command(`echo begun; while [ ! -e /tmp/gate ]; do sleep 0.1; done; test "$TOKEN" = hunter2-is-long && echo goes on; echo x > x.txt`),
			{Expect: scripted.Pat("goes on"), Text: "worked"},
		}},
	), runner.Defaults{})
	h.stop()
	h.options.Vault = vault.Open(h.store, filepath.Join(h.dir, "key"), "hashivault://errand", kms.Find(map[string]kms.Opener{"": program.Open}))
	h.run()
	h.put(vault.Team, "TOKEN", "hunter2-is-long", errand.SecretRuntime)

	repo := repository(t, nil)
	worker, working := h.start(ask("work", repo))
	h.until(worker, "a command", func(e errand.Event) bool { return e.Kind == errand.EventToolCalled })
	fails := func(code string, wants ...string) (errand.AgentID, errand.RunID) {
		t.Helper()
		agent, run := h.start(ask("new", ""))
		d := h.ends(agent, run, errand.RunFailed)
		if d.Error == nil || d.Error.Code != code {
			t.Fatalf("a new agent fails with %+v, want %s", d.Error, code)
		}
		for _, want := range append(wants, "hashivault://errand") {
			if !strings.Contains(d.Error.Message, want) {
				t.Errorf("the message lacks %q: %s", want, d.Error.Message)
			}
		}
		if _, _, err := h.options.Vault.Put(t.Context(), vault.Team, "TOKEN", vault.Value{Value: "another", Kind: errand.SecretRuntime}); errand.AsError(err).Code != code {
			t.Errorf("a new value is taken with %v", err)
		}
		return agent, run
	}
	v.server.Close()
	stranded, _ := fails("kms_unavailable", v.address, "See that", "send a follow-up")
	if _, exit := h.exec(worker, "touch /tmp/gate"); exit.Code != 0 {
		t.Errorf("a command in the running machine ended with %+v", exit)
	}
	if d := h.ends(worker, working, errand.RunFinished); d.Result != "worked" || h.row(worker).Pushed == "" {
		t.Errorf("the agent that worked says %q, and pushed %q", d.Result, h.row(worker).Pushed)
	}

	v.up()
	follow, err := h.runner.FollowUp(t.Context(), caller, stranded, runner.FollowUp{Prompt: errand.Prompt{Text: "new"}})
	if err != nil {
		t.Fatal(err)
	}
	h.ends(stranded, follow.ID, errand.RunFinished)

	v.lose(true)
	fails("key_lost", "encryption key not found", "Restore it")
	v.lose(false)
	agent, run := h.start(ask("new", ""))
	h.ends(agent, run, errand.RunFinished)
	if _, err := os.Stat(filepath.Join(h.dir, "key")); err == nil {
		t.Error("a key file was made")
	}
}
