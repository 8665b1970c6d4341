//go:build linux

package buildkit

import (
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/errand-dev/errand/guest"
	"github.com/errand-dev/errand/machine"
	"github.com/errand-dev/errand/machine/oci"
)

// engines runs a test under each.
func engines(t *testing.T, test func(t *testing.T, engine string)) {
	for _, engine := range []string{GVisor, Runc} {
		t.Run(engine, func(t *testing.T) {
			need(t, engine)
			test(t, engine)
		})
	}
}

func TestTwoStages(t *testing.T) {
	engines(t, func(t *testing.T, engine string) {
		w := newWorld(t)
		b := w.builder(engine)
		var said strings.Builder
		ref, err := b.BuildImage(t.Context(), machine.ImageBuild{
			Key: "two-stages", Name: "Dockerfile", Attach: w.attach,
			File: []byte(`# syntax=docker/dockerfile:1
FROM ` + w.host + `/busybox AS build
WORKDIR /src
RUN echo compiled > out && id -u && cat /proc/version
FROM ` + w.host + `/busybox
ENV GREETING=hello
COPY --from=build --chown=app:app /src/out /opt/out
USER app
WORKDIR /home/app
`),
			Step: func(s machine.ImageStep) { said.Write(s.Output) },
		})
		if err != nil {
			t.Fatalf("%v\n%s", err, said.String())
		}
		if gvisor := strings.Contains(said.String(), "-gvisor"); gvisor != (engine == GVisor) {
			t.Errorf("under %s the kernel is %q", engine, said.String())
		}
		for _, engine := range []string{oci.GVisor, oci.Runc} {
			got := w.boot(engine, ref, "echo $GREETING $FROM_BASE; ls -ln /opt/out | cut -c1-10; stat -c %u /opt/out; cat /opt/out")
			if want := "hello yes\n-rw-r--r--\n1000\ncompiled\n"; got != want {
				t.Errorf("booted under %s it prints %q, want %q", engine, got, want)
			}
		}
	})
}

// boot makes a machine of the image and gives what a command prints in it.
func (w *world) boot(engine, ref, command string) string {
	w.t.Helper()
	d, err := oci.New(oci.Options{Dir: filepath.Join(w.dir, "machines"), Images: w.images, Guest: built("errand-guest"),
		Runsc: program(GVisor), Runc: program(Runc)})
	if err != nil {
		w.t.Fatal(err)
	}
	defer d.Close()
	ctx := w.t.Context()
	m, err := d.Create(ctx, "built", machine.Spec{Engine: engine, Image: ref})
	if err != nil {
		w.t.Fatal(err)
	}
	defer m.Destroy(ctx)
	l, err := guest.Open(ctx, m.Dial, guest.Options{})
	if err != nil {
		w.t.Fatal(err)
	}
	defer l.Close()
	var out strings.Builder
	exit, err := l.Run(ctx, guest.Command{ID: "show", Args: []string{"/bin/sh", "-c", command}}, func(o guest.Output) { out.Write(o.Data) })
	if err != nil || exit.Code != 0 {
		w.t.Fatalf("exit %+v, error %v, printed %q", exit, err, out.String())
	}
	return out.String()
}

func TestMain(m *testing.M) {
	if dir := os.Getenv(killedVar); dir != "" {
		if err := buildUntilKilled(dir); err != nil {
			fmt.Println(err)
			os.Exit(1)
		}
	}
	os.Exit(m.Run())
}
