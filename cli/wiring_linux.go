package cli

import (
	"bufio"
	"cmp"
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"log/slog"
	"net"
	"net/http"
	"net/netip"
	"net/url"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"sync"

	"github.com/errand-dev/errand"
	"github.com/errand-dev/errand/auth"
	"github.com/errand-dev/errand/egress"
	"github.com/errand-dev/errand/git"
	"github.com/errand-dev/errand/image"
	"github.com/errand-dev/errand/journal"
	"github.com/errand-dev/errand/llm"
	"github.com/errand-dev/errand/machine"
	"github.com/errand-dev/errand/runner"
	"github.com/errand-dev/errand/secret"
	"github.com/errand-dev/errand/secret/kms"
	"github.com/errand-dev/errand/server"
	"github.com/errand-dev/errand/server/files"
	"github.com/errand-dev/errand/setup"
	"github.com/errand-dev/errand/store"
	"github.com/errand-dev/errand/vault"
)

// Wiring is what cmd/errand puts into the commands that are a server: which
// drivers and providers there are.
type Wiring struct {
	// Drivers make machines, by the name that handles carry. "oci" is taken.
	Drivers map[string]func(DriverOptions) (machine.Driver, error)
	// Providers are those of models, set up from the process' environment.
	Providers func(getenv func(string) string) map[string]runner.Provider
	// Panel serves the panel's pages; nil: there are none.
	Panel http.Handler
}

// DriverOptions are what any driver needs of its host.
type DriverOptions struct {
	Dir    string       // for disks and records; the driver's own
	RunDir string       // for mounts and namespaces; the driver's own; "" is the driver's choice
	Images *image.Store //
	Engine string       // of machines that name none; "" is the driver's choice
	// Limits of machines and builds that name none; what is zero is the driver's
	// choice.
	Limits errand.Limits
	// Program finds a program that is shipped beside errand, or in PATH; "" if
	// it is in neither.
	Program func(name string) string
	Log     *slog.Logger
}

// assembly is a server's parts, open.
type assembly struct {
	store    *store.Store
	redactor *secret.Redactor
	runner   *runner.Runner
	vault    *vault.Vault
	setups   *setup.Setups
	log      *slog.Logger
	closers  []func() error
}

// Close closes the parts, the newest first.
func (a *assembly) Close() error {
	var errs []error
	for i := len(a.closers) - 1; i >= 0; i-- {
		errs = append(errs, a.closers[i]())
	}
	return errors.Join(errs...)
}

// assemble opens a server's parts in its data directory. The caller closes the
// assembly, after runner.Run has returned.
func assemble(ctx context.Context, w Wiring, o ServeOptions, getenv func(string) string) (*assembly, error) {
	a := &assembly{redactor: &secret.Redactor{}}
	if err := a.open(ctx, w, o, getenv); err != nil {
		return nil, errors.Join(err, a.Close())
	}
	return a, nil
}

func (a *assembly) open(ctx context.Context, w Wiring, o ServeOptions, getenv func(string) string) error {
	if err := os.MkdirAll(o.Data, 0o700); err != nil {
		return fmt.Errorf("making the data directory: %w", err)
	}
	in := func(name string) string { return filepath.Join(o.Data, name) }
	handler := slog.Handler(slog.DiscardHandler)
	if o.Log != nil {
		handler = o.Log.Handler()
	}
	a.log = slog.New(a.redactor.Log(handler))
	held, err := store.Hold(o.Data) // before anything in there is opened, which also clears up
	if err != nil {
		return err
	}
	a.closers = append(a.closers, held.Close)
	if a.store, err = store.Open(ctx, in("errand.db")); err != nil {
		return err
	}
	a.closers = append(a.closers, a.store.Close)
	a.vault = a.openVault(o, in("secret.key"), getenv)
	mirrors, err := a.mirrors(in("git"), getenv)
	if err != nil {
		return err
	}
	private, err := prefixes(getenv("ERRAND_EGRESS_PRIVATE"))
	if err != nil {
		return err
	}
	gate := egress.New(egress.Options{Log: a.log, Private: private})
	driver, err := a.driver(w, o, gate, in)
	if err != nil {
		return err
	}
	models, err := a.models(w, o, getenv)
	if err != nil {
		return err
	}
	settings, err := defaults(o)
	if err != nil {
		return err
	}
	log := journal.New(a.store, a.redactor)
	a.runner, err = runner.Open(runner.Options{
		Dir: o.Data, Store: a.store, Journal: log, Redactor: a.redactor, Vault: a.vault,
		Driver: driver.Driver, Images: driver.images, Mirrors: mirrors, Gate: gate,
		Models: models, Log: a.log, Defaults: settings,
	})
	if err != nil {
		return err
	}
	a.setups = setup.New(setup.Options{
		Store: a.store, Journal: log, Redactor: a.redactor, Runner: a.runner, Mirrors: mirrors, Log: a.log, Programs: programs(o.Image),
	})
	return nil
}

