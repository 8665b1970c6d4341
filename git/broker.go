package git

import (
	"cmp"
	"compress/gzip"
	"context"
	"errors"
	"fmt"
	"io"
	"maps"
	"net/http"
	"runtime"
	"slices"
	"strings"
	"time"

	"golang.org/x/sync/semaphore"

	"github.com/errand-dev/errand"
)

// Grant is what one machine may do with one repository.
type Grant struct {
	Agent  errand.AgentID // whose pushes they are; "" may only read
	URL    string         // as Clean gives it, or as a person gave it
	Branch string         // the one branch that may be pushed, without refs/heads/
	// AllowForce lets the agent rewrite Branch on the remote. Even then a push
	// only goes through when nobody else has moved the branch meanwhile.
	AllowForce bool
	// Guard gives, at each push, what looks through all that it adds; a nil
	// *Guard lets it pass unseen, an error refuses it with its text. A nil Guard
	// is none.
	Guard func() (*Guard, error)
}

// broker speaks git's smart HTTP with one agent's machine about one repository.
type broker struct {
	mirrors *Mirrors
	grant   Grant
	record  func(errand.PushData)
	mirror  *Mirror
	fetches *semaphore.Weighted // this machine's turns
}

// Bounds of fetches: git prepares packs on the host, outside of what limits the
// machine that asks.
const (
	fetchesOfOne = 3           // at once, of one machine
	stallLimit   = time.Minute // a machine that neither sends nor takes anything is cut off
)

// fetchesOfAll is how many fetches are served at once.
func fetchesOfAll() int64 { return max(8, 2*int64(runtime.NumCPU())) }

// turn waits until one more fetch may be served. done gives the turn back.
func (b *broker) turn(ctx context.Context) (done func(), err error) {
	if err := b.fetches.Acquire(ctx, 1); err != nil {
		return nil, err
	}
	if err := b.mirrors.fetches.Acquire(ctx, 1); err != nil {
		b.fetches.Release(1)
		return nil, err
	}
	return func() { b.mirrors.fetches.Release(1); b.fetches.Release(1) }, nil
}

// Broker gives what a machine talks to instead of the remote. It serves
// …/info/refs, …/git-upload-pack and …/git-receive-pack under any path before
// them, to anybody who can reach it: who that is, the line decides.
//
// A fetch first updates the mirror, waits for that at most Options.Wait, and is
// then served from the mirror, when it is its turn: few are served at once. A
// push goes on to the remote with the server's credential if it changes
// refs/heads/<Branch> and nothing else; otherwise none of it does and git tells
// the agent what to do instead. Without an Agent every push is refused. record,
// if not nil, is called once for each push, when its fate is known.
func (m *Mirrors) Broker(g Grant, record func(errand.PushData)) (http.Handler, error) {
	r, err := m.mirror(g.URL)
	if err != nil {
		return nil, err
	}
	b := &broker{mirrors: m, grant: g, mirror: r, record: record, fetches: semaphore.NewWeighted(fetchesOfOne)}
	if g.Agent == "" && g.Branch == "" {
		return b, nil
	}
	if _, err := m.agentDir(g.Agent); err != nil {
		return nil, err
	}
	if !validRef(g.Branch) || strings.HasPrefix(g.Branch, "refs/") {
		return nil, errand.Errorf(errand.Invalid, "invalid_branch_name", "%q cannot be the name of a branch.", clip(g.Branch))
	}
	if record == nil {
		b.record = func(errand.PushData) {}
	}
	return b, nil
}

const (
	uploadPack  = "git-upload-pack"
	receivePack = "git-receive-pack"
)

