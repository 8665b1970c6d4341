package machinetest

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"os"
	"os/exec"
	"testing"
	"time"

	"github.com/errand-dev/errand/machine"
)

// The variables by which a test program knows that it is the process to kill.
const (
	victimVar = "ERRAND_MACHINETEST_VICTIM" // a subject's name
	dirVar    = "ERRAND_MACHINETEST_DIR"
)

// Main is to be called from TestMain before m.Run: run again by the crash
// test, the program does not test but is the process that gets killed.
func Main(subjects ...Subject) {
	name := os.Getenv(victimVar)
	if name == "" {
		return
	}
	for _, s := range subjects {
		if s.Name == name {
			fmt.Println(victim(s, os.Getenv(dirVar)))
			os.Exit(1) // only a signal ends it well
		}
	}
	fmt.Printf("no subject %q\n", name)
	os.Exit(1)
}

// victim makes, keeps, wakes and removes machines until it is killed.
func victim(s Subject, dir string) error {
	d, err := s.Open(dir)
	if err != nil {
		return err
	}
	ctx := context.Background()
	if storage, ok := d.(machine.Storage); ok {
		go collect(ctx, storage)
	}
	for round := 0; ; round++ {
		id := machine.ID(fmt.Sprintf("crash-%d", round%2))
		fmt.Println("creating", id)
		m, err := d.Create(ctx, id, s.Spec)
		if err != nil {
			return err
		}
		fmt.Println("created", id)
		if snap, ok := m.(machine.Snapshotter); ok {
			if err := snap.Snapshot(ctx, machine.SnapshotKey(fmt.Sprintf("c%d", round))); err != nil {
				return err
			}
			if m, err = d.Create(ctx, id, s.Spec); err != nil {
				return err
			}
		}
		if round%2 == 1 {
			if err := m.Destroy(ctx); err != nil {
				return err
			}
		}
	}
}

// collect removes all that can be, all the time.
func collect(ctx context.Context, d machine.Storage) {
	for {
		stored, err := d.Stored(ctx)
		for _, snap := range stored.Snapshots {
			err = errors.Join(err, d.RemoveSnapshot(ctx, snap.Key))
		}
		_, sweepErr := d.Sweep(ctx)
		if err := errors.Join(err, sweepErr); err != nil {
			fmt.Println("collecting:", err)
			os.Exit(1)
		}
	}
}

// crashes is how often the process is killed.
const crashes = 8

func testCrash(t *testing.T, s Subject) {
	dir := t.TempDir()
	var last Driver
	for i := range crashes {
		killVictim(t, s, dir, time.Duration(rand.Int64N(int64(900*time.Millisecond))))
		d, err := s.Open(dir)
		if err != nil {
			t.Fatalf("opening driver after crash %d: %v", i, err)
		}
		afterCrash(t, s, d, i)
		last = d
		if t.Failed() {
			break
		}
		if err := d.Close(); err != nil {
			t.Errorf("closing driver: %v", err)
		}
	}
	if snaps, ok := last.(machine.Snapshots); ok {
		list, err := snaps.ListSnapshots(t.Context())
		if err != nil {
			t.Errorf("listing snapshots: %v", err)
		}
		for _, snap := range list {
			if err := snaps.RemoveSnapshot(t.Context(), snap.Key); err != nil {
				t.Errorf("removing snapshot: %v", err)
			}
		}
	}
	clear(t, s, last, dir)
}

// killVictim runs the victim and kills it some time after it began.
func killVictim(t *testing.T, s Subject, dir string, after time.Duration) {
	t.Helper()
	cmd := exec.Command(os.Args[0])
	cmd.Env = append(os.Environ(), victimVar+"="+s.Name, dirVar+"="+dir)
	out, err := cmd.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	cmd.Stderr = os.Stderr
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	lines := bufio.NewScanner(out)
	if !lines.Scan() { // it is at work
		t.Fatalf("the process to kill said nothing: %v", cmd.Wait())
	}
	said := lines.Text()
	kill := time.AfterFunc(after, func() { cmd.Process.Kill() })
	defer kill.Stop()
	for lines.Scan() {
		said = lines.Text()
	}
	err = cmd.Wait()
	if exit := (*exec.ExitError)(nil); !errors.As(err, &exit) || exit.ExitCode() != -1 {
		t.Fatalf("the process to kill ended by itself: %v: %s", err, said)
	}
	t.Logf("killed %v after it began, last said %q", after.Round(time.Millisecond), said)
}

// afterCrash finds each machine in a state that the contract knows, and brings
// it up.
func afterCrash(t *testing.T, s Subject, d Driver, i int) {
	handles, err := d.List(t.Context())
	if err != nil {
		t.Fatalf("listing after crash %d: %v", i, err)
	}
	for _, h := range handles {
		m, err := d.Open(t.Context(), h)
		if err != nil {
			t.Errorf("opening %s after crash %d: %v", h.ID, i, err)
			continue
		}
		conn, err := m.Dial(t.Context())
		switch {
		case err == nil:
			conn.Close()
		case !errors.Is(err, machine.ErrStopped):
			t.Errorf("dialing %s after crash %d: %v, want a line or ErrStopped", h.ID, i, err)
		}
		if i%2 == 0 {
			m = create(t, s, d, h.ID)
			if got := sh(t, line(t, m), "echo up"); got != "up" {
				t.Errorf("after crash %d, %s printed %q", i, h.ID, got)
			}
		}
		for range 2 {
			if err := m.Destroy(t.Context()); err != nil {
				t.Errorf("destroying %s after crash %d: %v", h.ID, i, err)
			}
		}
	}
	if ids := listed(t, d); len(ids) != 0 {
		t.Errorf("after crash %d and Destroy, List has %v", i, ids)
	}
}
