package cli

import (
	"bufio"
	"cmp"
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"slices"
	"strconv"
	"strings"

	"golang.org/x/term"

	"github.com/errand-dev/errand"
	"github.com/errand-dev/errand/api"
	"github.com/errand-dev/errand/client"
)

// guide leads one setup from where it stands to its end: with a person's
// answers, or with the flags' where nobody is there to ask.
type guide struct {
	app         *app
	client      *client.Client
	id          errand.SetupID
	flags       setupFlags
	interactive bool
	style       style
	status      *status // what is under way; nil for nobody who looks
	in          *bufio.Reader
	after       errand.Seq // of the journal, what was shown
	asked       bool       // the questions were
	watched     bool       // the latest proof was shown as it went
	sent        bool       // a model was
	ended       bool       // nothing more will be typed
}

func (a *app) guide(c *client.Client, id errand.SetupID, f setupFlags, interactive bool) *guide {
	g := &guide{app: a, client: c, id: id, flags: f, interactive: interactive, style: styleFor(a.err, a.getenv), in: bufio.NewReader(a.in)}
	if isTerminal(a.err) {
		g.status = newStatus(a.err, g.style)
	}
	return g
}

func (g *guide) close() { g.status.Close() }

func (g *guide) say(format string, args ...any) {
	var w interface{ Write([]byte) (int, error) } = g.app.err
	if g.status != nil {
		w = g.status
	}
	fmt.Fprintf(w, format+"\n", args...)
}

// finish adds to an interrupted walk how it is taken up.
func (g *guide) finish(ctx context.Context, err error) error {
	if err != nil && ctx.Err() != nil {
		g.status.Set("")
		fmt.Fprintf(g.app.err, "\nThe setup stays as it is. Go on: errand setup go %s\n                   End it with: errand setup rm %[1]s\n", shortSetup(string(g.id)))
		return &exitError{code: ExitInterrupted}
	}
	return err
}

// walk goes on until the setup is accepted, left or failed.
func (g *guide) walk(ctx context.Context) error {
	sent := g.flags.agent && !g.interactive // the server sends the model by itself
	for {
		setup, err := g.wait(ctx)
		if err != nil {
			return err
		}
		switch {
		case setup.Status == errand.SetupAccepted:
			return g.accepted(setup)
		case setup.Proposal == nil:
			return g.failure(setup)
		case g.flags.proposeOnly:
			return g.proposed(setup)
		case !g.interactive:
			if err := g.unattended(ctx, setup, sent); err != nil {
				return err
			}
			sent = true
		default:
			done, err := g.ask(ctx, setup)
			if err != nil || done {
				return err
			}
		}
	}
}

// unattended takes the next step without asking.
func (g *guide) unattended(ctx context.Context, setup api.Setup, tried bool) error {
	switch {
	case setup.Error != nil:
		return g.failure(setup)
	case setup.Status == errand.SetupProved || g.flags.unproved:
		return g.accept(ctx, g.flags.as)
	case g.flags.agent && !tried:
		return g.open(ctx, errand.SetupAgent)
	}
	_, err := g.client.ProveSetup(ctx, g.id, api.ProveSetup{})
	return err
}

// failure gives a setup's error as the command's.
func (g *guide) failure(setup api.Setup) error {
	if g.app.json {
		if err := g.app.printJSON(setup); err != nil {
			return err
		}
	}
	e := setup.Error
	if e == nil {
		return errand.Errorf(errand.Unavailable, "setup_failed", "The setup did not come to an end. Look at it: errand setup show %s", g.id)
	}
	return &exitError{code: ExitFailed, err: &errand.Error{Kind: errand.Unavailable, Code: e.Code, Message: e.Message, Output: e.Output, ExitCode: e.ExitCode}}
}

