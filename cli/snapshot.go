package cli

import (
	"cmp"
	"errors"
	"fmt"
	"io"
	"os"
	"strings"
	"time"

	"github.com/spf13/cobra"

	"github.com/errand-dev/errand"
)

func (a *app) snapshotCommand() *cobra.Command {
	cmd := &cobra.Command{
		Use: "snapshot", Aliases: []string{"snapshots"}, Short: "Snapshots: kept disks that machines start on",
		Long: `Kept disks that machines start on. SNAPSHOT is a name, a key, or the unique
beginning of a key.`,
	}
	return group(cmd, a.snapshotListCommand(), a.snapshotShowCommand(), a.snapshotNameCommand(), a.snapshotRemoveCommand(),
		a.snapshotExportCommand(), a.snapshotImportCommand(), a.snapshotCollectCommand())
}

func (a *app) snapshotListCommand() *cobra.Command {
	return &cobra.Command{
		Use: "ls", Aliases: []string{"list"}, Short: "List snapshots, newest first", Args: usage(cobra.NoArgs),
		RunE: func(cmd *cobra.Command, _ []string) error {
			c, err := a.connect()
			if err != nil {
				return err
			}
			all, err := gather(c.AllSnapshots(cmd.Context()), 0)
			if err != nil {
				return err
			}
			if a.json {
				return a.printJSON(all)
			}
			if len(all) == 0 && isTerminal(a.err) {
				fmt.Fprintln(a.err, "No snapshots. An environment's install command leaves one.")
			}
			if len(all) == 0 {
				return nil
			}
			return table(a.out, snapshotRows(all, time.Now()))
		},
	}
}

func snapshotRows(all []errand.Snapshot, now time.Time) [][]string {
	rows := [][]string{{"SNAPSHOT", "NAME", "SIZE", "SHARED", "MADE", "USED", "IMAGE", "KEPT"}}
	for _, s := range all {
		kept := "-"
		if s.Pinned != "" {
			kept = "yes"
		}
		rows = append(rows, []string{shortKey(s.Key), dash(s.Name), size(s.Size), size(s.Shared), ago(s.CreatedAt, now), ago(s.UsedAt, now), clip(s.Image, 40), kept})
	}
	return rows
}

// shortKey is as much of a key as tells it from others.
func shortKey(key string) string { return key[:min(len(key), 15)] }

// size is an amount of bytes for people: 812 B, 3.4 MB, 21 GB, in steps of 1024.
func size(n int64) string {
	const step = 1024 // as flags are read
	if n < step {
		return fmt.Sprintf("%d B", n)
	}
	f, unit := float64(n)/step, 0
	for f >= step && unit < 4 {
		f, unit = f/step, unit+1
	}
	if f < 10 {
		return fmt.Sprintf("%.1f %cB", f, "KMGTP"[unit])
	}
	return fmt.Sprintf("%.0f %cB", f, "KMGTP"[unit])
}

func (a *app) snapshotShowCommand() *cobra.Command {
	return &cobra.Command{
		Use: "show SNAPSHOT", Short: "Show what a snapshot is made of and who stands on it", Args: usage(cobra.ExactArgs(1)),
		RunE: func(cmd *cobra.Command, args []string) error {
			c, err := a.connect()
			if err != nil {
				return err
			}
			s, err := c.Snapshot(cmd.Context(), args[0])
			if err != nil {
				return err
			}
			if a.json {
				return a.printJSON(s)
			}
			return a.showSnapshot(s, time.Now())
		},
	}
}

func (a *app) showSnapshot(s errand.Snapshot, now time.Time) error {
	st := styleFor(a.out, a.getenv)
	fmt.Fprintln(a.out, st.bold(cmp.Or(s.Name, shortKey(s.Key))))
	rows := [][]string{
		{"key", s.Key}, {"image", clip(s.Image, 120)},
		{"size", size(s.Size) + " of its own, " + size(s.Shared) + " shared"},
		{"made", ago(s.CreatedAt, now)}, {"used", ago(s.UsedAt, now)},
	}
	if s.Pinned != "" {
		rows = append(rows, []string{"kept", clip(s.Pinned, 200)})
	}
	for i, l := range s.Layers {
		text := l.Kind + " " + l.ID
		if l.Kind != "host" {
			text += ", " + size(l.Size)
		}
		if l.Shared {
			text += ", shared"
		}
		rows = append(rows, []string{fmt.Sprintf("layer %d", i+1), text})
	}
	for _, use := range s.Uses {
		rows = append(rows, []string{"used by", useText(use)})
	}
	return table(a.out, rows)
}

