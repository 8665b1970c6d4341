package cli

import (
	"fmt"
	"strings"
	"time"

	"github.com/spf13/cobra"

	"github.com/errand-dev/errand"
	"github.com/errand-dev/errand/api"
)

func (a *app) takeoverCommand() *cobra.Command {
	var o api.TakeOver
	cmd := &cobra.Command{
		Use: "takeover [AGENT]", Short: "Take an agent over: it waits until you hand it back", Args: usage(cobra.MaximumNArgs(1)),
		Long: `Take an agent over, to do a part by hand. The command that it is running ends and
is kept; nothing new begins, and what is queued waits, until "errand handback".
Work in its machine as you like meanwhile: errand attach, errand exec, ssh. To
look on you need not take it over. Again by the same person: for longer.`,
		RunE: func(cmd *cobra.Command, args []string) error {
			c, id, err := a.agentArg(cmd.Context(), args)
			if err != nil {
				return err
			}
			held, err := c.Takeover(cmd.Context(), id, o)
			if err != nil {
				return err
			}
			if a.json {
				return a.printJSON(held)
			}
			fmt.Fprintf(a.out, "%s is yours until %s\n", id, held.Until.Local().Format("15:04"))
			if !held.Ready {
				fmt.Fprintln(a.err, "Its machine is not ready yet. What you change before it is may not be known to be yours.")
			}
			if isTerminal(a.err) {
				short := shortID(string(id))
				fmt.Fprintf(a.err, "Go in:     errand attach %s desk\nGive back: errand handback %s -m \"what you did\"\n", short, short)
			}
			return nil
		},
	}
	cmd.Flags().BoolVar(&o.Force, "force", false, "take it from whoever has it")
	return cmd
}

func (a *app) handbackCommand() *cobra.Command {
	var o api.HandBack
	cmd := &cobra.Command{
		Use: "handback [AGENT]", Short: "Hand an agent back: it is told what you did, and goes on", Args: usage(cobra.MaximumNArgs(1)),
		Long: `Hand an agent back that you took over. It is told which files differ and how,
which commits and commands there were, and your note; then its run goes on, or
the next that waits. What it is told is printed.`,
		Example: `errand handback latest -m "The port was taken; I moved the server to 8081"`,
		RunE: func(cmd *cobra.Command, args []string) error {
			c, id, err := a.agentArg(cmd.Context(), args)
			if err != nil {
				return err
			}
			done, err := c.Handback(cmd.Context(), id, o)
			if err != nil {
				return err
			}
			if a.json {
				return a.printJSON(done)
			}
			fmt.Fprintln(a.out, printable(done.Summary))
			return nil
		},
	}
	cmd.Flags().StringVarP(&o.Note, "message", "m", "", "a note for the agent")
	cmd.Flags().BoolVar(&o.Force, "force", false, "also where somebody else has it")
	return cmd
}

// heldBy says who has an agent in hand, in a few words.
func heldBy(t *api.Takeover, now time.Time) string {
	text := fmt.Sprintf("taken over by %s %s, until %s", clip(t.By, 60), ago(t.Since, now), t.Until.Local().Format("15:04"))
	if t.Ending {
		text += ", being handed back"
	}
	return text
}

// whoIsHere lists people with what they do.
func whoIsHere(p api.Presence) string {
	var all []string
	for _, one := range p.People {
		doing := one.Doing
		switch {
		case one.Terminal != "" && one.Typing:
			doing = "typing in " + one.Terminal
		case one.Terminal != "":
			doing = "in " + one.Terminal
		case one.Doing == "command":
			doing = "running a command"
		case one.Doing == "preview":
			doing = fmt.Sprintf("looking at port %d", one.Port)
		case one.Doing == "port":
			doing = fmt.Sprintf("forwarding port %d", one.Port)
		case one.Doing == "files":
			doing = "looking at the files"
		}
		all = append(all, fmt.Sprintf("%s (%s)", one.Name, doing))
	}
	if p.More > 0 {
		all = append(all, fmt.Sprintf("and %d more", p.More))
	}
	return clip(strings.Join(all, ", "), 300)
}

// takeover writes the events of take-overs.
func (t *transcript) takeover(e errand.Event) {
	switch e.Kind {
	case errand.EventTakeoverStarted:
		show(e, func(d errand.TakeoverStarted) {
			who, until := clip(d.Caller.Called(), 60), d.Until.Local().Format("15:04")
			switch {
			case d.Longer:
				t.line(t.style.yellow(fmt.Sprintf("⏸ %s has it for longer, until %s", who, until)))
			case d.From != nil:
				t.line(t.style.yellow(fmt.Sprintf("⏸ %s took it over from %s, until %s", who, clip(d.From.Called(), 60), until)))
			default:
				t.line(t.style.yellow(fmt.Sprintf("⏸ taken over by %s, until %s", who, until)))
			}
			t.doing("waiting for " + who)
		})
	case errand.EventTakeoverReminded:
		show(e, func(d errand.TakeoverReminded) {
			t.note(t.style.yellow(fmt.Sprintf("it is handed back by itself in %s", milliseconds(d.LeftMs))))
		})
	case errand.EventTakeoverCommand:
		show(e, func(d errand.TakeoverCommand) {
			t.note(t.style.dim(clip(d.Caller.Called(), 40)+" ran ") + clip(d.Command, 110))
		})
	case errand.EventTakeoverEnded:
		show(e, func(d errand.TakeoverEnded) {
			t.status.Set("")
			t.line(t.style.yellow("▶ " + handedBack(d)))
			summary := printable(d.Summary)
			if !t.whole {
				summary = cutLines(summary, 12, 4)
			}
			t.block(summary)
		})
	}
}

// handedBack says how a take-over ended.
func handedBack(d errand.TakeoverEnded) string {
	by := clip(d.Ending.Caller.Called(), 60)
	switch d.Ending.Why {
	case errand.EndingLimit:
		return "handed back by itself: its time was over"
	case errand.EndingCancel:
		return "handed back: " + by + " cancelled the run"
	case errand.EndingArchive:
		return "handed back: " + by + " archived the agent"
	}
	return "handed back by " + by
}
