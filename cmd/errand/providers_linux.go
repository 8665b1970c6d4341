package main

import (
	"cmp"
	"context"
	"errors"
	"net/url"
	"path/filepath"
	"time"

	"github.com/errand-dev/errand"
	"github.com/errand-dev/errand/cli"
	"github.com/errand-dev/errand/llm"
	"github.com/errand-dev/errand/llm/anthropic"
	"github.com/errand-dev/errand/llm/openai"
	"github.com/errand-dev/errand/machine"
	"github.com/errand-dev/errand/machine/buildkit"
	"github.com/errand-dev/errand/machine/buildkit/solver"
	"github.com/errand-dev/errand/machine/oci"
	"github.com/errand-dev/errand/runner"
	"github.com/errand-dev/errand/web"
)

// wiring is all that this program can use, each named once.
func wiring() cli.Wiring {
	return cli.Wiring{
		Panel: web.Handler(),
		Drivers: map[string]func(cli.DriverOptions) (machine.Driver, error){
			"oci": newOCI,
		},
		Providers: func(getenv func(string) string) map[string]runner.Provider {
			return map[string]runner.Provider{
				"anthropic": newAnthropic(getenv("ANTHROPIC_API_KEY"), getenv("ANTHROPIC_BASE_URL"), getenv("ERRAND_MODEL_WAIT")),
				"openai":    newOpenAI(getenv("OPENAI_API_KEY"), getenv("OPENAI_BASE_URL"), getenv("ERRAND_MODEL_WAIT")),
			}
		},
	}
}

// hostDriver makes machines and images on this host.
type hostDriver struct {
	*oci.Driver
	*buildkit.Builder
}

func newOCI(o cli.DriverOptions) (machine.Driver, error) {
	dir := filepath.Clean(o.Dir)
	guest := o.Program("errand-guest")
	if guest == "" {
		return nil, errand.Errorf(errand.Unavailable, "no_guest", "errand-guest, which runs in each machine, is not beside errand nor in PATH. Run make build, and start errand from the bin directory that it makes.")
	}
	machines, err := oci.New(oci.Options{
		Dir: dir, RunDir: o.RunDir, Images: o.Images,
		Guest: guest, Runsc: o.Program("runsc"), Runc: o.Program("runc"),
		DefaultEngine: o.Engine, Limits: o.Limits, Log: o.Log,
	})
	if err != nil {
		return nil, err
	}
	images, err := buildkit.New(buildkit.Options{
		Dir: filepath.Join(dir, "dockerfiles"), Images: o.Images,
		Daemon: o.Program("buildkitd"), Client: solver.Program(o.Program("errand-buildkit")), Runsc: o.Program("runsc"), Runc: o.Program("runc"),
		Engine: o.Engine, Limits: o.Limits, Log: o.Log,
	})
	if err != nil {
		return nil, errors.Join(err, machines.Close())
	}
	return hostDriver{machines, images}, nil
}

// Close ends what runs to build images, and waits for what goes on behind.
// Machines stay.
func (d hostDriver) Close() error { return errors.Join(d.Builder.Close(), d.Driver.Close()) }

// Inspect says what works on this host.
func (d hostDriver) Inspect(ctx context.Context) []machine.Finding {
	return append(d.Driver.Inspect(ctx), d.Builder.Inspect(ctx)...)
}

// firstByte gives how long a model's server may be silent before an answer begins,
// and what must be set where wait says no such time. Without wait a provider's own
// address has the bound of every silence (0), and a server of one's own, which may
// read a long prompt on a slow machine and send nothing meanwhile, ten minutes.
func firstByte(wait, base string) (_ time.Duration, missing string) {
	if wait == "" && base == "" {
		return 0, ""
	}
	d, err := time.ParseDuration(cmp.Or(wait, "10m"))
	if err != nil || d <= 0 {
		return 0, "ERRAND_MODEL_WAIT to a time such as 20m"
	}
	return d, ""
}

// providerSettings are the two variables that set up a provider. A credential in
// the address is not shown.
func providerSettings(prefix, key, base string) []runner.ProviderSetting {
	shown := ""
	if u, err := url.Parse(base); err == nil {
		shown = u.Redacted()
	}
	return []runner.ProviderSetting{{Name: prefix + "_API_KEY", Set: key != ""}, {Name: prefix + "_BASE_URL", Set: base != "", Value: shown}}
}

func newAnthropic(key, base, wait string) runner.Provider {
	first, missing := firstByte(wait, base)
	p := runner.Provider{Missing: missing, Settings: providerSettings("ANTHROPIC", key, base), New: func(e llm.Entry) llm.Model {
		return anthropic.New(anthropic.Options{Key: key, BaseURL: base, First: first, Model: e})
	}}
	if key == "" {
		p.Missing = "ANTHROPIC_API_KEY"
	}
	return p
}

// newOpenAI speaks to OpenAI, or to any server that speaks its dialect: then its
// own list says which models there are.
func newOpenAI(key, base, wait string) runner.Provider {
	first, missing := firstByte(wait, base)
	p := runner.Provider{
		Missing: missing, Settings: providerSettings("OPENAI", key, base),
		New: func(e llm.Entry) llm.Model {
			o := openai.Options{Key: key, BaseURL: base, First: first, Model: e}
			if e.Dialect == llm.Responses {
				return openai.NewResponses(o)
			}
			return openai.NewChat(o)
		},
		Unlisted: llm.Entry{Provider: "openai", Dialect: llm.Chat, Window: 128_000, MaxOutput: 16_384},
	}
	if base != "" {
		p.List = func(ctx context.Context) ([]string, error) {
			return openai.List(ctx, openai.Options{Key: key, BaseURL: base})
		}
	}
	if cmp.Or(key, base) == "" {
		p.Missing = "OPENAI_API_KEY"
	}
	return p
}
