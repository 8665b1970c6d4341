// Package client is Errand's API in Go: one method for each call, the forms of
// package api in and out.
//
// Errors that the server answers are *errand.Error with the kind that the status
// stands for; a server that cannot be reached is an *UnreachableError. What
// follows something (Follow, Exec) says so and blocks; Follow reconnects by
// itself and neither loses nor repeats an event.
//
// The package knows nothing of the server's inside and builds wherever Go runs.
package client

import (
	"bytes"
	"cmp"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/url"
	"strconv"
	"strings"
	"time"

	"github.com/errand-dev/errand"
	"github.com/errand-dev/errand/api"
)

// maxBody bounds what is read of one answer, in bytes.
const maxBody = 256 << 20

// Options are for New.
type Options struct {
	URL string // of the server, "http://127.0.0.1:7070"
	Key string // the API key
	// HTTP sends the requests; nil is a client of its own without a time limit
	// (contexts bound calls).
	HTTP      *http.Client
	UserAgent string // "" is "errand"
}

// Client speaks to one server. It may be used from many goroutines.
type Client struct {
	base  *url.URL
	key   string
	http  *http.Client
	agent string
}

// New gives a client. It does not connect. A URL that is none is an Invalid
// error.
func New(o Options) (*Client, error) {
	base, err := url.Parse(strings.TrimSuffix(o.URL, "/"))
	if err != nil || base.Host == "" || (base.Scheme != "http" && base.Scheme != "https") {
		return nil, errand.Errorf(errand.Invalid, "validation_error", "%q is not the URL of a server. It looks like http://127.0.0.1:7070.", o.URL)
	}
	c := &Client{base: base, key: o.Key, http: o.HTTP, agent: cmp.Or(o.UserAgent, "errand")}
	if c.http == nil {
		c.http = &http.Client{Transport: &http.Transport{
			Proxy:               http.ProxyFromEnvironment,
			DialContext:         (&net.Dialer{Timeout: 10 * time.Second}).DialContext,
			MaxIdleConnsPerHost: 8,
			IdleConnTimeout:     90 * time.Second,
		}}
	}
	return c, nil
}

// URL gives the server's URL as it was given to New.
func (c *Client) URL() string { return c.base.String() }

// UnreachableError says that no answer came from the server.
type UnreachableError struct {
	URL string
	Err error
}

// Error names the server and what to look at.
func (e *UnreachableError) Error() string {
	return fmt.Sprintf("The server at %s does not answer (%v). Is `errand serve` running, and is ERRAND_URL right?", e.URL, short(e.Err))
}

// Unwrap gives the cause.
func (e *UnreachableError) Unwrap() error { return e.Err }

// short takes the URL that net/http puts before a cause away.
func short(err error) error {
	var u *url.Error
	if errors.As(err, &u) {
		return u.Err
	}
	return err
}

// request is one call.
type request struct {
	method, path string
	query        url.Values
	header       http.Header
	body         any       // JSON; nil is none
	stream       io.Reader // in place of body: as it is
}

// url gives the address of a path whose segments are escaped.
func (c *Client) url(path string, query url.Values) *url.URL {
	u := c.base.JoinPath(path)
	u.RawQuery = query.Encode()
	return u
}

// send gives the answer of a call that succeeded; the caller closes its body.
func (c *Client) send(ctx context.Context, r request) (*http.Response, error) {
	var body io.Reader
	if r.body != nil {
		text, err := json.Marshal(r.body)
		if err != nil {
			return nil, fmt.Errorf("writing request: %w", err)
		}
		body = bytes.NewReader(text)
	}
	if r.stream != nil {
		body = io.NopCloser(r.stream) // it stays the caller's
	}
	req, err := http.NewRequestWithContext(ctx, r.method, c.url(r.path, r.query).String(), body)
	if err != nil {
		return nil, fmt.Errorf("making request: %w", err)
	}
	for name, values := range r.header {
		req.Header[name] = values
	}
	if r.body != nil {
		req.Header.Set("Content-Type", "application/json")
	}
	c.sign(req.Header)
	resp, err := c.http.Do(req)
	if err != nil {
		if ctx.Err() != nil {
			return nil, context.Cause(ctx)
		}
		return nil, &UnreachableError{URL: c.base.String(), Err: err}
	}
	if resp.StatusCode >= 300 {
		defer resp.Body.Close()
		return nil, c.refusal(resp)
	}
	return resp, nil
}

func (c *Client) sign(h http.Header) {
	h.Set("User-Agent", c.agent)
	if c.key != "" {
		h.Set("Authorization", "Bearer "+c.key)
	}
}

// call sends r and reads the answer's JSON into out; nil is an answer without a
// body.
func (c *Client) call(ctx context.Context, r request, out any) error {
	resp, err := c.send(ctx, r)
	if err != nil {
		return err
	}
	defer resp.Body.Close()
	if out == nil {
		return nil
	}
	text, err := io.ReadAll(io.LimitReader(resp.Body, maxBody))
	if err != nil {
		if ctx.Err() != nil {
			return context.Cause(ctx)
		}
		return &UnreachableError{URL: c.base.String(), Err: err}
	}
	if err := json.Unmarshal(text, out); err != nil {
		return errand.Errorf(errand.Unavailable, "upstream_error", "What answers at %s is not an Errand server: %w", c.base, err)
	}
	return nil
}

// refusal makes an error of an answer that is not a success.
func (c *Client) refusal(resp *http.Response) error {
	text, _ := io.ReadAll(io.LimitReader(resp.Body, 1<<20))
	var body api.ErrorBody
	if json.Unmarshal(text, &body) != nil || body.Error.Code == "" {
		return errand.Errorf(kindOf(resp.StatusCode), "upstream_error", "The server at %s answered %s. Is it an Errand server?", c.base, resp.Status)
	}
	return toError(kindOf(resp.StatusCode), body.Error)
}

func toError(kind errand.Kind, e api.Error) *errand.Error {
	return &errand.Error{Kind: kind, Code: e.Code, Message: e.Message, Output: e.Output, ExitCode: e.ExitCode}
}

// kindOf is what a status means to a caller.
func kindOf(status int) errand.Kind {
	switch status {
	case http.StatusUnauthorized:
		return errand.Unauthorized
	case http.StatusForbidden:
		return errand.Forbidden
	case http.StatusNotFound:
		return errand.NotFound
	case http.StatusConflict:
		return errand.Conflict
	case http.StatusGone:
		return errand.Gone
	case http.StatusRequestEntityTooLarge:
		return errand.TooLarge
	case http.StatusTooManyRequests:
		return errand.Limited
	case http.StatusBadGateway, http.StatusServiceUnavailable, http.StatusGatewayTimeout:
		return errand.Unavailable
	}
	if status >= 500 {
		return errand.Internal
	}
	return errand.Invalid
}

func number[T ~int | ~int64](n T) string { return strconv.FormatInt(int64(n), 10) }
