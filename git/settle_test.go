package git

import (
	"os"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
	"github.com/google/go-cmp/cmp/cmpopts"

	"github.com/errand-dev/errand"
)

func TestSettle(t *testing.T) {
	t.Parallel()
	tests := []struct {
		name    string
		do      func(t *testing.T, box *machine)
		settle  Settle
		commit  *errand.CommitData // without its id
		changed string             // git diff --name-status of the commit
		notices []string           // part of each
		status  string             // afterwards
	}{
		{name: "nothing to do"},
		{name: "changed, new and deleted files",
			do: func(t *testing.T, box *machine) {
				write(t, box.dir+"/README.md", "changed\n")
				write(t, box.dir+"/new/-dash ü\tx", "new\n")
				write(t, box.dir+"/node_modules/x", "ignored\n")
				_ = os.Remove(box.dir + "/src/a.go")
			},
			settle:  Settle{Title: "  Do it\nand more"},
			commit:  &errand.CommitData{Title: "Do it", Files: 3},
			changed: "M\tREADME.md\nA\t\"new/-dash \\303\\274\\tx\"\nD\tsrc/a.go"},
		{name: "a large file is left out",
			do: func(t *testing.T, box *machine) {
				write(t, box.dir+"/small", "x")
				write(t, box.dir+"/sub/large 'one'*", strings.Repeat("x", 1001))
				write(t, box.dir+"/README.md", strings.Repeat("x", 1001))
			},
			settle:  Settle{MaxFile: 1000},
			commit:  &errand.CommitData{Title: "Work in progress", Files: 1},
			changed: "A\tsmall",
			notices: []string{"sub/large 'one'* is larger than 1000 bytes", "README.md is larger than 1000 bytes"},
			status:  "M README.md\n?? sub/"},
		{name: "only a large file",
			do:      func(t *testing.T, box *machine) { write(t, box.dir+"/large", strings.Repeat("x", 1001)) },
			settle:  Settle{MaxFile: 1000},
			notices: []string{"large is larger than"}, status: "?? large"},
		{name: "a repository inside",
			do: func(t *testing.T, box *machine) {
				git(t, "/", "init", "-q", box.dir+"/inner one")
				git(t, box.dir+"/inner one", "commit", "-q", "--allow-empty", "-m", "x")
				write(t, box.dir+"/small", "x")
			},
			commit:  &errand.CommitData{Title: "Work in progress", Files: 1},
			changed: "A\tsmall",
			notices: []string{"inner one/ is a repository of its own"}, status: "?? \"inner one/\""},
		{name: "hooks that fail and filters",
			do: func(t *testing.T, box *machine) {
				for _, hook := range []string{"pre-commit", "commit-msg", "prepare-commit-msg", "post-commit"} {
					write(t, box.dir+"/.husky/"+hook, "#!/bin/sh\nexit 1\n")
					_ = os.Chmod(box.dir+"/.husky/"+hook, 0o755)
				}
				box.mustGit("config", "core.hooksPath", ".husky")
			},
			commit:  &errand.CommitData{Title: "Work in progress", Files: 4},
			changed: "A\t.husky/commit-msg\nA\t.husky/post-commit\nA\t.husky/pre-commit\nA\t.husky/prepare-commit-msg"},
		{name: "a merge with conflicts",
			do: func(t *testing.T, box *machine) {
				box.mustGit("checkout", "-q", "-b", "side")
				box.commit("README.md", "side\n")
				box.mustGit("checkout", "-q", ownBranch)
				box.commit("README.md", "own\n")
				_, _ = box.git("merge", "side")
			},
			notices: []string{"A merge with conflicts was left unfinished"}, status: "UU README.md"},
		{name: "a merge without",
			do: func(t *testing.T, box *machine) {
				box.mustGit("checkout", "-q", "-b", "side")
				box.commit("side", "side\n")
				box.mustGit("checkout", "-q", ownBranch)
				box.commit("own", "own\n")
				box.mustGit("merge", "-q", "--no-commit", "side")
			},
			commit: &errand.CommitData{Title: "Work in progress", Files: 1}},
		{name: "a rebase under way",
			do: func(t *testing.T, box *machine) {
				box.mustGit("checkout", "-q", "-b", "side")
				box.commit("README.md", "side\n")
				box.mustGit("checkout", "-q", ownBranch)
				box.commit("README.md", "own\n")
				_, _ = box.git("rebase", "side")
			},
			notices: []string{"A rebase was left unfinished"}, status: "UU README.md"},
		{name: "the lock of a git that was killed",
			do: func(t *testing.T, box *machine) {
				write(t, box.dir+"/.git/index.lock", "")
				write(t, box.dir+"/small", "x")
			},
			commit: &errand.CommitData{Title: "Work in progress", Files: 1}, changed: "A\tsmall"},
		{name: "a filter that is missing",
			do: func(t *testing.T, box *machine) {
				box.mustGit("config", "filter.x.clean", "no-such-program")
				box.mustGit("config", "filter.x.required", "true")
				write(t, box.dir+"/.gitattributes", "*.x filter=x\n")
				write(t, box.dir+"/a.x", "x")
				write(t, box.dir+"/small", "x")
			},
			commit:  &errand.CommitData{Title: "Work in progress", Files: 2},
			changed: "A\t.gitattributes\nA\tsmall",
			notices: []string{"Some files could not be added"}, status: "?? a.x"},
		{name: "deleted large file",
			do:     func(t *testing.T, box *machine) { _ = os.Remove(box.dir + "/README.md") },
			commit: &errand.CommitData{Title: "Work in progress", Files: 1}, changed: "D\tREADME.md"},
	}
	bare, _ := newRemote(t)
	m := newMirrors(t, Options{})
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			box, _ := working(t, m, Grant{URL: bare, Branch: ownBranch})
			before := box.mustGit("rev-parse", "HEAD")
			if tt.do != nil {
				tt.do(t, box)
			}
			tt.settle.Dir, tt.settle.Branch, tt.settle.CoAuthor = box.dir, ownBranch, Person{"Cara", "c@example.com"}
			got := ParseSettled(box.mustSh(SettleScript(tt.settle)))
			if diff := cmp.Diff(tt.commit, got.Commit, cmpopts.IgnoreFields(errand.CommitData{}, "Commit")); diff != "" {
				t.Errorf("commit (-want +got)\n%s", diff)
			}
			if got.Commit != nil {
				if head := box.mustGit("rev-parse", "HEAD"); got.Commit.Commit != head || got.Head != head {
					t.Errorf("told %+v, HEAD is %s", got, head)
				}
				if text := box.mustGit("log", "-1", "--format=%B"); strings.Count(text, "Co-authored-by: Cara <c@example.com>") != 1 {
					t.Errorf("message %q", text)
				}
				if tt.changed != "" {
					if diff := cmp.Diff(tt.changed, box.mustGit("diff", "--name-status", before, "HEAD")); diff != "" {
						t.Errorf("changed (-want +got)\n%s", diff)
					}
				}
			}
			if len(got.Notices) != len(tt.notices) {
				t.Errorf("notices %q, want %q", got.Notices, tt.notices)
			}
			for i, want := range tt.notices {
				if i < len(got.Notices) && !strings.Contains(got.Notices[i], want) {
					t.Errorf("notice %q, want %q", got.Notices[i], want)
				}
			}
			if status := box.mustGit("status", "--porcelain"); status != tt.status {
				t.Errorf("status %q, want %q", status, tt.status)
			}
			// Again, there is nothing to do.
			if again := ParseSettled(box.mustSh(SettleScript(tt.settle))); again.Commit != nil {
				t.Errorf("settled again: %+v", again)
			}
		})
	}
}

