package inside

import (
	"errors"
	"fmt"
	"io/fs"
	"strings"

	"golang.org/x/sys/unix"

	"github.com/errand-dev/errand/guest/wire"
)

func faultf(code, format string, args ...any) *wire.Fault {
	return &wire.Fault{Code: code, Message: fmt.Sprintf(format, args...)}
}

// Fault gives err in the form in which it travels.
func Fault(err error) *wire.Fault { return fault(err) }

// fault gives err in the form in which it travels.
func fault(err error) *wire.Fault {
	var f *wire.Fault
	if errors.As(err, &f) {
		return f
	}
	code := wire.CodeFailed
	switch {
	case errors.Is(err, fs.ErrNotExist), errors.Is(err, unix.ENOTDIR):
		code = wire.CodeNotExist
	case errors.Is(err, fs.ErrExist):
		code = wire.CodeExist
	case errors.Is(err, fs.ErrPermission):
		code = wire.CodePermission
	case escapes(err):
		code = wire.CodeOutside
	case errors.Is(err, unix.EISDIR), errors.Is(err, fs.ErrInvalid):
		code = wire.CodeInvalid
	case errors.Is(err, unix.ECONNREFUSED):
		code = wire.CodeRefused
	}
	return &wire.Fault{Code: code, Message: err.Error()}
}

// escapes says whether os.Root refused a path that leaves it. Package os does
// not export the error.
func escapes(err error) bool {
	var p *fs.PathError
	return errors.As(err, &p) && strings.HasSuffix(p.Err.Error(), "path escapes from parent")
}
