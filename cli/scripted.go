package cli

import (
	"fmt"
	"net"
	"os"

	"github.com/spf13/cobra"

	"github.com/errand-dev/errand/llm/scripted"
)

func (a *app) scriptedCommand() *cobra.Command {
	var script, listen string
	cmd := &cobra.Command{
		Use:   "scripted-model --script FILE",
		Short: "Serve a model that says what a script tells it",
		Long: `Serve a language model that says what a script tells it, over the protocols of
Anthropic and OpenAI. It is for tests and demonstrations: point ANTHROPIC_BASE_URL
or OPENAI_BASE_URL of a server at it.`,
		Args: usage(cobra.NoArgs),
		RunE: func(cmd *cobra.Command, _ []string) error {
			if script == "" {
				return usageError("--script is needed: the file that says what the model says")
			}
			text, err := os.ReadFile(script)
			if err != nil {
				return usageError("--script: %w", err)
			}
			parsed, err := scripted.Parse(text)
			if err != nil {
				return fmt.Errorf("reading %s: %w", script, err)
			}
			l, err := net.Listen("tcp", listen)
			if err != nil {
				return fmt.Errorf("listening: %w", err)
			}
			url := "http://" + l.Addr().String()
			if a.json {
				if err := a.printJSON(map[string]string{"url": url}); err != nil {
					return err
				}
			} else {
				fmt.Fprintln(a.out, url)
			}
			return scripted.Serve(cmd.Context(), l, parsed)
		},
	}
	cmd.Flags().StringVar(&script, "script", "", "the script; docs/scripted-model.md describes its form")
	cmd.Flags().StringVar(&listen, "listen", "127.0.0.1:0", "where to listen, HOST:PORT")
	return cmd
}