// defaults gives the server's settings for runs, of flags that can be used.
func defaults(o ServeOptions) (runner.Defaults, error) {
	d := runner.Defaults{
		Engine: o.Engine, Image: o.Image, Idle: o.Idle, DiskQuota: o.DiskQuota, Egress: egress.Policy{Allow: o.EgressAllow, Deny: o.EgressDeny},
		Runs: o.Runs, RunLimit: o.RunLimit, Takeover: o.Takeover, MaxTurns: o.MaxTurns, BranchPrefix: o.BranchPrefix,
		Builds: o.Builds, BuildEvery: o.Every, InstallLimit: o.InstallLimit,
	}
	if len(o.EgressAllow) > 0 {
		d.Egress.Mode = egress.Listed
	}
	if err := d.Egress.Check(); err != nil {
		return d, usageError("--egress-allow, --egress-deny: %s", err)
	}
	if err := git.CheckBranch(strings.Trim(o.BranchPrefix, "/") + "/x"); o.BranchPrefix != "" && err != nil {
		return d, usageError("--branch-prefix %s: no branch may be called so; it looks like errand/", o.BranchPrefix)
	}
	return d, nil
}

// serverOptions are those of the server over the parts.
func (a *assembly) serverOptions(o ServeOptions, panel http.Handler, keys *auth.Keys, links *files.Links, url string, ssh server.SSH, version string) server.Options {
	return server.Options{
		Runner: a.runner, Vault: a.vault, Keys: keys, Setups: a.setups, Panel: panel, Log: a.log,
		URL: cmp.Or(o.PublicURL, url), Version: version, Rate: o.Rate, Heartbeat: o.Heartbeat, SSH: ssh, Links: links, Flags: o.Flags, Linter: linter, PreviewDomain: o.PreviewDomain,
	}
}

// openVault opens the secrets under the key that o names. A key that cannot be
// used keeps nothing from starting: what needs it says so.
func (a *assembly) openVault(o ServeOptions, path string, getenv func(string) string) *vault.Vault {
	others := kms.NewProgram(beside("errand-kms"))
	a.closers = append(a.closers, others.Close)
	file := func(_ context.Context, u *url.URL) (*secret.KEK, error) {
		if u.Host != "" || u.Path == "" {
			return nil, errand.Errorf(errand.Invalid, "validation_error", "%s names no key file. It looks like file:///etc/errand/secret.key.", u)
		}
		return secret.OpenKeyFile(u.Path, vault.Unused(a.store, u.String(), false)).KEK(u.String()), nil
	}
	return vault.Open(a.store, path, cmp.Or(o.KEK, getenv("ERRAND_KEK")), kms.Find(map[string]kms.Opener{"file": file, "": others.Open}))
}

// programs gives what is known of the programs of the default image: those of
// this host, which are asked once, or nothing.
func programs(image string) func(context.Context) map[string]string {
	if image != "" && image != "host" {
		return nil
	}
	var once sync.Once
	var found map[string]string
	return func(ctx context.Context) map[string]string {
		once.Do(func() { found = setup.HostPrograms(context.WithoutCancel(ctx)) })
		return found
	}
}

// driver is a machine.Driver with the images it stands on.
type driver struct {
	machine.Driver
	images *image.Store
}

func (a *assembly) driver(w Wiring, o ServeOptions, gate *egress.Gate, in func(string) string) (driver, error) {
	const name = "oci"
	open, ok := w.Drivers[name]
	if !ok {
		return driver{}, fmt.Errorf("this program was built without the driver %q", name)
	}
	images, err := image.Open(image.Options{Dir: in("images"), Dial: registryDial(gate, a.log), Log: a.log})
	if err != nil {
		return driver{}, err
	}
	a.closers = append(a.closers, images.Close)
	d, err := open(DriverOptions{Dir: in("machines"), Images: images, Engine: o.Engine, Limits: o.Limits, Program: beside, Log: a.log})
	if err != nil {
		return driver{}, err
	}
	if c, ok := d.(io.Closer); ok {
		a.closers = append(a.closers, c.Close)
	}
	return driver{d, images}, nil
}

