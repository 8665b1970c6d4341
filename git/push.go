package git

import (
	"bytes"
	"cmp"
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"net/http"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"sync"
	"syscall"

	"github.com/errand-dev/errand"
)

// change is one line of a push: ref goes from old to new. An id of zeros is
// none.
type change struct{ old, new, ref string }

func (c change) deletes() bool { return isZero(c.new) }

func isZero(id string) bool { return strings.Trim(id, "0") == "" }

// proposal is all that stands before the pack of a push.
type proposal struct {
	changes  []change // the first maxChanges
	count    int      // of all
	sideBand bool
	report   bool
}

const (
	maxChanges = 200    // of one push that are answered one by one
	maxLines   = 20_000 // before the pack
	maxRef     = 4 << 10
)

var (
	changePattern  = regexp.MustCompile(`^([0-9a-f]{40}|[0-9a-f]{64}) ([0-9a-f]{40}|[0-9a-f]{64}) ([^\x00-\x20\x7f]+)$`)
	shallowPattern = regexp.MustCompile(`^shallow ([0-9a-f]{40}|[0-9a-f]{64})$`)
)

// readProposal reads up to the flush after which the pack comes. A body with
// nothing but a flush (git's probe before a large push) is an empty proposal.
func readProposal(body io.Reader) (proposal, error) {
	var p proposal
	for lines := 1; ; lines++ {
		line, more, err := readPacket(body)
		if err == io.EOF && p.count == 0 {
			return p, nil
		}
		if err != nil {
			return p, fmt.Errorf("reading a push: %w", err)
		}
		if !more {
			return p, nil
		}
		if lines > maxLines {
			return p, fmt.Errorf("reading a push: more than %d lines", maxLines)
		}
		text, caps, _ := strings.Cut(string(line), "\x00")
		text = strings.TrimSuffix(text, "\n")
		if shallowPattern.MatchString(text) {
			// Where the machine's history is cut off ours goes on: the mirror
			// has it, and git checks that nothing is missing.
			continue
		}
		m := changePattern.FindStringSubmatch(text)
		if m == nil || len(m[3]) > maxRef {
			return p, errors.New("reading a push: a line that is no change of a ref")
		}
		if p.count == 0 { // where git says what it can do
			for c := range strings.FieldsSeq(caps) {
				p.sideBand = p.sideBand || c == "side-band-64k"
				p.report = p.report || c == "report-status"
			}
		}
		if p.count++; p.count <= maxChanges {
			// Cloned, for the line may be much longer.
			p.changes = append(p.changes, change{strings.Clone(m[1]), strings.Clone(m[2]), strings.Clone(m[3])})
		}
	}
}

// verdict is the fate of a push, as it is told to the machine's git.
type verdict struct {
	unpack  string            // "ok", or why the pack was not taken
	refused map[string]string // by ref; "" or absent is accepted
	words   string            // for people, shown as "remote: …"
	code    string            // of the refusal, as in errand.PushData
}

func (b *broker) receive(w http.ResponseWriter, r *http.Request, body io.Reader) {
	p, err := readProposal(body)
	if err != nil {
		http.Error(w, oneLine(err.Error()), http.StatusBadRequest)
		return
	}
	if p.count == 0 {
		return // the probe
	}
	v := verdict{unpack: "ok", refused: b.judge(p)}
	if len(v.refused) > 0 {
		v.words = fmt.Sprintf("This agent pushes to %s only; nothing was pushed.\nRun: git push origin HEAD:%s", b.grant.Branch, b.grant.Branch)
	} else if v, err = b.pass(r.Context(), p, body); err != nil {
		b.mirrors.log.Warn("passing on a push", "agent", b.grant.Agent, "repository", b.mirror.url, "err", err)
		v = verdict{unpack: "ok", refused: map[string]string{p.changes[0].ref: "the server could not take the push; its log says why, try again later"}}
	}
	// git sends all of its pack before it reads the answer.
	_, _ = io.CopyN(io.Discard, body, b.mirrors.options.MaxPush)
	b.record(b.pushed(p, v))
	b.answer(w, p, v)
}

// judge says which changes are refused and why; if any is, all are.
func (b *broker) judge(p proposal) map[string]string {
	own := b.ownRef()
	instead := fmt.Sprintf("push to %s instead: git push origin HEAD:%s", b.grant.Branch, b.grant.Branch)
	refused := map[string]string{}
	for _, c := range p.changes {
		switch {
		case c.ref == own && !c.deletes():
		case c.deletes():
			refused[c.ref] = "an agent deletes no branches or tags on the remote; leave it there"
		case strings.HasPrefix(c.ref, "refs/tags/"):
			refused[c.ref] = "an agent pushes no tags; " + instead
		default:
			refused[c.ref] = instead
		}
	}
	if p.count > 1 && refused[own] == "" {
		refused[own] = "another ref of this push is refused; push this one alone: git push origin HEAD:" + b.grant.Branch
	}
	return refused
}

