// Command errand-kms speaks with those who keep key-encryption keys for an
// Errand server: AWS KMS, Google Cloud KMS, Azure Key Vault and Vault. The server
// starts it when such a key is used and speaks with it over standard input and
// output; it is no command for people. It only wires: which keepers there are
// stands here.
package main

import (
	"fmt"
	"io"
	"os"

	"github.com/errand-dev/errand/secret/kms"
	"github.com/errand-dev/errand/secret/kms/keeper"
)

func main() {
	if st, err := os.Stdin.Stat(); err != nil || st.Mode()&os.ModeCharDevice != 0 {
		fmt.Fprintln(os.Stderr, "errand-kms is started by errand serve, which speaks with it. Name a key with: errand serve --kek URL")
		os.Exit(2)
	}
	err := kms.Serve(stdio{os.Stdin, os.Stdout}, map[string]kms.Opener{
		"awskms":        keeper.AWS,
		"gcpkms":        keeper.Google(),
		"azurekeyvault": keeper.Azure{}.Open,
		"hashivault":    keeper.Transit(os.Getenv),
	})
	if err != nil {
		fmt.Fprintln(os.Stderr, err)
		os.Exit(1)
	}
}

type stdio struct {
	io.ReadCloser
	io.Writer
}
