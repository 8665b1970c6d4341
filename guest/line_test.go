package guest_test

import (
	"context"
	"errors"
	"fmt"
	"io"
	"math/rand/v2"
	"net"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/errand-dev/errand/guest"
)

// faulty is a connection that breaks after so many bytes in each direction, in
// the middle of a Read or a Write, as a line does whose carrier was killed.
type faulty struct {
	net.Conn
	mu        sync.Mutex
	reads     int64 // bytes until it breaks
	writes    int64
	broken    *atomic.Int64 // counts breaks
	brokenOne sync.Once
}

func (f *faulty) Read(p []byte) (int, error) {
	left := f.left(&f.reads, len(p))
	if left == 0 {
		return 0, f.snap()
	}
	n, err := f.Conn.Read(p[:left])
	f.use(&f.reads, n)
	return n, err
}

func (f *faulty) Write(p []byte) (int, error) {
	left := f.left(&f.writes, len(p))
	n, err := f.Conn.Write(p[:left])
	f.use(&f.writes, n)
	if err == nil && n < len(p) {
		err = f.snap()
	}
	return n, err
}

func (f *faulty) left(which *int64, want int) int {
	f.mu.Lock()
	defer f.mu.Unlock()
	return int(min(*which, int64(want)))
}

func (f *faulty) use(which *int64, n int) {
	f.mu.Lock()
	defer f.mu.Unlock()
	*which -= int64(n)
}

func (f *faulty) snap() error {
	f.brokenOne.Do(func() { f.broken.Add(1) })
	f.Conn.Close()
	return errors.New("the line broke")
}

// breaking dials connections that break, at points that seed decides. Hello
// and one piece of output come through.
func (m *machine) breaking(seed uint64) (dial func(context.Context) (net.Conn, error), broken *atomic.Int64) {
	var mu sync.Mutex
	random := rand.New(rand.NewPCG(seed, 0))
	broken = new(atomic.Int64)
	return func(ctx context.Context) (net.Conn, error) {
		mu.Lock()
		reads, writes := 1000+random.Int64N(60000), 1000+random.Int64N(8000)
		fails := random.IntN(8) == 0
		mu.Unlock()
		if fails {
			return nil, errors.New("no way through just now")
		}
		conn, err := m.dial(ctx)
		if err != nil {
			return nil, err
		}
		return &faulty{Conn: conn, reads: reads, writes: writes, broken: broken}, nil
	}, broken
}

// TestNothingIsLostOrDoubled does all kinds of things over lines that break all
// the time, each seed at other points.
func TestNothingIsLostOrDoubled(t *testing.T) {
	m := boot(t)
	var broke atomic.Int64
	t.Run("seeds", func(t *testing.T) {
		for seed := range uint64(24) {
			t.Run(fmt.Sprint(seed), func(t *testing.T) {
				t.Parallel()
				dial, broken := m.breaking(seed)
				ctx := within(t, 60*time.Second)
				l := m.line(dial, guest.Options{})
				dir := filepath.Join(m.dir, fmt.Sprint("once", seed))
				if err := os.Mkdir(dir, 0o700); err != nil {
					t.Fatal(err)
				}
				var all sync.WaitGroup
				for i := range 3 {
					all.Go(func() { countOnce(t, ctx, l, dir, i) })
				}
				for _, write := range []func(*guest.Line, context.Context, string, string) error{inPieces, inOneStream} {
					all.Go(func() { feedOnce(t, ctx, l, write) })
				}
				all.Go(func() { changeOnce(t, ctx, l, dir) })
				all.Wait()
				l.Close()
				broke.Add(broken.Load())
			})
		}
	})
	if broke.Load() < 24 {
		t.Errorf("the lines broke %d times only", broke.Load())
	}
	t.Logf("the lines broke %d times", broke.Load())
}

