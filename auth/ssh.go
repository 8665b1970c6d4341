package auth

import (
	"context"
	"fmt"
	"slices"
	"strings"

	"github.com/google/uuid"
	"golang.org/x/crypto/ssh"

	"github.com/errand-dev/errand"
	"github.com/errand-dev/errand/store"
)

// maxSSHKeys bounds a person's public keys.
const maxSSHKeys = 100

// AddSSHKey keeps a public key, a line as in authorized_keys(5), by which the
// caller walks into machines from then on. With the option cert-authority it lets
// in who has a certificate that it signed for one of the principals="a,b", which
// are the caller's name and address where they are not said. Other options are
// refused: they would not hold here. To add it again is no error; a key is one
// person's.
func (k *Keys) AddSSHKey(ctx context.Context, who errand.Caller, line string) (store.SSHKey, error) {
	public, comment, options, _, err := ssh.ParseAuthorizedKey([]byte(line))
	switch {
	case strings.Contains(line, "PRIVATE KEY"):
		return store.SSHKey{}, errand.Errorf(errand.Invalid, "validation_error", "This is a private key, which nobody else should have. Add the public one beside it, the file that ends in .pub.")
	case err != nil:
		return store.SSHKey{}, errand.Errorf(errand.Invalid, "validation_error", "This is no public ssh key. It is one line, as in ~/.ssh/id_ed25519.pub: ssh-ed25519 AAAA… comment")
	}
	principals, err := principalsOf(who, options)
	if err != nil {
		return store.SSHKey{}, err
	}
	if _, ok := public.(*ssh.Certificate); ok {
		return store.SSHKey{}, errand.Errorf(errand.Invalid, "validation_error", "This is a certificate. Add the public key itself.")
	}
	added := store.SSHKey{
		ID: "sshkey-" + uuid.NewString(), Person: who.Person(), Name: who.Name, Fingerprint: ssh.FingerprintSHA256(public),
		Public: strings.TrimSpace(string(ssh.MarshalAuthorizedKey(public))), Comment: clipComment(comment), Principals: principals,
	}
	err = k.store.Write(ctx, func(t *store.Tx) error {
		known, err := t.SSHKeyByFingerprint(ctx, added.Fingerprint)
		switch {
		case err == nil && known.Person == added.Person && slices.Equal(known.Principals, added.Principals):
			added = known
			return nil
		case err == nil && known.Person == added.Person:
			return errand.Errorf(errand.Conflict, "ssh_key_conflict", "You have this key here already, for another use. Remove it first: errand ssh-key rm %s", known.Fingerprint)
		case err == nil:
			return errand.Errorf(errand.Conflict, "ssh_key_conflict", "This key is another person's here already. Make one of your own: ssh-keygen -t ed25519")
		case errand.KindOf(err) != errand.NotFound:
			return err
		}
		all, err := t.SSHKeys(ctx, added.Person)
		if err != nil {
			return err
		}
		if len(all) >= maxSSHKeys {
			return errand.Errorf(errand.Conflict, "ssh_keys_limit", "You have %d ssh keys, and at most that many are allowed. Remove one: errand ssh-key rm", maxSSHKeys)
		}
		added.CreatedAt = t.Now()
		return t.InsertSSHKey(added)
	})
	return added, err
}

// clipComment makes of a key's comment a short line.
// maxPrincipals bounds for whom an authority's certificates may be, and how long
// one of their names is, in bytes.
const (
	maxPrincipals = 32
	maxPrincipal  = 255
)

// principalsOf reads the options of a key: nil is one without.
func principalsOf(who errand.Caller, options []string) (principals []string, err error) {
	authority := false
	for _, o := range options {
		switch name, value, _ := strings.Cut(o, "="); strings.ToLower(name) {
		case "cert-authority":
			authority = true
		case "principals":
			for _, p := range strings.Split(strings.Trim(value, `"`), ",") {
				if p = strings.TrimSpace(p); p != "" {
					principals = append(principals, p)
				}
			}
		default:
			return nil, errand.Errorf(errand.Invalid, "validation_error", "The key has the option %.80q before it, which would not hold here. Add it without that.", o)
		}
	}
	tooLong := func(p string) bool { return len(p) > maxPrincipal }
	switch {
	case !authority && principals == nil:
		return nil, nil
	case !authority:
		return nil, errand.Errorf(errand.Invalid, "validation_error", "principals are of keys that sign certificates: put cert-authority before it.")
	case len(principals) > maxPrincipals || slices.ContainsFunc(principals, tooLong):
		return nil, errand.Errorf(errand.Invalid, "validation_error", "At most %d principals of %d bytes are allowed.", maxPrincipals, maxPrincipal)
	case principals == nil:
		for _, p := range []string{who.Name, who.Email} {
			if p != "" {
				principals = append(principals, p)
			}
		}
	}
	if principals == nil {
		return nil, errand.Errorf(errand.Invalid, "validation_error", `Your key of this server has no name, so say whom the certificates are for: principals="NAME" before the key.`)
	}
	return principals, nil
}