func (b *broker) ownRef() string { return "refs/heads/" + b.grant.Branch }

// pushed gives what is recorded of a push: of many refs one that the agent may
// not push.
func (b *broker) pushed(p proposal, v verdict) errand.PushData {
	i := slices.IndexFunc(p.changes, func(c change) bool { return c.ref != b.ownRef() })
	c := p.changes[max(0, i)]
	d := errand.PushData{Repository: b.mirror.url, Ref: c.ref, Old: c.old, New: c.new, Refused: v.refused[c.ref], Code: v.code, Others: p.count - 1}
	if isZero(d.Old) {
		d.Old = ""
	}
	if isZero(d.New) {
		d.New = ""
	}
	if v.unpack != "ok" && d.Refused == "" {
		d.Refused = v.unpack
	}
	return d
}

// answer writes git's report of a push.
func (b *broker) answer(w io.Writer, p proposal, v verdict) {
	var report strings.Builder
	_ = writePacket(&report, "unpack "+oneLine(v.unpack)+"\n")
	for _, c := range p.changes {
		if reason := v.refused[c.ref]; reason != "" {
			_ = writePacket(&report, "ng "+c.ref+" "+clipReason(reason)+"\n")
		} else if v.unpack != "ok" {
			_ = writePacket(&report, "ng "+c.ref+" unpacker error\n")
		} else {
			_ = writePacket(&report, "ok "+c.ref+"\n")
		}
	}
	report.WriteString(flush)
	switch {
	case p.sideBand:
		if v.words != "" {
			_ = band(w, 2, strings.TrimRight(v.words, "\n")+"\n")
		}
		if p.report {
			_ = band(w, 1, report.String())
		}
		_, _ = io.WriteString(w, flush)
	case p.report:
		_, _ = io.WriteString(w, report.String())
	}
}

func clipReason(s string) string {
	s = oneLine(s)
	return s[:min(len(s), 1000)]
}

// pass takes the pack into quarantine, pushes from there, and keeps it in the
// agent's own repository once the remote has it. An error is a fault of the
// server; what git or the remote refuse is a verdict.
func (b *broker) pass(request context.Context, p proposal, pack io.Reader) (v verdict, err error) {
	c := p.changes[0]
	lock := b.mirrors.agentLock(b.grant.Agent, b.mirror.url)
	lock.Lock()
	defer lock.Unlock()
	dir, err := b.agentRepository(request)
	if err != nil {
		return verdict{}, err
	}
	// One push of an agent follows another, so what is locked was left by a kill.
	if err := sweep(dir); err != nil {
		return verdict{}, err
	}
	q, err := isolate(dir)
	if err != nil {
		return verdict{}, err
	}
	defer func() { err = errors.Join(err, q.drop()) }()
	if v, err := b.takeGuarded(request, dir, p, pack, q); err != nil || v.refused[c.ref] != "" {
		return v, err
	}
	// From here on the push has an end that is known, also when the machine
	// goes away meanwhile.
	ctx, cancel := context.WithTimeout(context.WithoutCancel(request), b.mirrors.options.Timeout)
	defer cancel()
	defer context.AfterFunc(b.mirrors.ctx, cancel)()
	b.mirrors.work.Add(1)
	defer b.mirrors.work.Done()
	why, words, err := b.push(ctx, dir, c, q)
	if err != nil {
		return verdict{}, err
	}
	v = verdict{unpack: "ok", refused: map[string]string{c.ref: why}, words: words}
	if why != "" {
		return v, nil
	}
	if err := q.release(dir); err != nil {
		return verdict{}, err
	}
	_, err = b.mirrors.git(context.WithoutCancel(request), dir, "update-ref", c.ref, c.new)
	return v, err
}

