package bench

import (
	"archive/tar"
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"time"
)

// dockerName begins the names of all that is made in Docker.
const dockerName = "errand-bench"

// dockerTools are what the measurement's image holds of this host, with the
// libraries that they need.
var dockerTools = []string{"sh", "true", "mkdir", "seq", "sleep"}

// measureDocker times the same with the docker program, where an engine answers:
// a container's start and first command, a command's round trip, a commit.
func measureDocker(ctx context.Context, b *bench) (err error) {
	d := docker{image: fmt.Sprintf("%s:%d", dockerName, os.Getpid())}
	version, err := d.do(ctx, nil, "version", "--format", "{{.Server.Version}}")
	if err != nil {
		if ctx.Err() != nil {
			return ctx.Err()
		}
		b.skip("Docker: no engine answers (%v).", err)
		return nil
	}
	defer func() { err = errors.Join(err, d.clean(ctx)) }()
	if err := d.importHost(ctx); err != nil {
		return err
	}
	note := "Docker " + version
	if _, err := d.do(ctx, nil, "network", "inspect", "bridge"); err != nil {
		d.network = "none"
		note += ", without a network"
	}
	if err := b.dockerRun(ctx, &d, note); err != nil {
		return err
	}
	if err := b.dockerExec(ctx, &d, note); err != nil {
		return err
	}
	return b.dockerCommit(ctx, &d, note)
}

func (b *bench) dockerRun(ctx context.Context, d *docker, note string) error {
	run := func(int) error { _, err := d.run(ctx, "--rm", d.image, "true"); return err }
	cold, err := times(1, run)
	if err != nil {
		return err
	}
	warm, err := times(b.size(20), run)
	if err != nil {
		return err
	}
	b.keep("docker", "docker run --rm IMAGE true, the first", "docker", "ms", cold, note)
	b.keep("docker", "docker run --rm IMAGE true, warm", "docker", "ms", warm, note+"; the container's removal included")
	return nil
}

func (b *bench) dockerExec(ctx context.Context, d *docker, note string) error {
	id, err := d.run(ctx, "--detach", d.image, "sleep", "1d")
	if err != nil {
		return err
	}
	trips, err := times(b.size(50), func(int) error { _, err := d.do(ctx, nil, "exec", id, "true"); return err })
	if err != nil {
		return err
	}
	b.keep("docker", "docker exec CONTAINER true", "docker", "ms", trips, note+"; the docker program's own start included")
	return nil
}

func (b *bench) dockerCommit(ctx context.Context, d *docker, note string) error {
	files := b.size(20_000)
	var took []float64
	for range 3 {
		id, err := d.run(ctx, "--detach", d.image, "sleep", "1d")
		if err != nil {
			return err
		}
		if _, err := d.do(ctx, nil, "exec", id, "sh", "-c", install(files)); err != nil {
			return err
		}
		began := time.Now()
		image, err := d.do(ctx, nil, "commit", id)
		if err != nil {
			return err
		}
		took = append(took, ms(time.Since(began)))
		d.images = append(d.images, image)
		if _, err := d.do(ctx, nil, "rm", "--force", id); err != nil {
			return err
		}
	}
	b.keep("docker", "docker commit", "docker", "ms", took, fmt.Sprintf("%s; after an install of %d files", note, files))
	return nil
}

// docker is the docker program and what was made with it.
type docker struct {
	image   string   // made from this host
	network string   // of containers; "" is Docker's own choice
	images  []string // committed
}

// do runs the docker program and gives what it printed.
func (d *docker) do(ctx context.Context, in io.Reader, args ...string) (string, error) {
	cmd := exec.CommandContext(ctx, "docker", args...)
	cmd.Stdin = in
	var out, complaint bytes.Buffer
	cmd.Stdout, cmd.Stderr = &out, &complaint
	if err := cmd.Run(); err != nil {
		return "", fmt.Errorf("running docker %s: %w %s", args[0], err, strings.TrimSpace(complaint.String()))
	}
	return strings.TrimSpace(out.String()), nil
}

// run is docker run with a label by which clean finds the container.
func (d *docker) run(ctx context.Context, args ...string) (string, error) {
	first := []string{"run", "--label", dockerName + "=" + d.image}
	if d.network != "" {
		first = append(first, "--network", d.network)
	}
	return d.do(ctx, nil, append(first, args...)...)
}

// clean removes what was made, also when ctx has ended.
func (d *docker) clean(ctx context.Context) error {
	ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), cleanLimit)
	defer cancel()
	left, err := d.do(ctx, nil, "ps", "--all", "--quiet", "--filter", "label="+dockerName+"="+d.image)
	errs := []error{err}
	if containers := strings.Fields(left); len(containers) > 0 {
		_, err := d.do(ctx, nil, append([]string{"rm", "--force"}, containers...)...)
		errs = append(errs, err)
	}
	_, err = d.do(ctx, nil, append([]string{"rmi", "--force", d.image}, d.images...)...)
	return errors.Join(append(errs, err)...)
}

// importHost makes the image: this host's own tools, so that no registry is
// needed.
func (d *docker) importHost(ctx context.Context) error {
	var layer bytes.Buffer
	w := tar.NewWriter(&layer)
	added := map[string]bool{}
	for _, tool := range dockerTools {
		path, err := exec.LookPath(tool)
		if err != nil {
			return fmt.Errorf("making a Docker image: %w", err)
		}
		if err := addFile(w, added, path, "/bin/"+tool); err != nil {
			return fmt.Errorf("making a Docker image: %w", err)
		}
		// What ldd does not know is a static program, which needs nothing.
		libraries, _ := exec.CommandContext(ctx, "ldd", path).Output()
		for word := range strings.FieldsSeq(string(libraries)) {
			if !filepath.IsAbs(word) {
				continue
			}
			if err := addFile(w, added, word, word); err != nil {
				return fmt.Errorf("making a Docker image: %w", err)
			}
		}
	}
	if err := w.Close(); err != nil {
		return err
	}
	_, err := d.do(ctx, &layer, "import", "-", d.image)
	return err
}

// addFile adds the file at path, followed if it is a link, as name.
func addFile(w *tar.Writer, added map[string]bool, path, name string) error {
	if added[name] {
		return nil
	}
	added[name] = true
	text, err := os.ReadFile(path)
	if err != nil {
		return err
	}
	if err := w.WriteHeader(&tar.Header{Name: strings.TrimPrefix(name, "/"), Mode: 0o755, Size: int64(len(text))}); err != nil {
		return err
	}
	_, err = w.Write(text)
	return err
}
