package bench

import (
	"bufio"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"syscall"
	"time"

	"github.com/errand-dev/errand"
	"github.com/errand-dev/errand/api"
	"github.com/errand-dev/errand/client"
	"github.com/errand-dev/errand/llm/scripted"
)

// The prompts that the measurements' model knows.
const (
	promptShort   = "Say that you are done" // answered at once
	promptLong    = "Think it over"         // answered in an hour
	promptCommand = "Run one command"       // answered by a call of it
)

// model serves a scripted model on loopback.
func model() (url string, end func() error, err error) {
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		return "", nil, fmt.Errorf("starting the scripted model: %w", err)
	}
	script := &scripted.Script{Conversations: []*scripted.Conversation{
		{Match: scripted.Pat(promptLong), Turns: []*scripted.Turn{{Text: "It is over.", Delay: scripted.Duration(time.Hour)}}},
		{Match: scripted.Pat(promptCommand), Turns: []*scripted.Turn{
			{Calls: []scripted.Call{{Name: "run_terminal_cmd", Args: json.RawMessage(`{"command":"true"}`)}}}, {Text: "Done."},
		}},
		{Repeat: true, Turns: []*scripted.Turn{{Text: "Done."}}, FollowUps: []*scripted.FollowUp{{Repeat: true, Turns: []*scripted.Turn{{Text: "Done again."}}}}},
	}}
	ctx, cancel := context.WithCancel(context.Background())
	done := make(chan error, 1)
	go func() { done <- scripted.Serve(ctx, l, script) }()
	return "http://" + l.Addr().String(), func() error { cancel(); return <-done }, nil
}

// served is a data directory with the servers that work on it, one after
// another, each a process of its own.
type served struct {
	bench  *bench
	data   string
	engine string // of its agents' machines
	model  string // the scripted model's URL
	end    func() error
	key    string

	client *client.Client
	server *exec.Cmd // nil while none runs
	log    *os.File
	exited chan error
}

// serve readies a data directory; start starts a server on it. The caller
// closes it.
func (b *bench) serve(part string) (*served, error) {
	s := &served{bench: b, data: filepath.Join(b.Dir, part+"-server"), engine: b.Engines[0]}
	if slices.Contains(b.Engines, "runc") {
		s.engine = "runc" // the faster one, where it is not the machine that is measured
	}
	if err := os.MkdirAll(s.data, 0o700); err != nil {
		return nil, err
	}
	var err error
	s.model, s.end, err = model()
	return s, err
}

// eachAgent starts a server and, on each engine, an agent, and hands it on when its
// run has ended.
func (b *bench) eachAgent(ctx context.Context, part string, measure func(ctx context.Context, s *served, id errand.AgentID) error) (err error) {
	s, err := b.serve(part)
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, s.close(ctx)) }()
	if err := s.start(ctx, ServerOptions{Runs: 1, Idle: time.Hour}); err != nil {
		return err
	}
	on := func(engine string) error {
		s.engine = engine
		made, err := s.agent(ctx, promptShort)
		if err != nil {
			return err
		}
		if _, err := s.await(ctx, made.Agent.ID, 0, finished); err != nil {
			return err
		}
		return measure(ctx, s, errand.AgentID(made.Agent.ID))
	}
	for _, engine := range b.Engines {
		if err := on(engine); err != nil {
			return fmt.Errorf("on %s: %w", engine, err)
		}
	}
	return nil
}

// start starts a server and returns when it answers.
func (s *served) start(ctx context.Context, o ServerOptions) error {
	var err error
	if s.log, err = os.Create(filepath.Join(s.data, "server.log")); err != nil {
		return err
	}
	cmd := s.bench.Server(s.data, o)
	cmd.Env = append(os.Environ(), "ANTHROPIC_API_KEY=scripted", "ANTHROPIC_BASE_URL="+s.model, "OPENAI_API_KEY=", "OPENAI_BASE_URL=")
	cmd.Stderr = s.log
	cmd.SysProcAttr = &syscall.SysProcAttr{Setpgid: true} // Ctrl-C is for us, who then end the server in order
	out, err := cmd.StdoutPipe()
	if err != nil {
		return err
	}
	if err := cmd.Start(); err != nil {
		return fmt.Errorf("starting the server: %w", err)
	}
	s.server, s.exited = cmd, make(chan error, 1)
	ready := make(chan string, 1)
	go func() {
		r := bufio.NewReader(out)
		line, _ := r.ReadString('\n') // an early end is told by an empty line
		ready <- line
		_, _ = io.Copy(io.Discard, r)
		s.exited <- cmd.Wait()
	}()
	select {
	case line := <-ready:
		return s.connect(line)
	case <-ctx.Done():
		return ctx.Err()
	}
}

