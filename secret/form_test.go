package secret_test

import (
	"archive/zip"
	"bytes"
	"compress/gzip"
	"compress/zlib"
	"encoding/base64"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"math/rand/v2"
	"net/url"
	"slices"
	"strings"
	"testing"
	"testing/iotest"
	"unicode/utf8"

	"github.com/google/go-cmp/cmp"
	"pgregory.net/rapid"

	"github.com/errand-dev/errand/secret"
)

const key = "s3cr3t/Value+with=\"quotes\" & a\\slash_0123456789"

// wrap breaks a text after each n characters, as fold and base64 do.
func wrap(s string, n int, with string) string {
	var b strings.Builder
	for i := 0; i < len(s); i += n {
		b.WriteString(s[i:min(len(s), i+n)] + with)
	}
	return b.String()
}

func TestForms(t *testing.T) {
	inJSON, err := json.Marshal(map[string]string{"token": key})
	if err != nil {
		t.Fatal(err)
	}
	nested, err := json.Marshal(map[string]string{"args": string(inJSON)})
	if err != nil {
		t.Fatal(err)
	}
	percent := ""
	for _, c := range []byte(key) {
		percent += fmt.Sprintf("%%%02x", c)
	}
	texts := map[string]string{
		"plain":                key,
		"each on its own line": wrap(key, 1, "\n"),
		"folded":               wrap(key, 7, "\n"),
		"folded and indented":  wrap(key, 9, "\r\n\t    "),
		"in a diff":            wrap(key, 9, "\n+"),
		"quoted":               "> " + wrap(key, 9, "\n> "),
		"in colours":           key[:10] + "\x1b[01;31m\x1b[K" + key[10:20] + "\x1b[m" + key[20:],
		"JSON":                 string(inJSON),
		"JSON in JSON":         string(nested),
		"wrapped in JSON":      strings.ReplaceAll(fmt.Sprintf("%q", wrap(strings.ReplaceAll(key, `"`, "'"), 9, "\n")), "'", `\"`),
		"query":                "?a=" + url.QueryEscape(key),
		"path":                 url.PathEscape(key),
		"each byte escaped":    percent,
		"HTML":                 strings.NewReplacer("&", "&amp;", `"`, "&quot;").Replace(key),
		"hex":                  hex.EncodeToString([]byte(key)),
		"HEX":                  strings.ToUpper(hex.EncodeToString([]byte(key))),
		"hex in pairs":         wrap(hex.EncodeToString([]byte(key)), 2, " "),
		"continued":            wrap(strings.ReplaceAll(key, `\`, `\\`), 9, "\\\n"),
	}
	for skip := range 4 {
		before := strings.Repeat("x", skip)
		for name, enc := range map[string]*base64.Encoding{"base64": base64.StdEncoding, "base64url": base64.RawURLEncoding} {
			s := enc.EncodeToString([]byte(before + key + "yz"))
			texts[fmt.Sprint(name, " after ", skip)] = s
			texts[fmt.Sprint(name, " wrapped after ", skip)] = wrap(s, 19, "\n")
			texts[fmt.Sprint(name, " twice after ", skip)] = enc.EncodeToString([]byte(before + s))
		}
	}
	var r secret.Redactor
	r.Add(key)
	for name, text := range texts {
		t.Run(name, func(t *testing.T) {
			got := r.String("before " + text + " after")
			if !strings.HasPrefix(got, "before ") || !strings.HasSuffix(got, " after") || !strings.Contains(got, secret.Redacted) {
				t.Fatalf("%q became %q", text, got)
			}
			if left := len(got) - len("before  after"+secret.Redacted); left > 28 { // JSON's and base64's own
				t.Errorf("%q became %q, which has too much left of it", text, got)
			}
		})
	}
}

// TestWhatIsNotSecretStays has words that only look like a value.
// TestBase64ToTheEnd: of a value that was encoded alone, or as a line, no
// character stays, whatever its length.
func TestBase64ToTheEnd(t *testing.T) {
	for n := range 3 {
		value := key + strings.Repeat("v", n)
		r := new(secret.Redactor)
		r.Add(value)
		for _, end := range []string{"", "\n"} {
			for name, enc := range map[string]*base64.Encoding{"std": base64.StdEncoding, "url": base64.URLEncoding, "raw": base64.RawURLEncoding} {
				text := "is: " + wrap(enc.EncodeToString([]byte(value+end)), 20, "\n") + "."
				want := "is: " + secret.Redacted
				var streamed strings.Builder
				w := r.Stream(&streamed)
				if _, err := io.Copy(w, iotest.OneByteReader(strings.NewReader(text))); err != nil {
					t.Fatal(err)
				}
				if err := w.Flush(); err != nil {
					t.Fatal(err)
				}
				for _, got := range []string{r.String(text), streamed.String()} {
					if strings.TrimRight(got, "\n.") != want {
						t.Errorf("%s of %d bytes, end %q: %q", name, len(value), end, got)
					}
				}
			}
		}
	}
}

func TestWhatIsNotSecretStays(t *testing.T) {
	var r secret.Redactor
	r.Add("asking", "tiny", "a b c", "        ")
	for _, text := range []string{"he was king", "tiny", "a b c abc", "", "        x", "ask ing"} {
		if got := r.String(text); got != text {
			t.Errorf("%q became %q", text, got)
		}
	}
	if got := r.String("as\n  king"); got != secret.Redacted {
		t.Errorf("over a line break it became %q", got)
	}
}

// TestStreamEqualsWhole cuts texts anywhere: what a Stream lets through is what
// is left of the whole.
func TestStreamEqualsWhole(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		var r secret.Redactor
		r.Add("hunter2-is-long", "another secret value")
		parts := rapid.SliceOf(rapid.SampledFrom([]string{"hunter2-is-long", "hunter2-", "is-long", "another secret", " value", "x", "\n", "  ", "aHVudGVyMi1pcy1sb25n", "\\n", "%", "\x1b[0m"})).Draw(t, "parts")
		text := strings.Join(parts, "")
		var out bytes.Buffer
		s := r.Stream(&out)
		for at := 0; at < len(text); {
			n := rapid.IntRange(1, len(text)-at).Draw(t, "length")
			if _, err := s.Write([]byte(text[at : at+n])); err != nil {
				t.Fatal(err)
			}
			at += n
		}
		if err := s.Flush(); err != nil {
			t.Fatal(err)
		}
		for _, form := range []string{"hunter2-is-long", "another secret value", "aHVudGVyMi1pcy1sb25n", "unter2-is-long", "nother secret value"} {
			if strings.Contains(out.String(), form) {
				t.Fatalf("%q came through as %q", text, out.String())
			}
		}
	})
}

// TestScreenInAnyPieces cuts texts anywhere: of no secret more than the first
// three characters come through.
func TestScreenInAnyPieces(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		var r secret.Redactor
		r.Add("hunter2-is-long", "another secret value")
		parts := rapid.SliceOf(rapid.SampledFrom([]string{"hunter2-is-long", "hunter2-", "is-long", "another secret", " value", "x", "\r\n", "aHVudGVyMi1pcy1sb25n", "%", "\x1b[0m", "\x1b[3;4H"})).Draw(t, "parts")
		text := strings.Join(parts, "")
		var out bytes.Buffer
		s := r.Screen(&out)
		for at := 0; at < len(text); {
			n := rapid.IntRange(1, len(text)-at).Draw(t, "length")
			if _, err := s.Write([]byte(text[at : at+n])); err != nil {
				t.Fatal(err)
			}
			at += n
		}
		if err := s.Flush(); err != nil {
			t.Fatal(err)
		}
		for _, form := range []string{"ter2-is-long", "ther secret value", "udGVyMi1pcy1sb25n"} {
			if strings.Contains(out.String(), form) {
				t.Fatalf("%q came through as %q", text, out.String())
			}
		}
	})
}

// TestStreamShowsLines wants a line to be seen when it is whole, although it ends
// with what a secret begins with.
func TestStreamShowsLines(t *testing.T) {
	var r secret.Redactor
	r.Add("end-of-the-world")
	var out bytes.Buffer
	s := r.Stream(&out)
	for _, step := range []struct{ write, want string }{
		{"this is the end\n", "this is the end\n"}, // three characters are let go
		{"-of-the-world", "this is the end\n" + secret.Redacted},
		{" and end-of", "this is the end\n" + secret.Redacted + " and "},
		{"fice!\n", "this is the end\n" + secret.Redacted + " and end-office!\n"},
	} {
		if _, err := s.Write([]byte(step.write)); err != nil {
			t.Fatal(err)
		}
		if out.String() != step.want {
			t.Errorf("after %q there is %q, want %q", step.write, out.String(), step.want)
		}
	}
}

// TestScreenEchoes types ordinary text, one key at a time: each is seen at once,
// also where it looks like the beginning of an escape or of a secret.
func TestScreenEchoes(t *testing.T) {
	var r secret.Redactor
	r.Add("hunter2-is-long", "%40wn-secret")
	var out bytes.Buffer
	s := r.Screen(&out)
	text := "ls -l | grep '%' & echo \\ &am \x1b[1mhun\x1b[0m hunh hun\r\n100%4"
	for i := range len(text) {
		if _, err := s.Write([]byte{text[i]}); err != nil {
			t.Fatal(err)
		}
		if out.String() != text[:i+1] {
			t.Fatalf("after %q there is %q", text[:i+1], out.String())
		}
	}
	out.Reset()
	for _, step := range []struct{ write, want string }{
		{" hunt", " "}, // four characters of a secret wait
		{"ing", " hunting"},
	} {
		if _, err := s.Write([]byte(step.write)); err != nil {
			t.Fatal(err)
		}
		if out.String() != step.want {
			t.Errorf("after %q there is %q, want %q", step.write, out.String(), step.want)
		}
	}
}

// TestScreenKeepsItsShape writes over secrets what is as wide, and lets through
// what moves the cursor.
func TestScreenKeepsItsShape(t *testing.T) {
	for name, test := range map[string]struct{ text, want string }{
		"long":              {"<hunter2-is-long>", "<[REDACTED]*****>"},
		"short":             {"<héllo7>", "<[REDAC>"},
		"over two lines":    {"hunter2-\x1b[2;1Hi\x1b(B\x1b[ms-long\x1b[3;1H$ ", "[REDACTE\x1b[2;1HD\x1b(B\x1b[m]*****\x1b[3;1H$ "},
		"base64":            {"aHVudGVyMi1pcy1sb25n\r\n", "[REDACTED]**********\r\n"},
		"two of them":       {"hunter2-is-long hunter2-is-long\n", "[REDACTED]***** [REDACTED]*****\n"},
		"nothing of a kind": {"hunter2\x1b[K is short", "hunter2\x1b[K is short"},
	} {
		t.Run(name, func(t *testing.T) {
			var r secret.Redactor
			r.Add("hunter2-is-long", "héllo7")
			for _, size := range []int{len(test.text), 5, 1} {
				var out bytes.Buffer
				s := r.Screen(&out)
				for piece := range slices.Chunk([]byte(test.text), size) {
					if _, err := s.Write(piece); err != nil {
						t.Fatal(err)
					}
				}
				if err := s.Flush(); err != nil {
					t.Fatal(err)
				}
				if size == len(test.text) {
					if got := out.String(); got != test.want {
						t.Errorf("at once: %q, want %q", got, test.want)
					}
				} else if utf8.RuneCount(out.Bytes()) != utf8.RuneCountInString(test.want) || strings.Contains(out.String(), "ter2-") && name != "nothing of a kind" {
					t.Errorf("in pieces of %d: %q", size, out.String())
				}
			}
		})
	}
}

func TestFinder(t *testing.T) {
	f := secret.NewFinder(map[string][]string{"TOKEN": {"hunter2-is-long"}, "SHORT": {"abc"}, "OTHER": {"not here at all"}})
	var file bytes.Buffer
	for range 30_000 {
		file.WriteString("a line that says nothing of interest\n")
	}
	file.WriteString("it is hunter2-\n    is-long\nhunter2-is-long\n")
	found, err := f.Find(&file)
	if err != nil || len(found) != 1 || found[0] != (secret.Found{Name: "TOKEN", Line: 30_001}) {
		t.Errorf("found %+v, %v", found, err)
	}
	both := secret.NewFinder(map[string][]string{"OTHER": {"not here at all"}, "TOKEN": {"hunter2-is-long", "hunter1-was-long"}})
	found, err = both.Find(strings.NewReader("hunter1-was-long\nhunter2-is-long\n"))
	if want := []secret.Found{{Name: "TOKEN", Line: 1}, {Name: "TOKEN", Line: 2}}; err != nil || !slices.Equal(found, want) {
		t.Errorf("of two values of one name it found %+v, %v", found, err)
	}
	if secret.NewFinder(map[string][]string{"SHORT": {"abc"}}) != nil {
		t.Error("there is a finder for what cannot be found")
	}
}

// TestFinderAtEachEdge puts a value over the edge of what is read at once.
func TestFinderAtEachEdge(t *testing.T) {
	f := secret.NewFinder(map[string][]string{"TOKEN": {"hunter2-is-long"}})
	for shift := range 40 {
		text := strings.Repeat(".", 256<<10-20+shift) + "hunter2-\nis-long" + strings.Repeat(".", 100)
		if found, err := f.Find(strings.NewReader(text)); err != nil || len(found) != 1 {
			t.Fatalf("shifted by %d: found %+v, %v", shift, found, err)
		}
	}
}

// compressed gives what write makes of text.
func compressed(t *testing.T, write func(io.Writer) io.WriteCloser, text string) string {
	t.Helper()
	var b bytes.Buffer
	w := write(&b)
	if _, err := io.WriteString(w, text); err != nil {
		t.Fatal(err)
	}
	if err := w.Close(); err != nil {
		t.Fatal(err)
	}
	return b.String()
}

// zipped gives an archive of one member between two others.
func zipped(t *testing.T, method uint16, text string) string {
	t.Helper()
	var b bytes.Buffer
	w := zip.NewWriter(&b)
	for i, content := range []string{"nothing", text, strings.Repeat("of interest ", 100)} {
		f, err := w.CreateHeader(&zip.FileHeader{Name: fmt.Sprint(i, ".bin"), Method: method})
		if err != nil {
			t.Fatal(err)
		}
		if _, err := io.WriteString(f, content); err != nil {
			t.Fatal(err)
		}
	}
	if err := w.Flush(); err != nil {
		t.Fatal(err)
	}
	return b.String()
}

// TestFinderUnpacks hides a value in what is compressed.
func TestFinderUnpacks(t *testing.T) {
	f := secret.NewFinder(map[string][]string{"TOKEN": {"hunter2-is-long"}})
	gz := func(text string) string {
		return compressed(t, func(w io.Writer) io.WriteCloser { return gzip.NewWriter(w) }, text)
	}
	noise := make([]byte, 300<<10) // what hardly can be compressed
	rand.NewChaCha8([32]byte{}).Read(noise)
	text := "one\ntoken=hunter2-is-long\n"
	nested := gz(gz(gz(text)))
	bomb := gz(strings.Repeat("\x00", 4<<20) + text)
	for _, test := range []struct {
		name, text string
		want       []secret.Found
	}{
		{"gzip", gz(text), []secret.Found{{Name: "TOKEN", Packed: true}}},
		{"gzip, far in", gz(hex.EncodeToString(noise) + text + hex.EncodeToString(noise)), []secret.Found{{Name: "TOKEN", Packed: true}}},
		{"zlib", compressed(t, func(w io.Writer) io.WriteCloser { return zlib.NewWriter(w) }, text), []secret.Found{{Name: "TOKEN", Packed: true}}},
		{"zip", zipped(t, zip.Deflate, text), []secret.Found{{Name: "TOKEN", Packed: true}}},
		{"zip, stored", zipped(t, zip.Store, text), []secret.Found{{Name: "TOKEN", Line: 2}}},
		{"gzip in zip", zipped(t, zip.Deflate, gz(text)), []secret.Found{{Name: "TOKEN", Packed: true}}},
		{"three deep", nested, []secret.Found{{Name: "TOKEN", Packed: true}}},
		{"deeper than is looked", gz(nested), nil},
		{"more than is looked at", bomb, nil},
		{"damaged", gz(text)[:25], nil},
		{"only looks so", "\x1f\x8b\x08" + text, []secret.Found{{Name: "TOKEN", Line: 2}}},
		{"and so", "PK\x03\x04" + strings.Repeat("PK\x03\x04", 20) + text, []secret.Found{{Name: "TOKEN", Line: 2}}},
		{"behind it", gz("nothing") + text, []secret.Found{{Name: "TOKEN", Line: 2}}},
	} {
		t.Run(test.name, func(t *testing.T) {
			for _, r := range []io.Reader{strings.NewReader(test.text), iotest.OneByteReader(strings.NewReader(test.text))} {
				found, err := f.Find(r)
				if diff := cmp.Diff(test.want, found); err != nil || diff != "" {
					t.Errorf("%v (-want +got):\n%s", err, diff)
				}
				if len(test.text) > 100<<10 {
					break
				}
			}
		})
	}
	for _, text := range []string{gz(string(noise)), zipped(t, zip.Deflate, string(noise)), string(noise)} {
		failing := io.MultiReader(strings.NewReader(text[:100<<10]), iotest.ErrReader(io.ErrClosedPipe))
		if _, err := f.Find(failing); !errors.Is(err, io.ErrClosedPipe) {
			t.Errorf("a file that cannot be read gave %v", err)
		}
	}
}

func BenchmarkFinder(b *testing.B) {
	f := secret.NewFinder(map[string][]string{"TOKEN": {"hunter2-is-long"}})
	text := bytes.Repeat([]byte("npm http fetch GET 200 https://registry.npmjs.org/left-pad 34ms (cache hit)\n"), 140_000)
	b.SetBytes(int64(len(text)))
	for b.Loop() {
		if found, err := f.Find(bytes.NewReader(text)); err != nil || len(found) > 0 {
			b.Fatal(found, err)
		}
	}
}

func BenchmarkRedactor(b *testing.B) {
	var r secret.Redactor
	for i := range 500 {
		r.Add(fmt.Sprintf("secret-%d-%032x", i, i*i*7919))
	}
	plain := bytes.Repeat([]byte("npm http fetch GET 200 https://registry.npmjs.org/left-pad 34ms (cache hit)\n"), 14_000)
	diff := bytes.Repeat([]byte("+\tfmt.Printf(\"%d of %s\\n\", n, name) // a line of a patch\n"), 18_000)
	for name, text := range map[string][]byte{"log": plain, "diff": diff} {
		b.Run(name, func(b *testing.B) {
			s := string(text)
			b.SetBytes(int64(len(s)))
			for b.Loop() {
				if r.String(s) != s {
					b.Fatal("it was changed")
				}
			}
		})
	}
}
