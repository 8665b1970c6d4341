package git

import (
	"context"
	"errors"
	neturl "net/url"
	"regexp"
	"strings"

	"github.com/errand-dev/errand"
)

// accessFailure is what git said when a remote would not have us, what that
// means, and what to do about it.
type accessFailure struct {
	pattern *regexp.Regexp
	kind    errand.Kind
	advice  string // {path} and {host} are the remote's
}

// The first that matches counts. The patterns are git's, curl's and ssh's words
// in the C locale.
var accessFailures = []accessFailure{
	{regexp.MustCompile(`dubious ownership`), errand.Forbidden,
		"it belongs to another user than the one the server runs as. Run `git config --global --add safe.directory {path}` as the server's user, or give the repository to that user."},
	{regexp.MustCompile(`(?i)no space left on device|disk quota exceeded`), errand.Unavailable,
		"the server's disk is full. Make room in its data directory and try again."},
	{regexp.MustCompile(`(?i)host key verification failed|REMOTE HOST IDENTIFICATION HAS CHANGED`), errand.Forbidden,
		"the server does not know this host's key. Run `ssh-keyscan {host} >> ~/.ssh/known_hosts` as the server's user after comparing the key."},
	{regexp.MustCompile(`(?i)could not read (username|password)|terminal prompts disabled|authentication failed|returned error: 40[13]|access denied|permission denied|not permitted|\bforbidden\b|unauthorized|too many authentication failures`), errand.Forbidden,
		"the remote refused access, and a private repository may look like a missing one. Check the address, and give the server a credential that may read and push there."},
	{regexp.MustCompile(`(?i)could not resolve|name or service not known|temporary failure in name resolution|failed to connect|couldn't connect|connection (refused|reset|timed out|closed)|timed out|no route to host|network is unreachable|returned error: (429|5\d\d)|operation too slow|ssl|tls|certificate|early eof|unexpected disconnect|remote end hung up unexpectedly|empty reply`), errand.Unavailable,
		"the remote cannot be reached from the server now. Check the address, the network and the remote's state, and try again."},
	{regexp.MustCompile(`(?i)not found|does not appear to be a git repository|does not exist|no such file|not a git repository|not valid: is this a git repository|returned error: 4(04|10)`), errand.NotFound,
		"there is no repository there. Check the address; a private repository also looks like this when the server has no credential for it."},
}

// accessError makes of a failed exchange with url an error that a person can
// act on. doing is in the gerund.
func accessError(doing, url string, err error) error {
	var exit *exitError
	if !errors.As(err, &exit) {
		return err
	}
	e := &errand.Error{Kind: errand.Unavailable, Code: "repository_access", Output: exit.stderr, Err: err}
	said := lastWords(exit.stderr)
	switch {
	case errors.Is(exit.err, context.DeadlineExceeded):
		e.Message = doing + " " + url + " took longer than allowed and was ended. Check the remote's state and the network, and try again."
		return e
	case errors.Is(exit.err, context.Canceled):
		e.Message = doing + " " + url + " was stopped."
		return e
	}
	for _, f := range accessFailures {
		if f.pattern.MatchString(exit.stderr) {
			e.Kind = f.kind
			e.Message = doing + " " + url + " failed: " + address(url).Replace(f.advice) + said
			return e
		}
	}
	e.Message = doing + " " + url + " failed. Check the address and the remote's state." + said
	return e
}

// address puts a remote's path and host in the place of their names.
func address(url string) *strings.Replacer {
	host, path := "", strings.TrimPrefix(url, "file://")
	if m := scpPattern.FindStringSubmatch(url); m != nil {
		host = m[2]
	} else if u, err := neturl.Parse(url); err == nil && u.Host != "" {
		host = u.Hostname()
		if u.Port() != "" {
			host = "-p " + u.Port() + " " + host
		}
	}
	return strings.NewReplacer("{path}", quote(path), "{host}", host)
}

// lastWords quotes the line that says most: git's own "fatal:", or the last.
func lastWords(stderr string) string {
	var said string
	for line := range strings.Lines(stderr) {
		if line = strings.TrimSpace(line); strings.HasPrefix(line, "fatal:") || strings.HasPrefix(line, "ERROR:") {
			said = line
			break
		} else if line != "" {
			said = line
		}
	}
	if said == "" {
		return ""
	}
	return " (git said: " + said + ")"
}
