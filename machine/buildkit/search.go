//go:build linux

package buildkit

import (
	"archive/tar"
	"cmp"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path"
	"strings"

	v1 "github.com/google/go-containerregistry/pkg/v1"
	"github.com/google/go-containerregistry/pkg/v1/types"

	"github.com/errand-dev/errand"
	"github.com/errand-dev/errand/machine"
)

// A layer in which something was found is noted as an empty file in leaked/: the
// daemon keeps it as a step's outcome, and hands it to the next build that has
// the step, which may be one that was not given what the layer holds.

// search hands what the build added to whoever looks through it, and refuses an
// image in which something was found. What is known was looked through when it
// was new. A layer that is compressed is a registry's: this daemon makes none.
func (o *build) search(ctx context.Context, img v1.Image) error {
	config, err := img.ConfigFile()
	if err != nil {
		return fmt.Errorf("reading the built image: %w", err)
	}
	layers, err := img.Layers()
	if err != nil {
		return fmt.Errorf("reading the built image: %w", err)
	}
	commands := layerCommands(config, len(layers))
	why := ""
	for i, layer := range layers {
		leaked, err := o.searchLayer(ctx, layer, commands[i])
		if err != nil {
			return fmt.Errorf("looking through a layer of the image: %w", err)
		}
		if leaked {
			why = fmt.Sprintf("the step %q left the value of a secret in its layer when it last ran, maybe for somebody else's build", commands[i])
		}
	}
	found, err := o.searchSettings(config)
	if err != nil {
		return fmt.Errorf("looking through the image's settings: %w", err)
	}
	if found {
		why = cmp.Or(why, "its settings have the value of a secret")
	}
	if why == "" {
		return nil
	}
	return errand.Errorf(errand.Invalid, "secret_in_image",
		"The image that %s makes is not kept: %s. Mount secrets with RUN --mount=type=secret and write them nowhere; a step that is changed runs anew.", o.Name, why)
}

// searchLayer says whether a layer must not be kept.
func (o *build) searchLayer(ctx context.Context, layer v1.Layer, command string) (leaked bool, err error) {
	digest, err := layer.Digest()
	if err != nil {
		return false, err
	}
	if _, err := os.Stat(o.builder.path("known", digest.Hex)); err == nil {
		return false, nil
	}
	if kind, err := layer.MediaType(); err != nil || kind != types.OCIUncompressedLayer {
		return false, err
	}
	mark := o.builder.path("leaked", digest.Hex)
	if _, err := os.Stat(mark); err == nil {
		leaked = true
	} else if !errors.Is(err, fs.ErrNotExist) {
		return false, err
	}
	if o.Search == nil {
		return leaked, nil
	}
	content, err := layer.Uncompressed()
	if err != nil {
		return false, err
	}
	defer content.Close()
	for entries := tar.NewReader(content); ctx.Err() == nil; {
		h, err := entries.Next()
		if errors.Is(err, io.EOF) {
			return leaked, nil
		}
		if err != nil {
			return false, err
		}
		// A link's target is a name too.
		found, err := o.Search(machine.Added{Step: command, Path: path.Join("/", h.Name), Content: io.MultiReader(strings.NewReader(h.Linkname), entries)})
		if err != nil {
			return false, err
		}
		if found && !leaked {
			if err := os.WriteFile(mark, nil, 0o600); err != nil {
				return false, err
			}
			leaked = true
		}
	}
	return false, context.Cause(ctx)
}

// searchSettings says whether something was found in what the image says of
// itself.
func (o *build) searchSettings(config *v1.ConfigFile) (found bool, err error) {
	if o.Search == nil {
		return false, nil
	}
	var all []machine.Added
	add := func(step, setting, value string) {
		all = append(all, machine.Added{Step: step, Setting: setting, Content: strings.NewReader(value)})
	}
	rest := config.DeepCopy()
	for _, e := range config.Config.Env {
		name, _, _ := strings.Cut(e, "=")
		add("", "ENV "+name, e)
	}
	for name, value := range config.Config.Labels {
		add("", "LABEL "+name, name+"="+value)
	}
	for _, h := range config.History {
		add(h.CreatedBy, "the image's history", h.CreatedBy+"\n"+h.Comment+"\n"+h.Author)
	}
	rest.Config.Env, rest.Config.Labels, rest.History = nil, nil, nil
	text, err := json.Marshal(rest)
	if err != nil {
		return false, err
	}
	add("", "the image's settings", string(text))
	for _, a := range all {
		one, err := o.Search(a)
		if err != nil {
			return false, err
		}
		found = found || one
	}
	return found, nil
}

// layerCommands gives for each layer the command that made it, as the image's
// history tells it; "" where it does not.
func layerCommands(config *v1.ConfigFile, layers int) []string {
	var commands []string
	for _, h := range config.History {
		if !h.EmptyLayer {
			commands = append(commands, strings.TrimSuffix(h.CreatedBy, " # buildkit"))
		}
	}
	if len(commands) != layers {
		return make([]string, layers)
	}
	return commands
}
