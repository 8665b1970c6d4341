package environment

import (
	"context"
	"errors"
	"testing"
)

func TestBuildsLetOneIn(t *testing.T) {
	var b Builds
	never := func() error { t.Error("it waits"); return nil }
	leave, err := b.enter(t.Context(), "a", never)
	if err != nil {
		t.Fatal(err)
	}
	other, err := b.enter(t.Context(), "b", never)
	if err != nil {
		t.Fatal(err)
	}
	other()

	waits := make(chan struct{})
	came := make(chan error)
	go func() {
		leave, err := b.enter(t.Context(), "a", func() error { close(waits); return nil })
		leave()
		came <- err
	}()
	<-waits
	select {
	case <-came:
		t.Fatal("it did not wait")
	default:
	}
	leave()
	leave()
	if err := <-came; err != nil {
		t.Error(err)
	}
	if len(b.under) != 0 {
		t.Errorf("%d installs are left over", len(b.under))
	}
}

func TestBuildsWaitEndsWithContext(t *testing.T) {
	var b Builds
	leave, err := b.enter(t.Context(), "a", nil)
	if err != nil {
		t.Fatal(err)
	}
	defer leave()
	ctx, cancel := context.WithCancel(t.Context())
	_, err = b.enter(ctx, "a", func() error { cancel(); return nil })
	if !errors.Is(err, context.Canceled) {
		t.Errorf("got %v, want %v", err, context.Canceled)
	}
}