// takeGuarded takes the pack into q, and says whether what it brings may leave.
// Nothing refers to it afterwards: the ref is made when the remote has it.
func (b *broker) takeGuarded(ctx context.Context, dir string, p proposal, pack io.Reader, q *quarantine) (verdict, error) {
	c := p.changes[0]
	refuse := func(why string) verdict {
		return verdict{unpack: "ok", refused: map[string]string{c.ref: why}}
	}
	var guard *Guard
	if b.grant.Guard != nil {
		var err error
		if guard, err = b.grant.Guard(); err != nil {
			return refuse(err.Error()), nil
		}
	}
	most, err := b.mirrors.room()
	if err != nil {
		return verdict{}, err
	}
	if most <= 0 {
		return refuse("the server's disk is full; try again when there is room on it"), nil
	}
	const incoming = "refs/errand/incoming"
	why, err := b.take(ctx, dir, p, incoming, pack, most, q)
	if err != nil || why != "" {
		return verdict{unpack: cmp.Or(why, "ok"), refused: map[string]string{c.ref: why}}, err
	}
	if _, err := b.mirrors.git(ctx, dir, "update-ref", "-d", incoming); err != nil {
		return verdict{}, err
	}
	if guard == nil {
		return verdict{}, nil
	}
	leaks, err := b.inspect(ctx, dir, c.new, q, guard)
	if err != nil || len(leaks) == 0 {
		return verdict{}, err
	}
	edges, err := b.edges(ctx, dir, c.new, q)
	if err != nil {
		return verdict{}, err
	}
	reason, words := b.describe(leaks, strings.Join(edges[:min(1, len(edges))], ""), guard)
	v := refuse(reason)
	v.words, v.code = words, errand.SecretInPush
	return v, nil
}

// room gives how large a pack may be, in bytes: what MaxPush allows, and no more
// than half of what is free. Zero or less is a disk that is full.
func (m *Mirrors) room() (int64, error) {
	var st syscall.Statfs_t
	if err := syscall.Statfs(m.options.Dir, &st); err != nil {
		return 0, fmt.Errorf("reading free space: %w", err)
	}
	return mostOf(int64(st.Bavail)*st.Bsize, m.options.MaxPush), nil
}

func mostOf(free, most int64) int64 {
	const least = 64 << 20 // stays free
	return min(most, (free-least)/2)
}

func (m *Mirrors) agentLock(agent errand.AgentID, url string) *sync.Mutex {
	m.mu.Lock()
	defer m.mu.Unlock()
	key := string(agent) + "/" + Name(url)
	if m.agents[key] == nil {
		m.agents[key] = &sync.Mutex{}
	}
	return m.agents[key]
}

// agentRepository makes the agent's bare repository if it is not there. It
// borrows the mirror's objects and holds what the agent pushed.
func (b *broker) agentRepository(ctx context.Context) (string, error) {
	dir, err := b.mirrors.agentRepositoryDir(b.grant.Agent, b.mirror.url)
	if err != nil {
		return "", err
	}
	if _, err := os.Stat(filepath.Join(dir, alternates)); err == nil {
		return dir, b.cutOff(dir)
	}
	return dir, b.borrow(ctx, dir)
}

// alternates is where a repository says whose objects it borrows.
const alternates = "objects/info/alternates"

// borrow makes a bare repository at dir that borrows the mirror's objects.
func (b *broker) borrow(ctx context.Context, dir string) error {
	format, err := b.mirrors.git(ctx, b.mirror.dir, "rev-parse", "--show-object-format")
	if err != nil {
		return err
	}
	if err := b.mirrors.initBare(ctx, dir, strings.TrimSpace(string(format))); err != nil {
		return err
	}
	at := filepath.Join(dir, alternates)
	if err := os.MkdirAll(filepath.Dir(at), 0o755); err != nil {
		return fmt.Errorf("making a repository beside the mirror: %w", err)
	}
	// Written last: it says that the repository is whole.
	from, err := filepath.Rel(filepath.Join(dir, "objects"), filepath.Join(b.mirror.dir, "objects"))
	if err != nil {
		return fmt.Errorf("making a repository beside the mirror: %w", err)
	}
	if err := os.WriteFile(at, []byte(from+"\n"), 0o644); err != nil {
		return fmt.Errorf("making a repository beside the mirror: %w", err)
	}
	return b.cutOff(dir)
}

// cutOff tells the agent's repository where the mirror's history ends, if the
// remote itself is a shallow clone.
func (b *broker) cutOff(dir string) error {
	shallow, err := os.ReadFile(filepath.Join(b.mirror.dir, "shallow"))
	if errors.Is(err, fs.ErrNotExist) {
		return nil
	}
	if err == nil {
		err = os.WriteFile(filepath.Join(dir, "shallow"), shallow, 0o644)
	}
	if err != nil {
		return fmt.Errorf("making a repository for %s: %w", b.grant.Agent, err)
	}
	return nil
}

func (m *Mirrors) agentRepositoryDir(agent errand.AgentID, url string) (string, error) {
	dir, err := m.agentDir(agent)
	if err != nil {
		return "", err
	}
	return filepath.Join(dir, Name(url)), nil
}