// countOnce runs a command that leaves a mark, and checks mark and output.
func countOnce(t *testing.T, ctx context.Context, l *guest.Line, dir string, i int) {
	mark := filepath.Join(dir, fmt.Sprint("mark", i))
	c := sh(fmt.Sprintf("echo ran >>%s; seq 1 3000; exit %d", mark, i))
	c.ID = id()
	var out strings.Builder
	var next int64
	exit, err := l.Run(ctx, c, func(o guest.Output) {
		if o.Offset != next {
			t.Errorf("output at %d, want %d", o.Offset, next)
		}
		next = o.Offset + int64(len(o.Data))
		out.Write(o.Data)
	})
	if err != nil || exit.Code != i || exit.Dropped != 0 {
		t.Errorf("%+v, %v", exit, err)
	}
	if out.String() != numbers(3000) {
		t.Errorf("%d bytes of output are not what was printed", out.Len())
	}
	if got, _ := os.ReadFile(mark); string(got) != "ran\n" {
		t.Errorf("the command ran %d times", len(got)/4)
	}
	if err := l.Forget(ctx, c.ID); err != nil {
		t.Error(err)
	}
}

func numbers(n int) string {
	var b strings.Builder
	for i := 1; i <= n; i++ {
		fmt.Fprintln(&b, i)
	}
	return b.String()
}

// feedOnce writes to a command's stdin and checks that it all came back.
func feedOnce(t *testing.T, ctx context.Context, l *guest.Line, write func(l *guest.Line, ctx context.Context, id, text string) error) {
	c := guest.Command{ID: id(), Args: []string{"cat"}, Stdin: true, Hold: true}
	if err := l.Start(ctx, c); err != nil {
		t.Error(err)
		return
	}
	text := numbers(5000)[:10000]
	if err := write(l, ctx, c.ID, text); err != nil {
		t.Error(err)
	}
	var out strings.Builder
	_, err := l.Rejoin(ctx, c.ID, 0, func(o guest.Output) { out.Write(o.Data) })
	if err != nil || out.String() != text {
		t.Errorf("%d bytes came back, %v", out.Len(), err)
	}
}

const piece = 200

func inPieces(l *guest.Line, ctx context.Context, id, text string) error {
	for i := 0; i < len(text); i += piece {
		if err := l.Write(ctx, id, int64(i), []byte(text[i:i+piece])); err != nil {
			return err
		}
	}
	return l.CloseStdin(ctx, id)
}

func inOneStream(l *guest.Line, ctx context.Context, id, text string) error {
	return l.Feed(ctx, id, pieces{strings.NewReader(text)})
}

// pieces gives at most one piece to each Read.
type pieces struct{ io.Reader }

func (p pieces) Read(b []byte) (int, error) { return p.Reader.Read(b[:min(len(b), piece)]) }

// changeOnce makes a change that could not be made twice.
func changeOnce(t *testing.T, ctx context.Context, l *guest.Line, dir string) {
	if _, err := l.WriteFile(ctx, id(), dir, "a/file", []byte("x\n"), 0); err != nil {
		t.Error(err)
	}
	result, err := l.Change(ctx, id(), dir, []guest.FileChange{
		{Path: "a/file", Kind: guest.ChangeEdit, Edits: []guest.Edit{{Old: "x", New: "xx"}}},
		{Path: "a/file", Kind: guest.ChangeMove, To: "a/moved"},
	})
	if err != nil || len(result.Files) != 2 {
		t.Errorf("%+v, %v", result, err)
	}
	if got, _ := os.ReadFile(filepath.Join(dir, "a/moved")); string(got) != "xx\n" {
		t.Errorf("the file is %q", got)
	}
}

func TestRebooted(t *testing.T) {
	m, l := plain(t)
	ctx := within(t, 20*time.Second)
	c := sh("sleep 100")
	c.ID = id()
	started := make(chan error, 1)
	go func() {
		_, err := l.Run(ctx, c, nil)
		started <- err
	}()
	for known := false; !known; {
		var err error
		if known, err = l.Known(ctx, c.ID); err != nil {
			t.Fatal(err)
		}
	}
	m.kill()
	m.start()
	if err := <-started; !errors.Is(err, guest.ErrRebooted) {
		t.Errorf("the call under way: %v", err)
	}
	if _, err := l.Known(ctx, c.ID); !errors.Is(err, guest.ErrRebooted) {
		t.Errorf("a later call: %v", err)
	}
	if !errors.Is(l.Err(), guest.ErrRebooted) {
		t.Errorf("Err: %v", l.Err())
	}
	again := m.line(nil, guest.Options{})
	if again.Hello().Boot == l.Hello().Boot {
		t.Error("Boot did not change")
	}
	if known, err := again.Known(ctx, c.ID); known || err != nil {
		t.Errorf("known %v, %v", known, err)
	}
}