// wait shows what goes on until the setup waits for people, and gives it.
func (g *guide) wait(ctx context.Context) (api.Setup, error) {
	setup, err := g.client.Setup(ctx, g.id)
	if err != nil || !setup.Status.Busy() {
		return setup, err
	}
	g.watched = g.status != nil && setup.Status == errand.SetupProving
	var t *transcript
	if g.status != nil {
		t = newTranscript(g.status, g.style, g.status, false)
	}
	for e, err := range g.client.FollowSetup(ctx, g.id, g.after) {
		if err != nil {
			return setup, err
		}
		g.after = e.Seq
		var d errand.SetupChanged
		if e.Kind == errand.EventSetupChanged {
			show(e, func(data errand.SetupChanged) { d = data })
			g.changed(d)
			g.watched = g.watched || t != nil && d.Status == errand.SetupProving
		} else if e.Kind == errand.EventNotice && t != nil {
			show(e, g.notice)
		} else if t != nil {
			t.Event(e)
		}
		if d.Status == "" || d.Status.Busy() {
			continue
		}
		// An older event may tell of a wait that is over.
		g.status.Set("")
		if setup, err = g.client.Setup(ctx, g.id); err != nil || !setup.Status.Busy() {
			return setup, err
		}
	}
	return setup, errand.Errorf(errand.Gone, "setup_not_found", "The setup was deleted.")
}

// notice shows what a person should know, in lines that fit.
func (g *guide) notice(d errand.Notice) {
	text := wrap("  ", printable(d.Text), width(g.app.err))
	if d.Level == "warning" {
		text = g.style.yellow(text)
	}
	g.say("%s", text)
}

// changed tells a person what a change of status is worth telling.
func (g *guide) changed(d errand.SetupChanged) {
	if g.status == nil || d.Status != errand.SetupWorking || d.Machine == "" {
		return
	}
	g.say("  %s %s", g.style.dim("a model works on the draft; watch it:"), "errand logs -f "+shortID(string(d.Machine)))
}

// proposed prints a proposal and ends.
func (g *guide) proposed(setup api.Setup) error {
	if g.app.json {
		return g.app.printJSON(setup)
	}
	showProposal(g.app.out, styleFor(g.app.out, g.app.getenv), width(g.app.out), setup)
	return g.client.DeleteSetup(context.Background(), g.id)
}

// ask lets a person choose the next step. done ends the walk.
func (g *guide) ask(ctx context.Context, setup api.Setup) (done bool, err error) {
	g.status.Set("")
	if !g.asked {
		g.asked = true
		if setup, err = g.questions(ctx, setup); err != nil {
			return false, err
		}
		if g.flags.byHand && setup.MachineID == "" {
			return false, g.open(ctx, errand.SetupPerson)
		}
	}
	if g.watched {
		showVerdict(g.app.err, g.style, setup)
	} else {
		showProof(g.app.err, g.style, setup)
	}
	if steps := stepsOf(setup); !g.watched || len(steps) == 0 || !steps[len(steps)-1].Failed {
		showSetupError(g.app.err, g.style, setup) // else it was shown as it came
	}
	if setup.MachineID != "" && setup.Status == errand.SetupProposed {
		g.say("\nThe machine is open. In another terminal:  %s", g.style.bold("errand attach "+shortID(setup.MachineID)+" desk"))
		g.say("The draft is %s there; what stands in it is proved.", setup.Proposal.Path)
	}
	key, err := g.choose(ctx, choicesFor(setup, g.flags.agent && !g.sent))
	if err != nil {
		return false, err
	}
	return g.do(ctx, setup, key)
}

func stepsOf(setup api.Setup) []errand.ProofStep {
	if setup.Proof == nil {
		return nil
	}
	return setup.Proof.Steps
}

// choice is one key of a menu.
type choice struct{ key, text string }

