package environment

import (
	"cmp"
	"context"
	"fmt"
	"strings"

	"github.com/errand-dev/errand"
	"github.com/errand-dev/errand/machine"
)

// named gives the image that is asked for: the agent's own choice, the file's,
// the server's.
func (w *work) named() string {
	kept := ""
	if w.env.Snapshot != "" && w.env.Build == nil {
		kept = errand.SnapshotImage + w.env.Snapshot
	}
	return cmp.Or(w.Image, w.env.Image, kept, w.DefaultImage, "host")
}

// orDefault makes resolve fall back to the default image where the file names a
// snapshot that is not there.
func (w *work) orDefault(resolve func(context.Context, string) (string, error)) func(context.Context, string) (string, error) {
	return func(ctx context.Context, image string) (string, error) {
		resolved, err := resolve(ctx, image)
		name, kept := strings.CutPrefix(image, errand.SnapshotImage)
		if !kept || w.Image != "" || errand.KindOf(err) != errand.NotFound {
			return resolved, err
		}
		w.image = cmp.Or(w.DefaultImage, "host")
		w.baseNotes = append(w.baseNotes, fmt.Sprintf("The snapshot %q is not known here; the machine stands on the image %s.", clip(name), w.image))
		return resolve(ctx, w.image)
	}
}

// on says what a new machine stands on: the disk from, or the resolved image,
// which may be a kept disk too.
func on(spec machine.Spec, from machine.SnapshotKey) machine.Spec {
	spec.From = from
	if key, kept := strings.CutPrefix(spec.Image, errand.SnapshotImage); kept && from == "" {
		spec.From = machine.SnapshotKey(key)
	}
	return spec
}

// own gives what a disk's state means to this machine. That another machine was
// ready on the disk, or installed something else, is of the past here.
func (s state) own(id machine.ID, key machine.SnapshotKey) state {
	if s.Stage == stageReady && s.Machine != "" && s.Machine != id || s.Stage == stageInstalled && key != "" && s.Key != key {
		return state{}
	}
	return s
}