func useText(use errand.SnapshotUse) string {
	switch {
	case use.Build != "" && use.Active:
		return fmt.Sprintf("build %s, the active one of %s", use.Build, use.Environment)
	case use.Build != "":
		return fmt.Sprintf("build %s of %s", use.Build, use.Environment)
	}
	text := "machine " + use.Machine
	if use.Agent != "" {
		text = "agent " + string(use.Agent)
	}
	if use.Running {
		text += ", whose machine runs"
	}
	return text
}

func (a *app) snapshotNameCommand() *cobra.Command {
	return &cobra.Command{
		Use: "name SNAPSHOT [NAME]", Short: "Name a snapshot, which keeps it; without NAME, take its name away", Args: usage(cobra.RangeArgs(1, 2)),
		RunE: func(cmd *cobra.Command, args []string) error {
			c, err := a.connect()
			if err != nil {
				return err
			}
			name, done := "", "has no name any more"
			if len(args) > 1 {
				name, done = args[1], "is now "+args[1]
			}
			s, err := c.NameSnapshot(cmd.Context(), args[0], name)
			return a.changed(shortKey(s.Key), done, err)
		},
	}
}

func (a *app) snapshotRemoveCommand() *cobra.Command {
	var force bool
	cmd := &cobra.Command{
		Use: "rm SNAPSHOT...", Short: "Delete snapshots; machines that stand on them keep what they need", Args: usage(cobra.MinimumNArgs(1)),
		RunE: func(cmd *cobra.Command, args []string) error {
			c, err := a.connect()
			if err != nil {
				return err
			}
			for _, ref := range args {
				if err := a.changed(ref, "deleted", c.DeleteSnapshot(cmd.Context(), ref, force)); err != nil {
					return err
				}
			}
			return nil
		},
	}
	cmd.Flags().BoolVarP(&force, "force", "f", false, "also what has a name, is an active build's or carries a running machine")
	return cmd
}

func (a *app) snapshotExportCommand() *cobra.Command {
	var to string
	var host bool
	cmd := &cobra.Command{
		Use: "export SNAPSHOT", Short: "Write a snapshot as an OCI image archive", Args: usage(cobra.ExactArgs(1)),
		Long: `Write a snapshot as an OCI image archive, which "errand snapshot import", podman,
skopeo and docker (25 or later) read. A snapshot that stands on the host's own
directories is written only with --host, which puts them in: gigabytes, and a
copy of what is installed on the server's machine.`,
		RunE: func(cmd *cobra.Command, args []string) error {
			if to == "" && isTerminal(a.out) {
				return usageError("an archive is not for a terminal: name a file with --output, or pipe it on")
			}
			c, err := a.connect()
			if err != nil {
				return err
			}
			body, err := c.ExportSnapshot(cmd.Context(), args[0], host)
			if err != nil {
				return err
			}
			defer body.Close()
			return a.saveArchive(body, to)
		},
	}
	cmd.Flags().StringVarP(&to, "output", "o", "", "the file to write; without it, stdout")
	cmd.Flags().BoolVar(&host, "host", false, "put the host's own directories in")
	return cmd
}

// saveArchive copies an archive to a file, which is there when it is whole; ""
// is stdout.
func (a *app) saveArchive(body io.Reader, to string) error {
	p := a.meter("exported", 0)
	if to == "" {
		_, err := io.Copy(a.out, p.reader(body))
		return p.end(err)
	}
	f, err := os.Create(to + ".part")
	if err != nil {
		return fmt.Errorf("writing %s: %w", to, err)
	}
	_, err = io.Copy(f, p.reader(body))
	if err = p.end(errors.Join(err, f.Close())); err == nil {
		err = os.Rename(to+".part", to)
	}
	if err != nil {
		return errors.Join(fmt.Errorf("writing %s: %w", to, err), os.Remove(to+".part"))
	}
	if a.json {
		return a.printJSON(map[string]any{"file": to, "size": p.n})
	}
	fmt.Fprintf(a.out, "%s %s\n", to, size(p.n))
	return nil
}