// choicesFor are the steps that make sense for a setup, the likeliest first:
// where a model is wanted that was not sent yet, to send it.
func choicesFor(setup api.Setup, wanted bool) []choice {
	if setup.Status == errand.SetupProved {
		all := []choice{{"c", "commit it on a branch"}, {"t", "take it as a patch"}, {"s", "store it on the server"}}
		if found := setup.Proof.Found(); len(found) > 0 {
			text := "add the open ports"
			if len(found) == 1 {
				text = fmt.Sprintf("add port %d", found[0])
			}
			all = append(all, choice{"o", text})
		}
		return append(all, choice{"l", "look into the proof's machine"}, choice{"e", "edit"}, choice{"q", "leave it"})
	}
	all := []choice{{"p", "prove it"}, {"e", "edit"}, {"v", "another verify command"}}
	if setup.MachineID == "" {
		all = append(all, choice{"m", "open a machine"})
	} else {
		all = append(all, choice{"a", "enter the machine"})
	}
	if setup.Proof != nil && setup.Proof.Agent != "" && setup.Error != nil {
		all = append(all, choice{"l", "look into the proof's machine"})
	}
	if agent := (choice{"g", "send an agent"}); wanted {
		all = append([]choice{agent}, all...)
	} else {
		all = append(all, agent)
	}
	return append(all, choice{"q", "leave it"})
}

// choose shows a menu on one or two lines and reads a key of it.
func (g *guide) choose(ctx context.Context, all []choice) (string, error) {
	var b strings.Builder
	column := 0
	for _, c := range all {
		text := "[" + c.key + "] " + c.text
		if column > 0 && column+len(text)+3 > width(g.app.err) {
			b.WriteString("\n")
			column = 0
		} else if column > 0 {
			b.WriteString("   ")
			column += 3
		}
		b.WriteString("[" + g.style.bold(c.key) + "] " + c.text)
		column += len(text)
	}
	for {
		g.say("\n%s", b.String())
		line, err := g.line(ctx, "? ["+all[0].key+"] ")
		if errors.Is(err, io.EOF) {
			return "q", nil
		}
		if err != nil {
			return "", err
		}
		key := cmp.Or(strings.ToLower(strings.TrimSpace(line)), all[0].key)
		if slices.ContainsFunc(all, func(c choice) bool { return c.key == key }) {
			return key, nil
		}
		g.say("There is no %q here.", clip(key, 20))
	}
}

// line reads a line that a person types. The end of input is io.EOF, from then
// on: a terminal would go on after it.
func (g *guide) line(ctx context.Context, prompt string) (string, error) {
	if g.ended {
		return "", io.EOF
	}
	fmt.Fprint(g.app.err, g.style.cyan(prompt))
	type answer struct {
		text string
		err  error
	}
	typed := make(chan answer, 1)
	go func() {
		text, err := g.in.ReadString('\n')
		typed <- answer{text, err}
	}()
	select {
	case a := <-typed:
		if a.err != nil {
			g.ended = true
			return "", io.EOF
		}
		return strings.TrimSpace(a.text), nil
	case <-ctx.Done():
		return "", ctx.Err() // the process ends, and with it the reader
	}
}

// questions shows the proposal and asks what the repository does not say.
func (g *guide) questions(ctx context.Context, setup api.Setup) (api.Setup, error) {
	showProposal(g.app.err, g.style, width(g.app.err), setup)
	// Answers propose the draft anew: they come before anybody works on it.
	if setup.Proposal == nil || setup.Draft != setup.Proposal.Text || setup.MachineID != "" || setup.Proof != nil {
		return setup, nil
	}
	answers := map[string]string{}
	for _, q := range setup.Proposal.Questions {
		if slices.Contains(g.flags.answers, q.ID+"="+q.Answer) {
			continue
		}
		g.say("\n%s", printable(q.Text))
		for i, c := range q.Choices {
			g.say("  %d %s", i+1, printable(c))
		}
		answer, err := g.answer(ctx, q)
		if err != nil {
			return setup, err
		}
		if answer != q.Answer {
			answers[q.ID] = answer
		}
	}
	if len(answers) == 0 {
		return setup, nil
	}
	setup, err := g.client.EditSetup(ctx, g.id, api.EditSetup{Answers: answers})
	if err == nil {
		showProposal(g.app.err, g.style, width(g.app.err), setup)
	}
	return setup, err
}

