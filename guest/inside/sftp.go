package inside

import (
	"errors"
	"flag"
	"fmt"
	"io"
	"os"

	"github.com/pkg/sftp"
)

// SFTP serves the files that our user may reach, by the protocol of that name
// (draft-ietf-secsh-filexfer-02), on standard input and output. Relative paths
// begin in the directory that is named.
//
//	sftp [-dir D]
func SFTP(args []string) error {
	flags := flag.NewFlagSet("sftp", flag.ContinueOnError)
	dir := flags.String("dir", "/", "where relative paths begin")
	if err := flags.Parse(args); err != nil {
		return err
	}
	streams := struct {
		io.Reader
		io.WriteCloser
	}{os.Stdin, os.Stdout}
	server, err := sftp.NewServer(streams, sftp.WithServerWorkingDirectory(*dir), sftp.WithAllocator())
	if err != nil {
		return fmt.Errorf("serving files: %w", err)
	}
	if err := server.Serve(); err != nil && !errors.Is(err, io.EOF) {
		return fmt.Errorf("serving files: %w", err)
	}
	return nil
}