func (a *app) snapshotImportCommand() *cobra.Command {
	var name string
	cmd := &cobra.Command{
		Use: "import FILE|IMAGE", Short: "Make a snapshot of an OCI image archive or an image", Args: usage(cobra.ExactArgs(1)),
		Long: `Make a snapshot of an OCI image archive, which is a file or, for "-", stdin; or
of an image by its reference, which the server pulls. What begins with ".", "/"
or is the name of a file is an archive.`,
		RunE: func(cmd *cobra.Command, args []string) error {
			c, err := a.connect()
			if err != nil {
				return err
			}
			var made errand.Snapshot
			from, total, err := a.openArchive(args[0])
			switch {
			case err != nil:
				return err
			case from == nil:
				made, err = c.ImportImage(cmd.Context(), name, args[0])
			default:
				defer from.Close()
				p := a.meter("imported", total)
				made, err = c.ImportSnapshot(cmd.Context(), name, p.reader(from))
				err = p.end(err)
			}
			if err != nil {
				return err
			}
			if a.json {
				return a.printJSON(made)
			}
			fmt.Fprintln(a.out, cmp.Or(made.Name, made.Key))
			return nil
		},
	}
	cmd.Flags().StringVar(&name, "name", "", "what to call it")
	return cmd
}

// openArchive opens the archive that arg names; nil for an image's reference.
func (a *app) openArchive(arg string) (from *os.File, total int64, err error) {
	if arg == "-" {
		return a.in, 0, nil
	}
	st, err := os.Stat(arg)
	switch {
	case err != nil && !strings.HasPrefix(arg, ".") && !strings.HasPrefix(arg, "/"):
		return nil, 0, nil
	case err != nil:
		return nil, 0, fmt.Errorf("opening the archive: %w", err)
	case st.IsDir():
		return nil, 0, usageError("%s is a folder; an archive is one file", arg)
	}
	from, err = os.Open(arg)
	return from, st.Size(), err
}

func (a *app) snapshotCollectCommand() *cobra.Command {
	var dryRun bool
	cmd := &cobra.Command{
		Use: "gc", Short: "Remove what nothing needs and, over the quota, what was not used for longest", Args: usage(cobra.NoArgs),
		RunE: func(cmd *cobra.Command, _ []string) error {
			c, err := a.connect()
			if err != nil {
				return err
			}
			done, err := c.Collect(cmd.Context(), dryRun)
			if err != nil {
				return err
			}
			if a.json {
				return a.printJSON(done)
			}
			return a.showCollection(done, time.Now())
		},
	}
	cmd.Flags().BoolVarP(&dryRun, "dry-run", "n", false, "say what would go and remove nothing")
	return cmd
}

func (a *app) showCollection(c errand.Collection, now time.Time) error {
	var rows [][]string
	for _, r := range c.Removed {
		used := "-"
		if !r.UsedAt.IsZero() {
			used = "used " + ago(r.UsedAt, now)
		}
		rows = append(rows, []string{r.What, clip(r.Name, 60), size(r.Freed), used})
	}
	if err := table(a.out, rows); err != nil {
		return err
	}
	quota := "no quota"
	if c.Quota > 0 {
		quota = "of " + size(c.Quota)
	}
	freed := "freed"
	if c.DryRun {
		freed = "would be freed"
	}
	fmt.Fprintf(a.out, "%s %s; %s were taken (%s), %s free on the disk\n", size(c.Freed), freed, size(c.Used), quota, size(c.Free))
	if c.Short > 0 {
		fmt.Fprintf(a.err, "Still %s over: all else is in use or named. Remove agents or snapshots, or raise --disk-quota.\n", size(c.Short))
	}
	return nil
}

// meter shows how much of a stream has passed, to a person who looks.
type meter struct {
	app    *app
	what   string
	total  int64 // 0: not known
	n      int64
	shown  time.Time
	quiet  bool
	source io.Reader
}

func (a *app) meter(what string, total int64) *meter {
	return &meter{app: a, what: what, total: total, quiet: !isTerminal(a.err), shown: time.Now()}
}

func (m *meter) reader(r io.Reader) io.Reader {
	m.source = r
	return m
}

// Read passes a piece on.
func (m *meter) Read(p []byte) (int, error) {
	n, err := m.source.Read(p)
	m.n += int64(n)
	if now := time.Now(); !m.quiet && now.Sub(m.shown) > 100*time.Millisecond {
		m.shown = now
		text := size(m.n)
		if m.total > 0 {
			text += " of " + size(m.total)
		}
		fmt.Fprintf(m.app.err, "\r%s %s\x1b[K", text, m.what)
	}
	return n, err
}

// end takes the line away and gives err.
func (m *meter) end(err error) error {
	if !m.quiet {
		fmt.Fprint(m.app.err, "\r\x1b[K")
	}
	return err
}
