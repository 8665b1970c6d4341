package git

import (
	"crypto/sha256"
	"encoding/hex"
	neturl "net/url"
	"path"
	"regexp"
	"strings"
	"unicode"

	"github.com/errand-dev/errand"
)

// Clean gives the one form of a repository's URL under which everything here
// knows it: without a credential, host in lower case, no trailing slash. It
// takes an absolute local path, file://, http(s)://, ssh:// and the scp form
// user@host:path; anything else is an Invalid error that says so. It looks at
// nothing but the text.
func Clean(raw string) (string, error) {
	url, _, err := Split(raw)
	return url, err
}

// CleanOpen is Clean that refuses a URL which holds a credential: the server has
// another place for those.
func CleanOpen(raw string) (string, error) {
	url, credential, err := Split(raw)
	if err == nil && credential.Password != "" {
		return "", errand.Errorf(errand.Invalid, "validation_error",
			"The URL of the repository holds a credential. Leave it out; the server's ERRAND_GIT_CREDENTIALS file is where it belongs: %s", url)
	}
	return url, err
}

// Split is Clean that also gives the credential the URL held, if any. A user
// name without a password stays in an ssh URL, where it is an address rather
// than a secret.
func Split(raw string) (string, Credential, error) {
	url := strings.TrimSpace(raw)
	switch {
	case url == "":
		return "", Credential{}, badURL(raw, "is empty")
	case len(url) > 2000:
		return "", Credential{}, badURL(url[:80], "is too long")
	case strings.ContainsFunc(url, func(r rune) bool { return unicode.IsControl(r) || r == unicode.ReplacementChar }):
		return "", Credential{}, badURL(raw, "holds a control character")
	case strings.HasPrefix(url, "-"):
		return "", Credential{}, badURL(raw, "starts with a dash")
	case strings.HasPrefix(url, "/"):
		return path.Clean(url), Credential{}, nil
	case strings.Contains(url, "://"):
		return splitURL(url)
	}
	if m := scpPattern.FindStringSubmatch(url); m != nil && !strings.HasPrefix(m[3], "-") {
		return m[1] + strings.ToLower(m[2]) + ":" + strings.TrimRight(m[3], "/"), Credential{}, nil
	}
	if strings.Contains(url, "::") {
		return "", Credential{}, badURL(raw, "names a transport that is not allowed")
	}
	return "", Credential{}, badURL(raw, "is not a repository's address")
}

// scpPattern is user@host:path. The host needs a user or a dot, so that "C:\x"
// and "name:branch" are not taken for one.
var scpPattern = regexp.MustCompile(`^([A-Za-z0-9_][A-Za-z0-9_.+-]*@)([A-Za-z0-9][A-Za-z0-9.-]*|\[[0-9A-Fa-f:.]+\]):([^:].*)$`)

func splitURL(raw string) (string, Credential, error) {
	u, err := neturl.Parse(raw)
	if err != nil {
		// The parser's error quotes the URL, credential and all.
		return "", Credential{}, badURL(hideUserinfo(raw), "cannot be read as a URL")
	}
	shown := u.Redacted()
	u.Scheme = strings.ToLower(u.Scheme)
	u.Host = strings.ToLower(u.Host)
	u.Fragment, u.RawFragment = "", ""
	var cred Credential
	switch u.Scheme {
	case "file":
		if u.Host != "" && u.Host != "localhost" || !strings.HasPrefix(u.Path, "/") {
			return "", Credential{}, badURL(shown, "needs an absolute path after file://")
		}
		return "file://" + path.Clean(u.Path), cred, nil
	case "http", "https":
		if u.User != nil {
			cred.User = u.User.Username()
			cred.Password, _ = u.User.Password()
			if cred.Password == "" { // https://TOKEN@host/…
				cred.User, cred.Password = "", cred.User
			}
			u.User = nil
		}
	case "ssh":
		if pw, ok := u.User.Password(); ok {
			cred.User, cred.Password = u.User.Username(), pw
			u.User = neturl.User(cred.User)
		}
		if strings.HasPrefix(u.User.Username(), "-") {
			return "", Credential{}, badURL(shown, "has a user that starts with a dash")
		}
	default:
		return "", Credential{}, badURL(shown, "names a transport that is not allowed")
	}
	if u.Hostname() == "" || strings.HasPrefix(u.Host, "-") {
		return "", Credential{}, badURL(shown, "names no host")
	}
	u.Path = strings.TrimRight(u.Path, "/")
	u.RawPath = strings.TrimRight(u.RawPath, "/")
	if u.Path == "" {
		return "", Credential{}, badURL(shown, "names no repository on its host")
	}
	return u.String(), cred, nil
}

func badURL(shown, why string) error {
	return errand.Errorf(errand.Invalid, "validation_error",
		"The repository %q %s. Give an absolute path on the server, or a URL such as https://host/owner/name, ssh://git@host/owner/name or git@host:owner/name.", shown, why)
}

// Name is the short name of a clean URL: 20 hex digits, safe in paths and URLs.
func Name(url string) string {
	sum := sha256.Sum256([]byte(url))
	return hex.EncodeToString(sum[:10])
}

// MirrorTarget is where a machine sees the mirror of a clean URL.
func MirrorTarget(url string) string { return "/run/errand/mirrors/" + Name(url) }

var userinfo = regexp.MustCompile(`://[^/@\s]*@`)

// hideUserinfo takes user and password out of URLs anywhere in text.
func hideUserinfo(text string) string { return userinfo.ReplaceAllString(text, "://…@") }
