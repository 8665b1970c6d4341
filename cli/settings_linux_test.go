package cli

import (
	"io"
	"net/http"
	"reflect"
	"testing"

	"github.com/spf13/pflag"

	"github.com/errand-dev/errand/server"
)

// TestEverySettingHasAFlag sets each flag of serve to something: then each field
// of the settings that the server, the runner and serve itself have is set too.
func TestEverySettingHasAFlag(t *testing.T) {
	var s serveFlags
	f := pflag.NewFlagSet("serve", pflag.ContinueOnError)
	s.flags(f)
	given := map[string]string{"engine": "runc", "disk-quota": "1G", "log": "debug", "memory": "1G", "disk": "1G"}
	anything := map[string]string{"string": "x", "int": "7", "int64": "7", "float64": "7", "duration": "7m", "stringSlice": "example.com"}
	f.VisitAll(func(flag *pflag.Flag) {
		value, ok := given[flag.Name]
		if !ok {
			value = anything[flag.Value.Type()]
		}
		if err := f.Set(flag.Name, value); err != nil {
			t.Fatal(err)
		}
	})
	o, err := s.parse(io.Discard)
	if err != nil {
		t.Fatal(err)
	}
	settings, err := defaults(o)
	if err != nil {
		t.Fatal(err)
	}
	for _, options := range []any{o, o.MachineOptions, o.Limits, o.WorkOptions, settings, (&assembly{}).serverOptions(o, http.NotFoundHandler(), nil, nil, "x", server.SSH{Address: "x"}, "x")} {
		v := reflect.ValueOf(options)
		for i := range v.NumField() {
			field := v.Type().Field(i)
			if field.Type.Kind() == reflect.Pointer && field.Type.Elem().Kind() == reflect.Struct {
				continue // a part, not a setting
			}
			if v.Field(i).IsZero() {
				t.Errorf("no flag of serve sets %s.%s", v.Type(), field.Name)
			}
		}
	}
}

// TestSettingsThatCannotBe wants serve to say which flag is wrong.
func TestSettingsThatCannotBe(t *testing.T) {
	for _, args := range [][]string{
		{"--egress-allow", "http://example.com/"}, {"--egress-deny", "*.*"}, {"--branch-prefix", "a..b/"}, {"--max-turns", "-1"}, {"--run-limit", "-1s"},
	} {
		var s serveFlags
		f := pflag.NewFlagSet("serve", pflag.ContinueOnError)
		s.flags(f)
		if err := f.Parse(args); err != nil {
			t.Fatal(err)
		}
		o, err := s.parse(io.Discard)
		if err == nil {
			_, err = defaults(o)
		}
		if err == nil {
			t.Errorf("%v was taken", args)
		}
	}
}