func TestSettleWithoutARepository(t *testing.T) {
	t.Parallel()
	box := newMachine(t)
	if err := os.Mkdir(box.dir, 0o755); err != nil {
		t.Fatal(err)
	}
	if got := ParseSettled(box.mustSh(SettleScript(Settle{Dir: box.dir}))); !cmp.Equal(got, Settled{}) {
		t.Errorf("got %+v", got)
	}
}

// Where the agent stood when it ended decides what is pushed as its branch.
func TestPushScript(t *testing.T) {
	t.Parallel()
	tests := []struct {
		name    string
		do      func(box *machine)
		want    string // a revision in the machine
		notices int
	}{
		{"on the branch", func(box *machine) { box.commit("a", "a") }, ownBranch, 0},
		{"nothing new", func(*machine) {}, ownBranch, 0},
		{"on another branch on top", func(box *machine) {
			box.commit("a", "a")
			box.mustGit("checkout", "-q", "-b", "feature")
			box.commit("b", "b")
		}, "feature", 0},
		{"detached on top", func(box *machine) { box.mustGit("checkout", "-q", "--detach"); box.commit("b", "b") }, "HEAD", 0},
		{"back on the base", func(box *machine) { box.commit("a", "a"); box.mustGit("checkout", "-q", "main") }, ownBranch, 0},
		{"somewhere else", func(box *machine) {
			box.commit("a", "a")
			box.mustGit("checkout", "-q", "main")
			box.commit("b", "b")
		}, ownBranch, 1},
		{"branch deleted", func(box *machine) {
			box.mustGit("checkout", "-q", "main")
			box.mustGit("branch", "-q", "-D", ownBranch)
			box.commit("b", "b")
		}, "main", 0},
		{"a pre-push hook that fails", func(box *machine) {
			box.commit("a", "a")
			write(box.t, box.dir+"/.git/hooks/pre-push", "#!/bin/sh\nexit 1\n")
			_ = os.Chmod(box.dir+"/.git/hooks/pre-push", 0o755)
		}, ownBranch, 0},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			bare, _ := newRemote(t)
			m := newMirrors(t, Options{})
			box, _ := working(t, m, Grant{URL: bare, Branch: ownBranch})
			tt.do(box)
			want := box.mustGit("rev-parse", tt.want)
			for range 2 {
				got := ParseSettled(box.mustSh(PushScript(box.dir, ownBranch)))
				if got.Head != want || got.Branch != ownBranch || len(got.Notices) != tt.notices {
					t.Errorf("told %+v, want %s", got, want)
				}
				if at := git(t, bare, "rev-parse", ownBranch); at != want {
					t.Errorf("remote at %s, want %s", at, want)
				}
			}
		})
	}
}

func TestParseSettledOfGarbage(t *testing.T) {
	t.Parallel()
	long := strings.Repeat("x", 10_000)
	got := ParseSettled("errand-commit nonsense 1 x\nerrand-head ; rm\nerrand-notice \nrubbish\nerrand-notice " + long + "\n" + strings.Repeat("errand-notice x\n", 100) + "errand-commit abc")
	if got.Commit != nil || got.Head != "" || got.Branch != "" || len(got.Notices) != 50 || len(got.Notices[0]) != 500 {
		t.Errorf("got %+v", got)
	}
}
