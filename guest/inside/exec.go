package inside

import (
	"errors"
	"flag"
	"fmt"
	"os"
	"strings"
	"syscall"

	"github.com/errand-dev/errand/guest/wire"
)

// Exec becomes a command, run as a user with that user's environment and shell:
// the one thing that a terminal needs and tmux cannot do.
//
//	exec [-user U] [-dir D] [-env K=V]... [COMMAND]
//
// COMMAND is for the user's shell; without it, it is the shell. Exec returns
// only errors.
func Exec(args []string) error {
	var c wire.Command
	flags := flag.NewFlagSet("exec", flag.ContinueOnError)
	flags.StringVar(&c.User, "user", "", "name or uid[:gid]")
	flags.StringVar(&c.Dir, "dir", "", "where to start; the user's home if empty")
	flags.Func("env", "K=V, may be repeated", func(kv string) error {
		c.Env = append(c.Env, kv)
		return nil
	})
	if err := flags.Parse(args); err != nil {
		return err
	}
	user, err := lookup(c.User)
	if err != nil {
		return err
	}
	if term, ok := os.LookupEnv("TERM"); ok {
		c.Env = append([]string{"TERM=" + term}, c.Env...)
	}
	if os.Getenv("TMUX") != "" {
		// It shows all colours, whatever TERM says of it.
		c.Env = append([]string{"COLORTERM=truecolor"}, c.Env...)
	}
	for _, k := range []string{"TMUX", "TMUX_PANE"} {
		if v, ok := os.LookupEnv(k); ok {
			c.Env = append(c.Env, k+"="+v)
		}
	}
	env := environ(os.Environ(), user, &c)
	argv := []string{user.shell}
	if command := strings.Join(flags.Args(), " "); command != "" {
		argv = append(argv, "-c", command)
	}
	if err := become(user); err != nil {
		return fmt.Errorf("becoming %s: %w", user.name, err)
	}
	if c.Dir == "" {
		c.Dir = user.home
		if stat, err := os.Stat(c.Dir); err != nil || !stat.IsDir() {
			c.Dir = "/"
		}
	}
	if err := os.Chdir(c.Dir); err != nil {
		return err
	}
	err = syscall.Exec(argv[0], argv, env)
	if errors.Is(err, os.ErrNotExist) && user.shell != "/bin/sh" {
		argv[0] = "/bin/sh"
		err = syscall.Exec(argv[0], argv, env)
	}
	return fmt.Errorf("starting %s: %w", argv[0], err)
}

// become gives up our user for another, for good.
func become(user account) error {
	cred := user.credential()
	if cred == nil {
		return nil
	}
	groups := make([]int, 0, len(cred.Groups))
	for _, g := range cred.Groups {
		groups = append(groups, int(g))
	}
	if err := syscall.Setgroups(groups); err != nil {
		return err
	}
	if err := syscall.Setgid(int(cred.Gid)); err != nil {
		return err
	}
	return syscall.Setuid(int(cred.Uid))
}
