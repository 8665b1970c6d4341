package client

import (
	"context"
	"io"
	"net/url"
)

// Carried writes what the server has of a repository, as git's receive-pack tells
// git push.
func (c *Client) Carried(ctx context.Context, repository string, to io.Writer) error {
	return c.carry(ctx, request{method: "GET"}, repository, to)
}

// Carry sends what git push answers to that, and writes git's report. What it
// brings is one commit, under the ref that the server wants; an agent starts from
// it that has its id as starting ref.
func (c *Client) Carry(ctx context.Context, repository string, push io.Reader, to io.Writer) error {
	return c.carry(ctx, request{method: "POST", stream: push}, repository, to)
}

func (c *Client) carry(ctx context.Context, r request, repository string, to io.Writer) error {
	r.path, r.query = "/v1/repositories/carried", url.Values{"url": {repository}}
	resp, err := c.send(ctx, r)
	if err != nil {
		return err
	}
	defer resp.Body.Close()
	if _, err := io.Copy(to, resp.Body); err != nil {
		return &UnreachableError{URL: c.base.String(), Err: err}
	}
	return nil
}
