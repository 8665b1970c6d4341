package kms_test

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"net/url"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/errand-dev/errand"
	"github.com/errand-dev/errand/secret"
	"github.com/errand-dev/errand/secret/kms"
)

// TestMain is the program's other end when the tests start themselves as it.
func TestMain(m *testing.M) {
	if len(os.Args) > 1 && os.Args[1] == "as-program" {
		err := kms.Serve(struct {
			io.ReadCloser
			io.Writer
		}{os.Stdin, os.Stdout}, map[string]kms.Opener{"turned": turned})
		fmt.Fprint(os.Stderr, err)
		os.Exit(0)
	}
	os.Exit(m.Run())
}

// turned opens a key that turns each byte round, and tells its process as its
// version.
func turned(_ context.Context, u *url.URL) (*secret.KEK, error) {
	if u.Host == "nobody" {
		return nil, errand.Errorf(errand.Unavailable, "key_lost", "The key %s is not there.", u)
	}
	turn := func(b []byte) []byte {
		out := bytes.Clone(b)
		for i := range out {
			out[i] ^= 0xff
		}
		return out
	}
	return &secret.KEK{
		Name: u.String(),
		Wrap: func(ctx context.Context, key []byte) ([]byte, string, error) {
			switch u.Host {
			case "slow":
				<-ctx.Done()
				return nil, "", ctx.Err()
			case "dies":
				fmt.Fprint(os.Stderr, "out of luck")
				os.Exit(3)
			case "dies-once":
				if err := os.Mkdir(u.Path, 0o700); err == nil {
					os.Exit(3)
				}
			}
			return turn(key), fmt.Sprint(os.Getpid()), nil
		},
		Unwrap: func(_ context.Context, wrapped []byte, version string) ([]byte, error) {
			if version == "" {
				return nil, errors.New("which version?")
			}
			return turn(wrapped), nil
		},
	}, nil
}

func program(t *testing.T) *kms.Program {
	t.Helper()
	self, err := os.Executable()
	if err != nil {
		t.Fatal(err)
	}
	p := kms.NewProgram(self, "as-program")
	t.Cleanup(func() {
		if err := p.Close(); err != nil {
			t.Error(err)
		}
	})
	return p
}

func open(t *testing.T, p *kms.Program, name string) *secret.KEK {
	t.Helper()
	k, err := kms.Find(map[string]kms.Opener{"": p.Open})(t.Context(), name)
	if err != nil {
		t.Fatal(err)
	}
	return k
}

// TestProgram wraps and unwraps in another process, which is one for all.
func TestProgram(t *testing.T) {
	p := program(t)
	k := open(t, p, "turned://here")
	var wg sync.WaitGroup
	versions := make([]string, 8)
	for i := range versions {
		wg.Go(func() {
			key := bytes.Repeat([]byte{byte(i)}, 32)
			wrapped, version, err := k.Wrap(t.Context(), key)
			if err != nil || bytes.Equal(wrapped, key) {
				t.Errorf("wrapped: %x, %v", wrapped, err)
			}
			if got, err := k.Unwrap(t.Context(), wrapped, version); err != nil || !bytes.Equal(got, key) {
				t.Errorf("unwrapped: %x, %v", got, err)
			}
			versions[i] = version
		})
	}
	wg.Wait()
	for _, v := range versions {
		if v != versions[0] || v == fmt.Sprint(os.Getpid()) {
			t.Errorf("processes %v answered, want one that is not %d", versions, os.Getpid())
		}
	}
	if _, err := k.Unwrap(t.Context(), []byte{1}, ""); err == nil || err.Error() != "which version?" {
		t.Errorf("an error came over as %v", err)
	}
	_, _, err := open(t, p, "turned://nobody").Wrap(t.Context(), []byte{1})
	if e := errand.AsError(err); e.Kind != errand.Unavailable || e.Code != "key_lost" || e.Message != "The key turned://nobody is not there." {
		t.Errorf("a lost key came over as %+v", e)
	}
	if _, _, err := open(t, p, "ftp://x").Wrap(t.Context(), []byte{1}); err == nil || !strings.Contains(err.Error(), `kind "ftp"`) {
		t.Errorf("an unknown scheme gave %v", err)
	}
}

// TestProgramEnds has the program die under a call, once and each time.
func TestProgramEnds(t *testing.T) {
	p := program(t)
	once := open(t, p, "turned://dies-once"+filepath.Join(t.TempDir(), "died"))
	if _, version, err := once.Wrap(t.Context(), []byte{1}); err != nil || version == "" {
		t.Errorf("after one death: version %q, %v", version, err)
	}
	if _, _, err := open(t, p, "turned://dies").Wrap(t.Context(), []byte{1}); err == nil || !strings.Contains(err.Error(), "out of luck") {
		t.Errorf("a program that always dies gave %v", err)
	}
	if _, _, err := open(t, p, "turned://here").Wrap(t.Context(), []byte{1}); err != nil {
		t.Errorf("after all that: %v", err)
	}
}

// TestProgramIsSlow has a keeper that never answers: the caller's limit holds.
func TestProgramIsSlow(t *testing.T) {
	k := open(t, program(t), "turned://slow")
	ctx, cancel := context.WithTimeout(t.Context(), 50*time.Millisecond)
	defer cancel()
	if _, _, err := k.Wrap(ctx, []byte{1}); err == nil || err.Error() != context.DeadlineExceeded.Error() {
		t.Errorf("gave %v", err)
	}
}

func TestProgramIsMissing(t *testing.T) {
	if _, err := kms.NewProgram("").Open(t.Context(), &url.URL{Scheme: "awskms"}); errand.KindOf(err) != errand.Unavailable || !strings.Contains(err.Error(), "errand-kms") {
		t.Errorf("without the program: %v", err)
	}
	p := program(t)
	k := open(t, p, "turned://here")
	if err := p.Close(); err != nil {
		t.Fatal(err)
	}
	if _, _, err := k.Wrap(t.Context(), []byte{1}); err == nil {
		t.Error("a closed program wraps")
	}
}