func clipComment(s string) string {
	s = strings.Join(strings.Fields(strings.ToValidUTF8(s, "")), " ")
	return strings.ToValidUTF8(s[:min(len(s), 100)], "")
}

// SSHKeys gives the caller's public keys, oldest first.
func (k *Keys) SSHKeys(ctx context.Context, who errand.Caller) ([]store.SSHKey, error) {
	return k.store.SSHKeys(ctx, who.Person())
}

// RemoveSSHKey ends one of the caller's public keys, by id or fingerprint, from
// the next connection on.
func (k *Keys) RemoveSSHKey(ctx context.Context, who errand.Caller, key string) error {
	return k.store.Write(ctx, func(t *store.Tx) error { return t.DeleteSSHKey(who.Person(), key) })
}

// CheckSSHKey says whose public key this is, or in whose name a certificate was
// signed, and what it allows. One that is not known here, that does not hold (any
// more), or whose person has no API key any more that holds, is Unauthorized.
func (k *Keys) CheckSSHKey(ctx context.Context, public ssh.PublicKey) (errand.Caller, SSHGrant, error) {
	cert, _ := public.(*ssh.Certificate)
	if cert != nil {
		public = cert.SignatureKey
	}
	key, err := k.store.SSHKeyByFingerprint(ctx, ssh.FingerprintSHA256(public))
	if errand.KindOf(err) == errand.NotFound || err == nil && (cert != nil) != (key.Principals != nil) {
		return errand.Caller{}, SSHGrant{}, unauthorized()
	}
	if err != nil {
		return errand.Caller{}, SSHGrant{}, fmt.Errorf("looking up an ssh key: %w", err)
	}
	var grant SSHGrant
	if cert != nil {
		if !holds(cert, key.Principals) {
			return errand.Caller{}, SSHGrant{}, unauthorized()
		}
		grant = SSHGrant{cert: cert}
	}
	all, err := k.store.Keys(ctx)
	if err != nil {
		return errand.Caller{}, SSHGrant{}, fmt.Errorf("looking up an ssh key: %w", err)
	}
	for _, api := range all {
		who := errand.Caller{Key: api.Name, Name: api.Person, Email: api.Email}
		if api.RevokedAt.IsZero() && who.Person() == key.Person {
			return who, grant, k.store.Write(ctx, func(t *store.Tx) error { return t.TouchSSHKey(key.ID) })
		}
	}
	return errand.Caller{}, SSHGrant{}, unauthorized()
}

// SSHGrant is what a key, or a certificate, allows on a connection. The zero value
// is a key's, which allows everything.
type SSHGrant struct{ cert *ssh.Certificate }

// The extensions of certificates that are known here, from OpenSSH's
// PROTOCOL.certkeys: what a certificate without them does not allow.
const (
	PermitPTY        = "permit-pty"
	PermitForwarding = "permit-port-forwarding"
)

// Allows says whether an extension is granted.
func (g SSHGrant) Allows(extension string) bool {
	if g.cert == nil {
		return true
	}
	_, ok := g.cert.Extensions[extension]
	return ok
}

// Critical are options that hold for the connection, by name: its source-address.
func (g SSHGrant) Critical() map[string]string {
	if g.cert == nil {
		return nil
	}
	return g.cert.CriticalOptions
}

// holds says whether a certificate is a user's for one of principals, now, and is
// what its authority has signed. One that is for nobody in particular is not, nor
// one with critical options that are not known here, such as force-command. Its
// source-address is for the connection to look at: see SSHGrant.Critical.
func holds(cert *ssh.Certificate, principals []string) bool {
	if cert.CertType != ssh.UserCert || len(cert.ValidPrincipals) == 0 {
		return false
	}
	checker := ssh.CertChecker{SupportedCriticalOptions: []string{"source-address"}}
	return slices.ContainsFunc(principals, func(p string) bool { return checker.CheckCert(p, cert) == nil })
}