func (b *broker) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	w.Header().Set("Cache-Control", "no-cache")
	path := r.URL.Path
	switch {
	case b.grant.Agent == "" && (r.URL.Query().Get("service") == receivePack || strings.HasSuffix(path, "/"+receivePack)):
		http.Error(w, "Nothing is pushed from here: this machine may only read the repository.", http.StatusForbidden)
	case r.Method == http.MethodGet && strings.HasSuffix(path, "/info/refs"):
		b.advertise(w, r)
	case r.Method == http.MethodPost && strings.HasSuffix(path, "/"+uploadPack):
		b.exchange(w, r, uploadPack, b.upload)
	case r.Method == http.MethodPost && strings.HasSuffix(path, "/"+receivePack):
		b.exchange(w, r, receivePack, b.receive)
	case strings.Contains(path, "/info/lfs"):
		http.Error(w, "Git LFS is not served here. Set GIT_LFS_SKIP_SMUDGE=1 to work with the pointer files.", http.StatusNotFound)
	default:
		http.Error(w, "This is git's smart HTTP for one repository; use git fetch and git push.", http.StatusNotFound)
	}
}

// exchange reads and answers the body of one POST.
func (b *broker) exchange(w http.ResponseWriter, r *http.Request, service string, do func(http.ResponseWriter, *http.Request, io.Reader)) {
	if got, want := r.Header.Get("Content-Type"), "application/x-"+service+"-request"; got != want {
		http.Error(w, fmt.Sprintf("Content-Type is %q, git sends %q.", got, want), http.StatusUnsupportedMediaType)
		return
	}
	body := io.Reader(r.Body)
	switch r.Header.Get("Content-Encoding") {
	case "", "identity":
	case "gzip", "x-gzip":
		z, err := gzip.NewReader(r.Body)
		if err != nil {
			http.Error(w, "The body is not gzip.", http.StatusBadRequest)
			return
		}
		body = z
	default:
		http.Error(w, "The body's encoding is not known here.", http.StatusUnsupportedMediaType)
		return
	}
	w.Header().Set("Content-Type", "application/x-"+service+"-result")
	do(w, r, body)
}

// fresh gives the mirror, newer than the request if the remote answers in time.
func (b *broker) fresh(ctx context.Context) (*Mirror, error) {
	waiting, cancel := context.WithTimeout(ctx, b.mirrors.options.Wait)
	defer cancel()
	r, err := b.mirrors.Fetch(waiting, b.mirror.url)
	if err == nil || !b.mirror.exists() {
		return r, err
	}
	b.mirrors.log.Warn("serving a machine from the mirror as it is", "agent", b.grant.Agent, "repository", b.mirror.url, "err", err)
	return b.mirror, nil
}

// advertise answers the first request of every fetch and push.
func (b *broker) advertise(w http.ResponseWriter, r *http.Request) {
	service := r.URL.Query().Get("service")
	if service != uploadPack && service != receivePack {
		http.Error(w, "This repository is served over git's smart HTTP only; use git 1.6.6 or newer.", http.StatusForbidden)
		return
	}
	w.Header().Set("Content-Type", "application/x-"+service+"-advertisement")
	protocol := gitProtocol(r)
	if service == receivePack || !strings.Contains(protocol, "version=2") {
		_ = writePacket(w, "# service="+service+"\n")
		_, _ = io.WriteString(w, flush)
	}
	mirror, err := b.fresh(r.Context())
	if err != nil {
		_ = writePacket(w, "ERR "+oneLine(errand.AsError(err).Message))
		return
	}
	if service == receivePack {
		err = advertisePush(r.Context(), w, mirror)
	} else {
		err = b.serve(w, r, command{
			args: append(serving(), "--stateless-rpc", "--http-backend-info-refs", mirror.dir),
			env:  []string{protocol},
		})
	}
	if err != nil && r.Context().Err() == nil {
		b.mirrors.log.Warn("telling a machine the refs", "agent", b.grant.Agent, "repository", b.mirror.url, "err", err)
		panic(http.ErrAbortHandler) // a cut answer must not look whole
	}
}