// answer reads a person's choice by its number or its words; nothing typed is
// what holds already.
func (g *guide) answer(ctx context.Context, q errand.Question) (string, error) {
	for {
		line, err := g.line(ctx, fmt.Sprintf("? [%d] ", slices.Index(q.Choices, q.Answer)+1))
		if line == "" && (err == nil || errors.Is(err, io.EOF)) {
			return q.Answer, nil
		}
		if err != nil {
			return "", err
		}
		if n, err := strconv.Atoi(line); err == nil && n >= 1 && n <= len(q.Choices) {
			return q.Choices[n-1], nil
		}
		if at := slices.IndexFunc(q.Choices, func(c string) bool { return strings.EqualFold(c, line) }); at >= 0 {
			return q.Choices[at], nil
		}
		g.say("There is no %q here; type a number from 1 to %d.", clip(line, 20), len(q.Choices))
	}
}

// do takes the step that a person chose.
func (g *guide) do(ctx context.Context, setup api.Setup, key string) (done bool, err error) {
	switch key {
	case "p":
		_, err = g.client.ProveSetup(ctx, g.id, api.ProveSetup{FromMachine: setup.MachineID != ""})
	case "e":
		err = g.edit(ctx, setup)
	case "v":
		err = g.editVerify(ctx, setup)
	case "o":
		setup, err = g.client.EditSetup(ctx, g.id, api.EditSetup{Ports: true})
		if err == nil {
			g.say("\n%s", indent(printable(setup.Draft)))
		}
	case "m":
		err = g.open(ctx, errand.SetupPerson)
	case "g":
		g.sent = true
		err = g.open(ctx, errand.SetupAgent)
	case "a":
		err = g.enter(ctx, setup.MachineID)
	case "l":
		err = g.enter(ctx, string(setup.Proof.Agent))
	case "c":
		err = g.accept(ctx, errand.AcceptCommit)
	case "t":
		err = g.accept(ctx, errand.AcceptPatch)
	case "s":
		err = g.accept(ctx, errand.AcceptStored)
	default:
		g.say("It stays as it is. Go on: errand setup go %s\n             End it with: errand setup rm %[1]s", shortSetup(setup.ID))
		return true, nil
	}
	if e := errand.AsError(err); err != nil && ctx.Err() == nil && e.Kind != errand.Internal && e.Kind != errand.Unauthorized {
		g.say("%s", g.style.red(printable(e.Message))) // a person can choose again
		return false, nil
	}
	return false, err
}

func (g *guide) open(ctx context.Context, mode errand.SetupMode) error {
	model, err := modelRef(g.flags.model, nil)
	if err != nil {
		return err
	}
	_, err = g.client.OpenSetup(ctx, g.id, api.OpenSetup{Mode: mode, Model: model})
	return err
}

// edit lets a person change the draft until it is an environment file.
func (g *guide) edit(ctx context.Context, setup api.Setup) error {
	draft, err := g.app.edit(ctx, setup.Draft)
	if err != nil || draft == setup.Draft {
		return err
	}
	setup, err = g.client.EditSetup(ctx, g.id, api.EditSetup{Draft: &draft})
	if err == nil {
		g.say("\n%s", indent(printable(setup.Draft)))
	}
	return err
}

func (g *guide) editVerify(ctx context.Context, setup api.Setup) error {
	g.say("Now: %s", cmp.Or(printable(setup.Verify), "none"))
	line, err := g.line(ctx, "the verify command: ")
	if errors.Is(err, io.EOF) || err == nil && line == "" {
		return nil
	}
	if err != nil {
		return err
	}
	_, err = g.client.EditSetup(ctx, g.id, api.EditSetup{Verify: &line})
	return err
}

