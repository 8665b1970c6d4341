package environment

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"maps"
	"os"
	"path"
	"slices"
	"strings"
	"sync"
	"time"

	"github.com/errand-dev/errand"
	"github.com/errand-dev/errand/dockerfile"
	"github.com/errand-dev/errand/git"
	"github.com/errand-dev/errand/guest"
	"github.com/errand-dev/errand/machine"
)

// maxContext bounds what a build takes of its context, in bytes.
const maxContext = 2 << 30

// recipe is a Dockerfile with all that decides what it makes.
type recipe struct {
	*dockerfile.File
	text    []byte
	context []git.Entry // what it takes of its context
	key     string
}

// buildsImage says whether the machine stands on what a Dockerfile makes.
func (w *work) buildsImage() bool {
	return w.env.Build != nil && w.Image == "" && w.env.Image == ""
}

// buildImage gives the name of the image that the environment's Dockerfile
// makes, and builds it unless that was done before. Its output belongs to the
// phase of the image.
func (w *work) buildImage(ctx context.Context) (string, outcome, error) {
	builder, ok := w.Driver.(machine.Builder)
	if !ok {
		w.baseNotes = append(w.baseNotes, fmt.Sprintf("This kind of machine does not build Dockerfiles; it stands on the image %s.", w.image))
		return w.image, outcome{}, nil
	}
	r, err := w.readRecipe(ctx)
	if err != nil {
		return "", outcome{}, err
	}
	o := outcome{cached: true, note: r.Name + " is unchanged"}
	ref, err := builder.BuiltImage(ctx, r.key)
	if err != nil {
		return "", outcome{}, fmt.Errorf("looking for the image of %s: %w", r.Name, err)
	}
	if ref != "" {
		return ref, o, nil
	}
	if w.progress.done(errand.PhaseImage) || w.progress.phases[errand.PhaseImage].end > 0 {
		// What the journal has is of a build that was interrupted, or whose image
		// is gone.
		if err := w.begin(ctx, errand.PhaseImage, ""); err != nil {
			return "", outcome{}, err
		}
	}
	return w.carryOut(ctx, builder, r)
}

// carryOut builds while the steps are recorded.
func (w *work) carryOut(ctx context.Context, builder machine.Builder, r *recipe) (string, outcome, error) {
	if err := w.checkSecrets(r); err != nil {
		return "", outcome{}, err
	}
	t := &transcript{phase: errand.PhaseImage, record: w.Record, redactor: w.Redactor}
	running, cancel := context.WithCancel(ctx)
	var recording sync.WaitGroup
	recording.Go(func() { t.follow(ctx, running.Done(), cancel) })
	steps := &buildLog{take: t.take}
	s := &searching{finder: w.Guarded}
	search := s.added
	if w.Guarded == nil {
		search = nil
	}
	ref, err := builder.BuildImage(running, machine.ImageBuild{
		Key: r.key, File: r.text, Name: r.Name, Secrets: w.BuildSecrets, CacheOf: cacheOf(w.Mirror, r), Limits: w.Spec.Limits,
		Context: func(ctx context.Context, to *os.Root) error { return w.export(ctx, r, to) },
		Search:  search,
		Step:    steps.tell, Attach: w.AttachBuild,
	})
	if found := secretInImage(r.Name, s.sorted()); err != nil && found != nil {
		err = found
	}
	cancel()
	recording.Wait()
	facts, lost := t.rest()
	if lost != nil {
		return "", outcome{}, lost
	}
	o := outcome{facts: facts, note: steps.note(r.Name)}
	if known := (*errand.Error)(nil); errors.As(err, &known) {
		known.Output = lastOf(known.Output, w.Redactor)
	}
	return ref, o, err
}

// cacheOf gives whose the cache mounts of a build are: the repository's, and
// without one nobody else's.
func cacheOf(m *git.Mirror, r *recipe) string {
	if m == nil {
		return r.key
	}
	return m.URL()
}

