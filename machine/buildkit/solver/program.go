package solver

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os/exec"
	"strings"
	"time"

	"github.com/errand-dev/errand/dockerfile"
)

// Program is the path of errand-buildkit.
type Program string

// patience is how long the program may take to end when its task is called off.
const patience = 5 * time.Second

// Solve builds an image and gives the digest of its manifest. tell is handed what
// is new about the steps, one after the other, before Solve returns. An error of
// the build is a *Failure; when ctx ends first the build is called off.
func (p Program) Solve(ctx context.Context, in Solve, tell func(Status)) (digest string, err error) {
	last, err := p.run(ctx, Task{Solve: &in}, tell)
	return last.Digest, err
}

// Shrink makes the cache smaller. An error of the daemon is a *Failure.
func (p Program) Shrink(ctx context.Context, in Shrink) error {
	_, err := p.run(ctx, Task{Shrink: &in}, nil)
	return err
}

// Lint says what is odd about a Dockerfile that can be parsed, as
// dockerfile.Linter has it.
func (p Program) Lint(ctx context.Context, text []byte) ([]dockerfile.Finding, error) {
	last, err := p.run(ctx, Task{Lint: &Lint{text}}, nil)
	return last.Findings, err
}

// run starts the program for a task and gives its last line.
func (p Program) run(ctx context.Context, task Task, tell func(Status)) (last line, err error) {
	order, err := json.Marshal(task)
	if err != nil {
		return last, err
	}
	cmd := exec.CommandContext(ctx, string(p))
	var said bytes.Buffer
	cmd.Stderr = &said
	stdin, err := cmd.StdinPipe()
	if err != nil {
		return last, err
	}
	cmd.Cancel, cmd.WaitDelay = stdin.Close, patience
	stdout, err := cmd.StdoutPipe()
	if err != nil {
		return last, err
	}
	if err := cmd.Start(); err != nil {
		return last, fmt.Errorf("starting errand-buildkit: %w", err)
	}
	_, wrote := stdin.Write(append(order, '\n'))
	last, err = read(stdout, tell)
	_ = stdin.Close() // closed already where ctx has ended
	ended := cmd.Wait()
	switch {
	case ctx.Err() != nil:
		return last, ctx.Err()
	case err == nil && last.Failure != nil:
		return last, last.Failure
	case err != nil || !last.Done:
		return last, fmt.Errorf("errand-buildkit ended before it was done: %w (%s)", errors.Join(wrote, err, ended), strings.TrimSpace(said.String()))
	}
	return last, nil
}

// read hands on what the program tells, and gives its last line.
func read(r io.Reader, tell func(Status)) (last line, err error) {
	lines := json.NewDecoder(r)
	for !last.Done {
		last = line{}
		if err := lines.Decode(&last); err != nil {
			return line{}, err
		}
		if last.Status != nil {
			tell(*last.Status)
		}
	}
	return last, nil
}

// Serve does the program's part: it reads one task, has do do it, and answers.
// do hands what is new about steps to tell. When the input ends nobody wants the
// outcome: Serve then returns without waiting for do, and the caller is to end the
// process, which the daemon sees.
func Serve(in io.Reader, out io.Writer, do func(ctx context.Context, t Task, tell func(status any) error) (digest string, odd []dockerfile.Finding, failure *Failure)) error {
	input := json.NewDecoder(in)
	var task Task
	if err := input.Decode(&task); err != nil {
		return fmt.Errorf("reading what to do: %w", err)
	}
	answer := json.NewEncoder(out)
	ended := make(chan error, 2)
	go func() {
		_, err := io.Copy(io.Discard, io.MultiReader(input.Buffered(), in))
		ended <- errors.Join(err, errors.New("nobody wants the outcome any more"))
	}()
	go func() {
		last := line{Done: true}
		last.Digest, last.Findings, last.Failure = do(context.Background(), task, func(status any) error {
			return answer.Encode(struct {
				Status any `json:"status"`
			}{status})
		})
		ended <- answer.Encode(last)
	}()
	return <-ended
}
