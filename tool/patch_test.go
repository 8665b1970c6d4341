package tool

import (
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
	"github.com/rogpeppe/go-internal/diff"
	"pgregory.net/rapid"

	"github.com/errand-dev/errand/guest"
)

const app = `package app

import "fmt"

func Hello(name string) string {
	greeting := "Hello"
	return fmt.Sprint(greeting, name)
}

func Bye(name string) string {
	greeting := "Bye"
	return fmt.Sprint(greeting, name)
}
`

// patched applies a patch that concerns one file to its content.
func patched(t *testing.T, content, patch string) (string, error) {
	t.Helper()
	files, err := parsePatch(patch)
	if err != nil {
		return "", err
	}
	if len(files) != 1 {
		t.Fatalf("patch has %d files, want 1", len(files))
	}
	return applyHunks(content, files[0].hunks)
}

func TestPatchApplies(t *testing.T) {
	hello := strings.Replace(app, `"Hello"`, `"Hi"`, 1)
	bye := strings.Replace(app, `fmt.Sprint(greeting, name)
}

func Bye`, `fmt.Sprint(greeting, name)
}

// Bye takes leave.
func Bye`, 1)
	tests := []struct {
		name, content, patch, want string
	}{
		{"plain", app, `*** Begin Patch
*** Update File: app.go
@@
 func Hello(name string) string {
-	greeting := "Hello"
+	greeting := "Hi"
*** End Patch`, hello},
		{"without the frame", app, `*** Update File: app.go
-	greeting := "Hello"
+	greeting := "Hi"
`, hello},
		{"in a heredoc", app, `apply_patch <<'EOF'
*** Begin Patch
*** Update File: app.go
-	greeting := "Hello"
+	greeting := "Hi"
*** End Patch
EOF`, hello},
		{"unified", app, `--- a/app.go
+++ b/app.go
@@ -4,3 +4,3 @@ import "fmt"
 
 func Hello(name string) string {
-	greeting := "Hello"
+	greeting := "Hi"
`, hello},
		{"unified with wrong numbers", app, `diff --git a/app.go b/app.go
index 123..456 100644
--- a/app.go
+++ b/app.go
@@ -40,9 +44,1 @@
 func Hello(name string) string {
-	greeting := "Hello"
+	greeting := "Hi"
`, hello},
		{"in a fence", app, "```diff\n--- a/app.go\n+++ b/app.go\n@@ -6,1 +6,1 @@\n-\tgreeting := \"Hello\"\n+\tgreeting := \"Hi\"\n```", hello},
		{"white space at the ends of lines", app, "*** Update File: app.go\n func Hello(name string) string { \t\n-\tgreeting := \"Hello\"  \n+\tgreeting := \"Hi\"\n", hello},
		{"indentation lost", app, `*** Update File: app.go
 func Hello(name string) string {
-greeting := "Hello"
+greeting := "Hi"
 return fmt.Sprint(greeting, name)
`, hello},
		{"typographic quotes", app, `*** Update File: app.go
-	greeting := “Hello”
+	greeting := "Hi"
`, hello},
		{"outer context is wrong", app, `*** Update File: app.go
 // This line is not there.
 func Hello(name string) string {
-	greeting := "Hello"
+	greeting := "Hi"
 	return something else
`, hello},
		{"header names the function", app, `*** Update File: app.go
@@ func Bye(name string) string {
 	greeting := "Bye"
-	return fmt.Sprint(greeting, name)
+	return greeting
`, strings.Replace(app, "\treturn fmt.Sprint(greeting, name)\n}\n", "\treturn fmt.Sprint(greeting, name)\n}\n", 1)[:strings.LastIndex(app, "\treturn")] + "\treturn greeting\n}\n"},
		{"insertion under a header", app, `*** Update File: app.go
@@ import "fmt"
+
+const x = 1
`, strings.Replace(app, "import \"fmt\"\n", "import \"fmt\"\n\nconst x = 1\n", 1)},
		{"second of two like places by order", "a\nx\nb\nx\n", `*** Update File: f
 b
-x
+y
`, "a\nx\nb\ny\n"},
		{"line number decides", "x\nx\nx\n", "--- f\n+++ f\n@@ -2 +2 @@\n-x\n+y\n", "x\ny\nx\n"},
		{"at the end", "x\nm\nx\n", "*** Update File: f\n-x\n+y\n*** End of File\n", "x\nm\ny\n"},
		{"carriage returns stay", "a\r\nb\r\nc\r\n", "*** Update File: f\n a\n-b\n+B\n+bb\n c\n", "a\r\nB\r\nbb\r\nc\r\n"},
		{"no newline at the end stays", "a\nb", "*** Update File: f\n-b\n+c\n", "a\nc"},
		{"newline at the end comes", "a\nb", "--- f\n+++ f\n@@ -1,2 +1,2 @@\n a\n-b\n\\ No newline at end of file\n+b\n", "a\nb\n"},
		{"newline at the end goes", "a\nb\n", "--- f\n+++ f\n@@ -1,2 +1,2 @@\n a\n-b\n+c\n\\ No newline at end of file\n", "a\nc"},
		{"into an empty file", "", "--- f\n+++ f\n@@ -0,0 +1 @@\n+a\n", "a\n"},
		{"appended by number", "a\n", "--- f\n+++ f\n@@ -1,0 +2 @@\n+b\n", "a\nb\n"},
		{"context without its space", app, "*** Update File: app.go\n }\n\n+// Bye takes leave.\n func Bye(name string) string {\n", bye},
		{"hunks out of order", "a\nb\nc\nd\n", "*** Update File: f\n@@\n-d\n+D\n@@\n-a\n+A\n", "A\nb\nc\nD\n"},
		{"removed line that looks like a header", "-- old\nx\n", "--- f\n+++ f\n@@ -1,2 +1,1 @@\n--- old\n x\n", "x\n"},
	}
	for _, test := range tests {
		t.Run(test.name, func(t *testing.T) {
			got, err := patched(t, test.content, test.patch)
			if err != nil {
				t.Fatal(err)
			}
			if d := cmp.Diff(test.want, got); d != "" {
				t.Errorf("wrong content (-want +got):\n%s", d)
			}
		})
	}
}