// readRecipe reads the Dockerfile and lists what it takes of its context.
func (w *work) readRecipe(ctx context.Context) (*recipe, error) {
	text, name, err := w.readDockerfile(ctx)
	if err != nil {
		return nil, err
	}
	file, err := dockerfile.Parse(name, text, nil)
	if err != nil {
		return nil, err
	}
	r := &recipe{File: file, text: text}
	content := map[string]string{}
	if file.Context.Used() {
		if r.context, err = w.listContext(ctx, r); err != nil {
			return nil, err
		}
		for _, e := range r.context {
			content[e.Path] = e.Mode + " " + e.ID
		}
	}
	r.key = dockerfile.Key(dockerfile.KeyInput{File: text, Content: content})
	return r, nil
}

// readDockerfile gives the Dockerfile's text and how people know it.
func (w *work) readDockerfile(ctx context.Context) ([]byte, string, error) {
	if w.env.Build.Contents != "" {
		return []byte(w.env.Build.Contents), cmp.Or(w.env.File, "the environment") + " (dockerfileContents)", nil
	}
	asked := w.env.Dockerfile()
	if w.Mirror == nil {
		return nil, "", errand.Errorf(errand.Invalid, "dockerfile_not_found",
			"The environment names the Dockerfile %s, and the agent has no repository to find it in. Put its text into dockerfileContents.", clip(asked))
	}
	for _, name := range w.fromRootToo(asked, w.env.Build.Dockerfile) {
		text, err := w.Mirror.ReadFile(ctx, w.Checkout.Commit, name)
		if err == nil && name != asked {
			w.warn("There is no %s; %s from the repository's root was taken.", clip(asked), clip(name))
		}
		if errand.KindOf(err) != errand.NotFound {
			return text, name, err
		}
	}
	from := "the folder of the environment file"
	if path.Dir(w.env.File) == "." {
		from = "the repository's root"
	}
	return nil, "", errand.Errorf(errand.Invalid, "dockerfile_not_found",
		"%s names a Dockerfile that is not there: %s does not exist at commit %.12s. Its path is relative to %s.", cmp.Or(w.env.File, "The environment"), clip(asked), w.Checkout.Commit, from)
}

// fromRootToo gives the paths that a name in the file may mean: from the file's
// folder, and from the repository's root.
func (w *work) fromRootToo(asked, written string) []string {
	var names []string
	for _, name := range []string{asked, path.Join(".", written)} {
		if name != ".." && !strings.HasPrefix(name, "../") && !slices.Contains(names, name) {
			names = append(names, name)
		}
	}
	return names
}

// listContext lists what the Dockerfile takes of its context, without what the
// .dockerignore leaves out.
func (w *work) listContext(ctx context.Context, r *recipe) ([]git.Entry, error) {
	dir := w.env.BuildContext()
	if dir == ".." || strings.HasPrefix(dir, "../") {
		return nil, errand.Errorf(errand.Invalid, "context_outside",
			"The build's context %q is outside of the repository. Name a folder of the repository, relative to that of %s; \".\" is its root.", clip(w.env.Build.Context), cmp.Or(w.env.File, "the environment file"))
	}
	if w.Mirror == nil {
		return nil, errand.Errorf(errand.Invalid, "context_missing",
			"%s copies from its context, and the agent has no repository to take it from. Give the agent a repository, or leave the COPY out.", r.Name)
	}
	all, err := w.contextEntries(ctx, dir)
	if err != nil {
		return nil, err
	}
	ignore, err := w.readIgnore(ctx, r, dir)
	if err != nil {
		return nil, err
	}
	// Many patterns and many files take a while: whoever gave up is not kept.
	all = slices.DeleteFunc(all, func(e git.Entry) bool {
		return ctx.Err() != nil || e.Path != ignoreFile && ignore.Excludes(e.Path)
	})
	for _, e := range all {
		if e.Mode == git.ModeLink && ctx.Err() == nil {
			r.Context.Follow(e.Path)
		}
	}
	all = slices.DeleteFunc(all, func(e git.Entry) bool { return ctx.Err() != nil || !r.Context.Takes(e.Path) })
	return all, context.Cause(ctx)
}