// advertisePush tells the refs that the remote has, so that the machine's git
// sends only what is new and compares with the right commits. Push options are
// not offered: on some hosts they can merge.
func advertisePush(ctx context.Context, w io.Writer, r *Mirror) error {
	refs, err := r.refs(ctx)
	if err != nil {
		return err
	}
	format, zero := "sha1", strings.Repeat("0", 40)
	for _, id := range refs {
		if len(id) == 64 {
			format, zero = "sha256", strings.Repeat("0", 64)
		}
		break
	}
	caps := "\x00report-status delete-refs side-band-64k quiet atomic ofs-delta object-format=" + format + " agent=errand"
	var out strings.Builder
	if len(refs) == 0 {
		_ = writePacket(&out, zero+" capabilities^{}"+caps+"\n")
	}
	for _, name := range slices.Sorted(maps.Keys(refs)) {
		_ = writePacket(&out, refs[name]+" "+name+caps+"\n")
		caps = ""
	}
	out.WriteString(flush)
	_, err = io.WriteString(w, out.String())
	return err
}

// maxWants bounds what a machine may say in one round of a fetch, in bytes.
const maxWants = 64 << 20

// upload serves one round of a fetch.
func (b *broker) upload(w http.ResponseWriter, r *http.Request, body io.Reader) {
	err := b.serve(w, r, command{
		args:  append(serving(), "--stateless-rpc", b.mirror.dir),
		env:   []string{gitProtocol(r)},
		stdin: asker{io.LimitReader(body, maxWants), http.NewResponseController(w), b.mirrors.stall},
	})
	var exit *exitError
	if err != nil && r.Context().Err() == nil && !errors.As(err, &exit) {
		b.mirrors.log.Warn("serving a fetch", "agent", b.grant.Agent, "repository", b.mirror.url, "err", err)
	}
}

// serve runs c for a machine, when it is its turn, with what it prints going
// there.
func (b *broker) serve(w http.ResponseWriter, r *http.Request, c command) error {
	done, err := b.turn(r.Context())
	if err != nil {
		return err
	}
	defer done()
	to := flusher{w, http.NewResponseController(w), b.mirrors.stall}
	defer to.SetWriteDeadline(time.Time{}) // the connection goes on
	c.stdout = to
	_, _, err = b.mirrors.run(r.Context(), c)
	return err
}

// serving calls upload-pack so that everything in the mirror may be asked for:
// the machine can read the mirror anyway.
func serving() []string {
	return []string{"-c", "uploadpack.allowAnySHA1InWant=true", "-c", "uploadpack.allowFilter=true", "upload-pack"}
}

// gitProtocol is the variable that tells git which version the client speaks.
// What else stands in the header stays out.
func gitProtocol(r *http.Request) string {
	for v := range strings.SplitSeq(r.Header.Get("Git-Protocol"), ":") {
		if v == "version=1" || v == "version=2" {
			return "GIT_PROTOCOL=" + v
		}
	}
	return "GIT_PROTOCOL="
}

// flusher sends each piece at once: git on the other side waits for it. That
// must take it before long.
type flusher struct {
	http.ResponseWriter
	*http.ResponseController
	stall time.Duration
}

func (f flusher) Write(p []byte) (int, error) {
	if err := f.SetWriteDeadline(time.Now().Add(f.stall)); err != nil {
		return 0, err
	}
	n, err := f.ResponseWriter.Write(p)
	if err == nil {
		err = f.Flush()
	}
	return n, err
}

// asker reads what a machine asks for, which must come before long. At its end
// the deadline goes: net/http listens on, and would take it for the machine's
// leaving.
type asker struct {
	io.Reader
	*http.ResponseController
	stall time.Duration
}

func (a asker) Read(p []byte) (int, error) {
	if err := a.SetReadDeadline(time.Now().Add(a.stall)); err != nil {
		return 0, err
	}
	n, err := a.Reader.Read(p)
	if err != nil {
		err = cmp.Or(a.SetReadDeadline(time.Time{}), err)
	}
	return n, err
}

func oneLine(s string) string { return strings.Join(strings.Fields(s), " ") }