func TestPatchRefused(t *testing.T) {
	tests := []struct {
		name, content, patch, want string
	}{
		{"two places", app, "*** Update File: app.go\n-\treturn fmt.Sprint(greeting, name)\n+\treturn greeting\n", "fits in 2 places (lines 7, 12)"},
		{"two places, white space differs", app, "*** Update File: app.go\n-return fmt.Sprint(greeting, name)\n+return greeting\n", "fits in 2 places"},
		{"nowhere", app, "*** Update File: app.go\n-\tpanic(1)\n+\tpanic(2)\n", "Read the file again"},
		{"nearly", app, "*** Update File: app.go\n func Hello(name string) string {\n-\tgreeting := \"Hallo\"\n+\tgreeting := \"Hi\"\n", `line 6 of the file is`},
		{"no such header", app, "*** Update File: app.go\n@@ func Nope() {\n-\tgreeting := \"Hello\"\n+\tx\n", `"func Nope() {" is not in the file`},
		{"only adds, nowhere", app, "*** Update File: app.go\n@@\n+x\n", "does not say where"},
		{"changes nothing", app, "*** Update File: app.go\n@@\n import \"fmt\"\n", "no line that begins with + or -"},
		{"no section", app, "hello", "it names no file"},
		{"bad line", app, "*** Begin Patch\n*** Update File: f\n@@\n-x\nfoo\n+y\n*** End Patch", `line 5: "foo" begins with neither`},
		{"hunk without a file", app, "@@ -1 +1 @@\n-x\n+y\n", "before any file is named"},
		{"same lines twice", "a\nb\n", "*** Update File: f\n@@\n-a\n+A\n@@\n-a\n+B\n", "change the same lines"},
		{"unclear indentation", "  a\n\tb\n", "*** Update File: f\n a\n-b\n+    c\n", "white space is ignored"},
	}
	for _, test := range tests {
		t.Run(test.name, func(t *testing.T) {
			got, err := patched(t, test.content, test.patch)
			if err == nil || !strings.Contains(err.Error(), test.want) {
				t.Errorf("got %q and error %v, want an error with %q", got, err, test.want)
			}
		})
	}
}

func TestPatchFiles(t *testing.T) {
	tests := []struct {
		name, patch string
		want        []filePatch
	}{
		{"sections", `*** Begin Patch
*** Add File: new.txt
+one
+two

*** Delete File: gone.txt
*** Update File: old.txt
*** Move to: dir/moved.txt
*** End Patch`, []filePatch{
			{kind: guest.ChangeCreate, path: "new.txt", content: "one\ntwo\n"},
			{kind: guest.ChangeDelete, path: "gone.txt"},
			{kind: guest.ChangeMove, path: "old.txt", to: "dir/moved.txt"},
		}},
		{"unified", `diff --git a/run.sh b/run.sh
new file mode 100755
index 000..111
--- /dev/null
+++ b/run.sh
@@ -0,0 +1,1 @@
+#!/bin/sh
\ No newline at end of file
diff --git a/gone b/gone
deleted file mode 100644
--- a/gone
+++ /dev/null
@@ -1 +0,0 @@
-x
diff --git a/from.txt b/to.txt
similarity index 100%
rename from from.txt
rename to to.txt
`, []filePatch{
			{kind: guest.ChangeCreate, path: "run.sh", content: "#!/bin/sh", mode: 0o755},
			{kind: guest.ChangeDelete, path: "gone"},
			{kind: guest.ChangeMove, path: "from.txt", to: "to.txt"},
		}},
	}
	for _, test := range tests {
		t.Run(test.name, func(t *testing.T) {
			got, err := parsePatch(test.patch)
			if err != nil {
				t.Fatal(err)
			}
			for i := range got {
				if got[i].kind == guest.ChangeDelete {
					got[i].mode = 0
				}
			}
			if d := cmp.Diff(test.want, got, cmp.AllowUnexported(filePatch{}, hunk{}, hunkLine{})); d != "" {
				t.Errorf("wrong files (-want +got):\n%s", d)
			}
		})
	}
}

// A diff of any two texts turns the one into the other, however much the lines
// repeat, since it says where they are.
func TestPatchRoundTrip(t *testing.T) {
	lines := rapid.Custom(func(t *rapid.T) string {
		words := rapid.SliceOfN(rapid.SampledFrom([]string{"", "a", "\tb", "  c", "}", "-- d", "+e", "@@"}), 0, 30).Draw(t, "lines")
		text := strings.Join(words, "\n")
		if text != "" && rapid.Bool().Draw(t, "newline") {
			text += "\n"
		}
		return text
	})
	rapid.Check(t, func(t *rapid.T) {
		from, to := lines.Draw(t, "from"), lines.Draw(t, "to")
		if from == to || from == "" {
			t.Skip("nothing to patch")
		}
		patch := string(diff.Diff("f", []byte(from), "f", []byte(to)))
		files, err := parsePatch(patch)
		if err != nil {
			t.Fatalf("%v\n%s", err, patch)
		}
		got, err := applyHunks(from, files[0].hunks)
		if err != nil {
			t.Fatalf("%v\n%s", err, patch)
		}
		if got != to {
			t.Fatalf("got %q, want %q, of %q by\n%s", got, to, from, patch)
		}
	})
}