// take hands the pack to git, which checks every object and that nothing is
// missing before it lets them out of quarantine. The ref it writes is ours, not
// the machine's. why is what git found wrong, "" if nothing.
func (b *broker) take(ctx context.Context, dir string, p proposal, ref string, pack io.Reader, most int64, q *quarantine) (why string, err error) {
	if _, err := b.mirrors.git(ctx, dir, "update-ref", "-d", ref); err != nil { // left by a kill
		return "", err
	}
	var head bytes.Buffer
	id := p.changes[0].new
	caps := "\x00report-status"
	if len(id) == 64 {
		caps += " object-format=sha256"
	}
	_ = writePacket(&head, strings.Repeat("0", len(id))+" "+id+" "+ref+caps+"\n")
	head.WriteString(flush)
	report, said, err := b.mirrors.run(ctx, command{
		args:  []string{"-c", "receive.fsckObjects=true", "-c", "receive.autogc=false", "-c", "receive.unpackLimit=1", "-c", "receive.maxInputSize=" + strconv.FormatInt(most, 10), "receive-pack", "--stateless-rpc", dir},
		stdin: io.MultiReader(&head, pack),
		env:   q.env,
	})
	if ctx.Err() != nil {
		return "", context.Cause(ctx)
	}
	why, ok := readReport(report)
	if ok && why == "" {
		return "", nil // git may still complain of how its input ended
	}
	if !ok && err == nil {
		err = errors.New("taking a push: git gave no report")
	}
	if !ok && said == "" {
		return "", err
	}
	return cmp.Or(why, "the pack was not taken") + lastWords(said), nil
}

// readReport reads what receive-pack says of its one ref. ok is false when it
// said nothing that can be understood.
func readReport(report []byte) (why string, ok bool) {
	r := bytes.NewReader(report)
	for {
		line, more, err := readPacket(r)
		if err != nil || !more {
			return "", false
		}
		text := strings.TrimSpace(string(line))
		switch {
		case text == "unpack ok":
		case strings.HasPrefix(text, "unpack "):
			return strings.TrimPrefix(text, "unpack "), true
		case strings.HasPrefix(text, "ok "):
			return "", true
		case strings.HasPrefix(text, "ng "):
			_, reason, _ := strings.Cut(strings.TrimPrefix(text, "ng "), " ")
			return cmp.Or(reason, "refused"), true
		}
	}
}

// push carries one commit to the remote. why says, in words that an agent can
// act on, why it is not there; words is what the remote itself said.
func (b *broker) push(ctx context.Context, dir string, c change, q *quarantine) (why, words string, err error) {
	args := []string{"push", "--porcelain", "--no-verify"}
	if b.grant.AllowForce {
		lease := c.old
		if isZero(lease) {
			lease = "" // must not be there yet
		}
		args = append(args, "--force-with-lease="+c.ref+":"+lease)
	}
	args = append(args, "--", b.mirror.url, c.new+":"+c.ref)
	out, said, err := b.mirrors.run(ctx, command{dir: dir, url: b.mirror.url, env: q.env, args: args})
	words = remoteWords(said)
	status, reason, found := pushStatus(string(out), c.ref)
	switch {
	case found && status != '!':
		return "", words, nil
	case found:
		return b.explain(reason), words, nil
	case err != nil:
		return errand.AsError(accessError("Pushing to", b.mirror.url, err)).Message, words, nil
	}
	return "", words, fmt.Errorf("pushing to %s: git said nothing about %s", b.mirror.url, c.ref)
}

// pushStatus finds ref's line in the output of git push --porcelain.
func pushStatus(out, ref string) (status byte, reason string, found bool) {
	for line := range strings.Lines(out) {
		f := strings.SplitN(strings.TrimSuffix(line, "\n"), "\t", 3)
		if len(f) == 3 && len(f[0]) == 1 && strings.HasSuffix(f[1], ":"+ref) {
			return f[0][0], f[2], true
		}
	}
	return 0, "", false
}

func (b *broker) explain(reason string) string {
	branch := b.grant.Branch
	switch {
	case strings.Contains(reason, "stale info"):
		return "the branch on the remote has moved meanwhile; git fetch origin, look at it, then push again"
	case strings.Contains(reason, "fetch first"), strings.Contains(reason, "non-fast-forward"), strings.Contains(reason, "needs force"):
		return "the remote has commits that this push would lose; git pull --rebase origin " + branch + ", then push again"
	}
	reason = strings.TrimPrefix(reason, "[remote rejected] ")
	reason = strings.TrimSuffix(strings.TrimPrefix(reason, "("), ")")
	return "the remote declined: " + reason
}

// remoteWords are the lines that came from the remote itself.
func remoteWords(stderr string) string {
	var words []string
	for line := range strings.Lines(stderr) {
		if w, ok := strings.CutPrefix(line, "remote: "); ok {
			words = append(words, strings.TrimRight(w, " \r\n"))
		}
	}
	return strings.Join(words, "\n")
}
