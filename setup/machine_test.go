package setup_test

import (
	"strings"
	"testing"

	"github.com/errand-dev/errand"
	"github.com/errand-dev/errand/guest"
	"github.com/errand-dev/errand/runner"
	"github.com/errand-dev/errand/setup"
	"github.com/errand-dev/errand/vault"
)

// TestSecretInDraft leaves a secret's value in what a draft is taken from, and
// wants it taken nowhere.
func TestSecretInDraft(t *testing.T) {
	y := withMachines(t, runner.Defaults{}, setup.Options{})
	const value = "tok-4f9a7c21d8e0b563"
	if _, _, err := y.options.Vault.Put(t.Context(), vault.UserOf(caller), "TOKEN", vault.Value{Value: value, Kind: errand.SecretRuntime}); err != nil {
		t.Fatal(err)
	}
	id := y.drafted(repository(t, map[string]string{"README": "hello\n"}), `{"install": "true"}`, "true")
	before := y.now(id)
	if _, err := y.setups.Open(t.Context(), caller, id, errand.SetupPerson, errand.Model{}); err != nil {
		t.Fatal(err)
	}
	if s := y.waits(id); s.Error != nil || s.Machine == "" {
		t.Fatalf("the setup is %s: %v\n%s", s.Status, s.Error, y.story(id))
	}
	const file = "/workspace/.errand/environment.json"
	for _, c := range []struct{ name, command, says string }{
		{"in the file", `printf '{\n"install": "login %s"}' "$TOKEN" >` + file, "environment.json in the machine has the value of a secret in line 2"},
		{"in a file that cannot be read", `printf '{"install": %s' "$TOKEN" >` + file, "has the value of a secret in line 1"},
		{"in base64", `printf '{"install": "login %s"}' "$(printf %s "$TOKEN" | base64)" >` + file, "has the value of a secret in line 1"},
		{"in the verify command", `echo '{"install": "echo"}' >` + file + `; echo "check $TOKEN" >/tmp/errand-verify`, "errand-verify in the machine has the value"},
	} {
		t.Run(c.name, func(t *testing.T) {
			var out strings.Builder
			exit, err := y.runner.Exec(t.Context(), caller, y.now(id).Machine, runner.ExecRequest{Args: []string{"sh", "-c", "test -n \"$TOKEN\" && " + c.command}}, func(o guest.Output) { out.Write(o.Data) })
			if err != nil || exit.Code != 0 {
				t.Fatalf("%v, exit code %d, %s", err, exit.Code, out.String())
			}
			_, err = y.setups.Prove(t.Context(), caller, id, true)
			if err == nil {
				t.Fatalf("it was taken: the setup is %s, with the draft %s", y.waits(id).Status, y.now(id).Draft)
			}
			if errand.AsError(err).Code != "secret_in_file" || !strings.Contains(err.Error(), c.says) || strings.Contains(err.Error(), value) {
				t.Errorf("taking it gave %v", err)
			}
			if now := y.now(id); now.Draft != before.Draft || now.Verify != before.Verify || now.Status != errand.SetupProposed {
				t.Errorf("the setup is %s, with the draft %s, verified by %q", now.Status, now.Draft, now.Verify)
			}
		})
	}
}