// registryDial connects pulls of images by the rules of machines: which registry
// is asked, and where that sends us, is in the hands of whoever writes an
// environment file.
func registryDial(gate *egress.Gate, log *slog.Logger) func(ctx context.Context, network, address string) (net.Conn, error) {
	record := func(c errand.Connection) {
		log.Info("connection to a registry", "name", c.Name, "address", c.Address, "port", c.Port, "received", c.Received, "refused", c.Refused, "err", c.Error)
	}
	return func(ctx context.Context, _, address string) (net.Conn, error) {
		host, text, err := net.SplitHostPort(address)
		if err != nil {
			return nil, err
		}
		port, err := strconv.Atoi(text)
		if err != nil {
			return nil, err
		}
		conn, err := gate.DialContext(ctx, egress.Policy{}, host, port, record)
		if errand.KindOf(err) == errand.Forbidden {
			return nil, errand.Errorf(errand.Forbidden, "registry_refused", "%w To pull images from there, list its range in ERRAND_EGRESS_PRIVATE and start the server again.", err)
		}
		return conn, err
	}
}

func (a *assembly) models(w Wiring, o ServeOptions, getenv func(string) string) (*runner.Models, error) {
	for _, name := range []string{"ANTHROPIC_API_KEY", "OPENAI_API_KEY"} {
		a.redactor.Add(getenv(name))
	}
	catalog := llm.NewCatalog()
	if o.Models != "" {
		var err error
		if catalog, err = llm.OpenCatalog(o.Models); err != nil {
			return nil, err
		}
	}
	return &runner.Models{Catalog: catalog, Providers: w.Providers(getenv), Default: o.Model}, nil
}

// mirrors opens the git mirrors with the credentials of ERRAND_GIT_CREDENTIALS,
// a file in the form of git's own credential store.
func (a *assembly) mirrors(dir string, getenv func(string) string) (*git.Mirrors, error) {
	credentials, err := readCredentials(getenv("ERRAND_GIT_CREDENTIALS"))
	if err != nil {
		return nil, err
	}
	for _, u := range credentials {
		if password, ok := u.User.Password(); ok {
			a.redactor.Add(password)
		}
	}
	m, err := git.New(git.Options{Dir: dir, Log: a.log, Credential: func(remote string) (git.Credential, bool) {
		target, err := url.Parse(remote)
		if err != nil {
			return git.Credential{}, false
		}
		for _, u := range credentials {
			if u.Scheme == target.Scheme && u.Host == target.Host && strings.HasPrefix(target.Path, strings.TrimSuffix(u.Path, "/")) {
				password, _ := u.User.Password()
				return git.Credential{User: u.User.Username(), Password: password}, true
			}
		}
		return git.Credential{}, false
	}})
	if err != nil {
		return nil, err
	}
	a.closers = append(a.closers, m.Close)
	return m, nil
}

// readCredentials reads lines such as https://user:token@host/path. "" is none.
func readCredentials(path string) ([]*url.URL, error) {
	if path == "" {
		return nil, nil
	}
	f, err := os.Open(path)
	if errors.Is(err, fs.ErrNotExist) {
		return nil, errand.Errorf(errand.Invalid, "validation_error", "ERRAND_GIT_CREDENTIALS names %s, which is not there.", path)
	}
	if err != nil {
		return nil, fmt.Errorf("reading git credentials: %w", err)
	}
	defer f.Close()
	var all []*url.URL
	lines := bufio.NewScanner(f)
	for n := 1; lines.Scan(); n++ {
		text := strings.TrimSpace(lines.Text())
		if text == "" || strings.HasPrefix(text, "#") {
			continue
		}
		u, err := url.Parse(text)
		if err != nil || u.User == nil || u.Host == "" {
			return nil, errand.Errorf(errand.Invalid, "validation_error", "%s line %d is not of the form https://user:token@host.", path, n)
		}
		all = append(all, u)
	}
	return all, lines.Err()
}

// missing names what this host lacks for serving, in a sentence; "" is nothing.
func missing() string {
	if os.Geteuid() != 0 {
		return "Machines need root: run errand as root (sudo errand …)."
	}
	for program, how := range map[string]string{"git": "install git", "errand-guest": "run make build", "runsc": "run make build"} {
		if beside(program) == "" {
			return fmt.Sprintf("%s is not beside errand nor in PATH: %s.", program, how)
		}
	}
	return ""
}

// prefixes reads a list of address ranges, separated by commas.
func prefixes(list string) ([]netip.Prefix, error) {
	var all []netip.Prefix
	for text := range strings.SplitSeq(list, ",") {
		if text = strings.TrimSpace(text); text == "" {
			continue
		}
		p, err := netip.ParsePrefix(text)
		if err != nil {
			return nil, errand.Errorf(errand.Invalid, "validation_error", "ERRAND_EGRESS_PRIVATE has %q, which is not a range such as 10.1.0.0/16.", text)
		}
		all = append(all, p)
	}
	return all, nil
}
