//go:build linux

package buildkit

import (
	"strings"
	"time"

	"github.com/errand-dev/errand/dockerfile"
	"github.com/errand-dev/errand/machine"
	"github.com/errand-dev/errand/machine/buildkit/solver"
)

// maxTail is how much of a step's output is kept for when it fails, in bytes:
// several times what an errand.Error may hold, so that whoever takes the secrets
// out finds them whole before it is cut.
const maxTail = 64 << 10

// steps makes BuildKit's vertices into what a build tells.
type steps struct {
	file *dockerfile.File
	step func(machine.ImageStep)
	all  map[string]*step

	starved *machine.ImageStep // of a base, and its files are not in the context
}

// step is what is known of one vertex.
type step struct {
	machine.ImageStep
	begun  bool
	failed bool
	tail   []byte
}

func newSteps(file *dockerfile.File, tell func(machine.ImageStep)) *steps {
	if tell == nil {
		tell = func(machine.ImageStep) {}
	}
	return &steps{file: file, step: tell, all: map[string]*step{}}
}

// tell passes on what is new.
func (s *steps) tell(status solver.Status) {
	for _, v := range status.Vertexes {
		s.begin(v)
	}
	for _, l := range status.Logs {
		if known := s.all[l.Vertex]; known != nil {
			known.tail = append(known.tail, l.Data...)
			known.tail = known.tail[max(0, len(known.tail)-maxTail):]
			said := known.ImageStep
			said.Output = l.Data
			s.step(said)
		}
	}
	for _, v := range status.Vertexes {
		s.end(v)
	}
}

func (s *steps) begin(v solver.Vertex) {
	if strings.HasPrefix(v.Name, "[internal]") || v.Started == nil && v.Completed == nil {
		return
	}
	known := s.all[v.Digest]
	if known == nil {
		known = &step{ImageStep: machine.ImageStep{ID: v.Digest, Name: v.Name, Line: s.file.LineOf(v.Name)}}
		s.all[v.Digest] = known
		if _, trigger, ok := strings.Cut(v.Name, "] ONBUILD "); ok && !s.file.Serves(trigger) {
			s.starved = &known.ImageStep
		}
	}
	if !known.begun {
		known.begun = true
		s.step(known.ImageStep)
	}
}

func (s *steps) end(v solver.Vertex) {
	known := s.all[v.Digest]
	if known == nil || known.Ended || v.Completed == nil {
		return
	}
	known.Ended, known.Cached, known.Err, known.failed = true, v.Cached, v.Error, v.Error != ""
	if v.Started != nil {
		known.Took = v.Completed.Sub(*v.Started).Round(time.Millisecond)
	}
	s.step(known.ImageStep)
}