// enter shows a shared terminal of an agent's machine in this one.
func (g *guide) enter(ctx context.Context, agent string) error {
	g.status.Set("")
	self, err := os.Executable()
	if err != nil {
		return fmt.Errorf("finding this program: %w", err)
	}
	g.say("%s", g.style.dim("A shared terminal of the machine follows. Leave it with Ctrl-B D; it goes on without you."))
	cmd := exec.CommandContext(ctx, self, "attach", agent, "desk")
	cmd.Stdin, cmd.Stdout, cmd.Stderr = g.app.in, g.app.out, g.app.err
	cmd.Env = append(os.Environ(), "ERRAND_URL="+g.client.URL())
	if g.app.url == "" && g.app.getenv("ERRAND_URL") == "" {
		cmd.Env = os.Environ() // the data directory tells the address and the key
	}
	return cmd.Run()
}

func (g *guide) accept(ctx context.Context, as string) error {
	req := api.AcceptSetup{As: as, Name: g.flags.name, Branch: g.flags.branch, Unproved: g.flags.unproved}
	if g.flags.team {
		req.Owner = errand.OwnerTeam
	}
	_, err := g.client.AcceptSetup(ctx, g.id, req)
	return err
}

// accepted tells what was written and what to do next.
func (g *guide) accepted(setup api.Setup) error {
	g.status.Set("")
	if g.app.json {
		return g.app.printJSON(setup)
	}
	w := setup.Acceptance
	s := g.style
	run := "errand run --repo " + quoteArg(setup.Repository.URL) + ` "what it is to do"`
	switch w.As {
	case errand.AcceptCommit:
		g.name(w.Branch)
		g.say("%s %s is on the branch\n  %s. Merge it; then agents start ready:", s.green("✓"), setup.Proposal.Path, s.bold(printable(w.Branch)))
	case errand.AcceptPatch:
		to, err := g.app.writePatch(w.Patch, g.flags.out)
		if err != nil {
			return err
		}
		if to == "" {
			return nil
		}
		g.name(to)
		g.say("%s %s is in %s. Apply and commit it; then agents start ready:\n  %s", s.green("✓"), setup.Proposal.Path, s.bold(to), "git apply "+quoteArg(to))
	case errand.AcceptStored:
		g.name(string(w.Environment))
		g.say("%s It is stored as %s. Agents on this repository start on it:", s.green("✓"), s.bold(printable(w.Name)))
	}
	g.say("  %s", run)
	return nil
}

// name prints what was written for a script; a terminal is told in a sentence.
func (g *guide) name(what string) {
	if !isTerminal(g.app.out) {
		fmt.Fprintln(g.app.out, printable(what))
	}
}

func quoteArg(s string) string {
	if s != "" && !strings.ContainsAny(s, " \t\n'\"$`\\&|;<>()*?[]#~!{}") {
		return s
	}
	return "'" + strings.ReplaceAll(s, "'", `'\''`) + "'"
}

// edit lets a person change text in their editor.
func (a *app) edit(ctx context.Context, text string) (string, error) {
	if !isTerminal(a.in) {
		return "", usageError("an editor needs a terminal; give the draft with --file")
	}
	f, err := os.CreateTemp("", "environment-*.json")
	if err != nil {
		return "", fmt.Errorf("making a file to edit: %w", err)
	}
	defer os.Remove(f.Name())
	if _, err := f.WriteString(text); err != nil {
		return "", err
	}
	if err := f.Close(); err != nil {
		return "", err
	}
	editor := cmp.Or(a.getenv("VISUAL"), a.getenv("EDITOR"), "vi")
	cmd := exec.CommandContext(ctx, "sh", "-c", editor+` "$1"`, "sh", f.Name())
	cmd.Stdin, cmd.Stdout, cmd.Stderr = a.in, a.err, a.err
	if err := cmd.Run(); err != nil {
		return "", errand.Errorf(errand.Invalid, "editor_failed", "The editor %s did not end well (%w). Set EDITOR to another.", editor, err)
	}
	out, err := os.ReadFile(f.Name())
	return string(out), err
}

// width is how many columns a terminal has; 80 where there is none.
func width(f *os.File) int {
	if w, _, err := term.GetSize(int(f.Fd())); err == nil && w >= 40 {
		return min(w, 120)
	}
	return 80
}