func (w *work) contextEntries(ctx context.Context, dir string) ([]git.Entry, error) {
	for _, name := range w.fromRootToo(dir, w.env.Build.Context) {
		all, err := w.Mirror.Entries(ctx, w.Checkout.Commit, name)
		if err == nil && name != dir {
			w.warn("There is no folder %s; the build's context is %s from the repository's root.", clip(dir), clip(name))
		}
		if errand.KindOf(err) != errand.NotFound {
			return all, err
		}
	}
	return nil, errand.Errorf(errand.Invalid, "context_missing",
		"The build's context is not there: the repository has no folder %s at commit %.12s.", clip(dir), w.Checkout.Commit)
}

const ignoreFile = ".dockerignore"

// readIgnore finds what the build leaves out: the file beside the Dockerfile
// that goes by its name, or else the context's own.
func (w *work) readIgnore(ctx context.Context, r *recipe, dir string) (*dockerfile.Ignore, error) {
	names := []string{path.Join(dir, ignoreFile)}
	if w.env.Build.Contents == "" {
		names = append([]string{r.Name + ignoreFile}, names...)
	}
	for _, name := range names {
		text, err := w.Mirror.ReadFile(ctx, w.Checkout.Commit, name)
		if errand.KindOf(err) == errand.NotFound {
			continue
		}
		if err != nil {
			return nil, err
		}
		return dockerfile.ParseIgnore(name, text)
	}
	return nil, nil
}

// checkSecrets holds that what a build must have is there.
func (w *work) checkSecrets(r *recipe) error {
	for _, s := range r.Secrets {
		if _, ok := w.BuildSecrets[s.ID]; !ok && s.Required {
			return errand.Errorf(errand.Invalid, "build_secret_missing",
				"%s: the build needs the secret %q, which is not set. Set a build secret of this name, and send a follow-up.", r.At(s.Line), clip(s.ID))
		}
	}
	return nil
}

// export writes what the build takes of its context.
func (w *work) export(ctx context.Context, r *recipe, to *os.Root) error {
	if len(r.context) == 0 {
		return nil
	}
	err := w.Mirror.Export(ctx, r.context, to, maxContext)
	if errand.KindOf(err) == errand.TooLarge {
		return errand.Errorf(errand.TooLarge, "context_too_large", "%s takes too much of its context. %w A .dockerignore leaves files out.", r.Name, err)
	}
	return err
}

// warn notes what the file made us guess, once.
func (w *work) warn(format string, args ...any) {
	w.warnings = append(w.warnings, fmt.Sprintf(format, args...))
}

// buildLog writes the steps of a build as people read them.
type buildLog struct {
	take   func(guest.Output)
	offset int64
	last   string          // the step that spoke last
	cached map[string]bool // the file's steps that have ended, and whether they were cached
	begun  time.Time
}

func (l *buildLog) tell(s machine.ImageStep) {
	if l.cached == nil {
		l.cached, l.begun = map[string]bool{}, time.Now()
	}
	switch {
	case len(s.Output) > 0:
		if l.last != s.ID {
			l.last = s.ID
			l.write(s.Name + "\n")
		}
		l.write(string(s.Output))
	case !s.Ended:
	case s.Cached:
		l.count(s)
		l.write("CACHED " + s.Name + "\n")
	case s.Err != "":
		l.write("FAILED " + s.Name + "\n")
	default:
		l.count(s)
		l.write(fmt.Sprintf("DONE %s (%s)\n", s.Name, s.Took.Round(10*time.Millisecond)))
	}
}

// count counts a step that has ended. What BuildKit does beside the file, such as
// exporting what was built, is none.
func (l *buildLog) count(s machine.ImageStep) {
	if s.Line > 0 {
		l.cached[s.ID] = s.Cached
	}
}

func (l *buildLog) write(text string) {
	l.take(guest.Output{Data: []byte(text), Offset: l.offset})
	l.offset += int64(len(text))
}

// note says in a line how much there was to do.
func (l *buildLog) note(name string) string {
	done := 0
	for cached := range maps.Values(l.cached) {
		if !cached {
			done++
		}
	}
	return fmt.Sprintf("%s: %d of %d steps ran", name, done, len(l.cached))
}