func TestGone(t *testing.T) {
	m := boot(t)
	stopped := errors.New("machine is stopped")
	var gone atomic.Bool
	var conn net.Conn
	dial := func(ctx context.Context) (c net.Conn, err error) {
		if gone.Load() {
			return nil, fmt.Errorf("dialing: %w", stopped)
		}
		conn, err = m.dial(ctx)
		return conn, err
	}
	opts := guest.Options{Gone: func(err error) bool { return errors.Is(err, stopped) }}
	l := m.line(dial, opts)
	gone.Store(true)
	conn.Close()
	c := sh("true")
	c.ID = id()
	if _, err := l.Run(within(t, 10*time.Second), c, nil); !errors.Is(err, stopped) {
		t.Errorf("got %v", err)
	}
	if _, err := guest.Open(within(t, 10*time.Second), dial, opts); !errors.Is(err, stopped) {
		t.Errorf("opening: %v", err)
	}
}

func TestOpenWaitsForGuest(t *testing.T) {
	m := boot(t)
	m.line(nil, guest.Options{}).Close() // it is up, so that it ends in order
	m.stop()
	var tried atomic.Int64
	up := make(chan struct{})
	dial := func(ctx context.Context) (net.Conn, error) {
		if tried.Add(1) == 3 {
			close(up)
		}
		return m.dial(ctx)
	}
	opened := make(chan error, 1)
	ctx := within(t, 20*time.Second)
	go func() {
		l, err := guest.Open(ctx, dial, guest.Options{})
		if err == nil {
			err = l.Close()
		}
		opened <- err
	}()
	<-up
	m.start()
	if err := <-opened; err != nil {
		t.Error(err)
	}

	m.stop()
	short, cancel := context.WithTimeout(ctx, 50*time.Millisecond)
	defer cancel()
	_, err := guest.Open(short, m.dial, guest.Options{})
	if !errors.Is(err, context.DeadlineExceeded) || !strings.Contains(err.Error(), "guest.sock") {
		t.Errorf("got %v", err)
	}
}

func TestClose(t *testing.T) {
	_, l := plain(t)
	c := sh("echo on; sleep 100")
	c.ID = id()
	_, err := l.Run(within(t, 10*time.Second), c, func(guest.Output) { go l.Close() })
	if !errors.Is(err, guest.ErrClosed) {
		t.Errorf("the call under way: %v", err)
	}
	l.Close()
	if _, err := l.Processes(within(t, time.Second)); !errors.Is(err, guest.ErrClosed) {
		t.Errorf("a later call: %v", err)
	}
}

// pretend gives the bytes of a guest that answers the first request.
func pretend(answer string) string {
	return "\x00\x00\x00\x02\x00\x00\x00\x01\x00\x00\x00" + string(rune(len(answer))) + answer
}

// TestHostileGuest talks to what only pretends to be a guest.
func TestHostileGuest(t *testing.T) {
	tests := []struct{ name, says string }{
		{"silence then end", ""},
		{"text", "runtime exec failed: no such container\n"},
		{"mux noise", strings.Repeat("\x00\x02\x00\x01\x00\x00\x00\x00\x00\x00\x00\x01", 1000)},
		{"a frame for a stream that is not", "\x00\x00\x00\x00\x00\x00\x00\x63\xff\xff\xff\xff" + strings.Repeat("x", 1000)},
		{"an endless answer", pretend("h\xff\xff\xff\xff")},
		{"an answer that is no JSON", pretend("h\x00\x00\x00\x01x")},
		{"another version", pretend("h\x00\x00\x00\x1f" + `{"r":{"version":99,"boot":"x"}}`)},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			dial := func(context.Context) (net.Conn, error) {
				ours, theirs := net.Pipe()
				go func() {
					defer theirs.Close()
					go theirs.Write([]byte(tt.says))
					buf := make([]byte, 4096)
					theirs.SetReadDeadline(time.Now().Add(50 * time.Millisecond))
					for {
						if _, err := theirs.Read(buf); err != nil {
							return
						}
					}
				}()
				return ours, nil
			}
			ctx, cancel := context.WithTimeout(context.Background(), 300*time.Millisecond)
			defer cancel()
			if l, err := guest.Open(ctx, dial, guest.Options{}); err == nil {
				l.Close()
				t.Error("it was taken for a guest")
			} else {
				t.Log(err)
			}
		})
	}
}