// connect reads the line in which the server says where it is.
func (s *served) connect(line string) error {
	var ready struct{ URL, Key string }
	if err := json.Unmarshal([]byte(line), &ready); err != nil {
		text, _ := os.ReadFile(s.log.Name())
		return &errand.Error{Kind: errand.Unavailable, Code: "server_ended", Message: "The measurement's server could not start.", Output: string(text)}
	}
	if ready.Key != "" {
		s.key = ready.Key
	}
	var err error
	s.client, err = client.New(client.Options{URL: ready.URL, Key: s.key})
	return err
}

// stop ends the server, if one runs.
func (s *served) stop() error {
	if s.server == nil {
		return nil
	}
	_ = s.server.Process.Signal(syscall.SIGTERM) // it may have ended already
	select {
	case <-s.exited:
	case <-time.After(30 * time.Second):
		_ = s.server.Process.Kill()
		<-s.exited
	}
	s.server = nil
	return s.log.Close()
}

// close ends the server and takes away its machines and its data.
func (s *served) close(ctx context.Context) error {
	errs := []error{s.stop(), s.end()}
	r, err := s.bench.rig(s.data, s.engine)
	if err != nil {
		return errors.Join(append(errs, err)...)
	}
	return errors.Join(append(errs, r.close(ctx))...)
}

// agent makes an agent without a repository.
func (s *served) agent(ctx context.Context, prompt string) (api.CreatedAgent, error) {
	return s.client.CreateAgent(ctx, api.CreateAgent{Prompt: api.Prompt{Text: prompt}, Engine: s.engine}, "")
}

// await follows an agent's journal after a number until an event is what is
// waited for.
func (s *served) await(ctx context.Context, agent string, after errand.Seq, is func(errand.Event) (bool, error)) (errand.Seq, error) {
	ctx, cancel := context.WithTimeout(ctx, 2*time.Minute)
	defer cancel()
	for e, err := range s.client.Follow(ctx, errand.AgentID(agent), after) {
		if err != nil {
			return after, err
		}
		after = e.Seq
		if found, err := is(e); found || err != nil {
			return after, err
		}
	}
	return after, fmt.Errorf("the journal of %s ended too early: %w", agent, context.Cause(ctx))
}

// finished is an end of a run that has to be a good one.
func finished(e errand.Event) (bool, error) {
	if e.Kind != errand.EventRunStatus {
		return false, nil
	}
	var d errand.RunStatusData
	if err := json.Unmarshal(e.Data, &d); err != nil {
		return false, err
	}
	if d.Status.Ended() && d.Status != errand.RunFinished {
		return false, fmt.Errorf("a run is %s: %s", d.Status, e.Data)
	}
	return d.Status == errand.RunFinished, nil
}

// stopped is the end of a machine that nobody used.
func stopped(e errand.Event) (bool, error) {
	var d errand.MachineData
	if e.Kind != errand.EventMachine {
		return false, nil
	}
	err := json.Unmarshal(e.Data, &d)
	return d.What == "stopped", err
}

// thinking is a run that has asked its model.
func thinking(e errand.Event) (bool, error) { return e.Kind == errand.EventTurnStarted, nil }

// memory gives what the server's process holds, in MB: resident, and its share
// of that which other processes hold too counted in proportion.
func (s *served) memory() (resident, share float64, err error) {
	dir := filepath.Join("/proc", strconv.Itoa(s.server.Process.Pid))
	if resident, err = procMB(filepath.Join(dir, "status"), "VmRSS:"); err != nil {
		return 0, 0, err
	}
	share, err = procMB(filepath.Join(dir, "smaps_rollup"), "Pss:")
	return resident, share, err
}

// procMB reads a line "name 123 kB" of a file in /proc.
func procMB(path, name string) (float64, error) {
	text, err := os.ReadFile(path)
	if err != nil {
		return 0, err
	}
	for line := range strings.Lines(string(text)) {
		if fields := strings.Fields(line); len(fields) == 3 && fields[0] == name {
			kb, err := strconv.ParseFloat(fields[1], 64)
			return kb * 1024 / 1e6, err
		}
	}
	return 0, fmt.Errorf("%s has no line %s", path, name)
}
