package client

import (
	"context"
	"net/url"

	"github.com/errand-dev/errand/api"
)

// UsageQuery asks for usage over time. What is "" or 0 is the server's default.
type UsageQuery struct {
	From, To string // days such as 2026-11-28
	Unit     string // "day" or "week"
	By       string // "model", "repository" or "person"
	Most     int    // so many names have figures of their own
}

// UsageOver gives what was used over time.
func (c *Client) UsageOver(ctx context.Context, q UsageQuery) (out api.UsageOver, err error) {
	query := url.Values{}
	for name, value := range map[string]string{"from": q.From, "to": q.To, "unit": q.Unit, "by": q.By} {
		if value != "" {
			query.Set(name, value)
		}
	}
	if q.Most > 0 {
		query.Set("most", number(q.Most))
	}
	err = c.call(ctx, request{method: "GET", path: "/v1/usage", query: query}, &out)
	return out, err
}

// TryModel asks a model for one word, "" the server's default, and tells what came
// back. A refusal by its provider is no error.
func (c *Client) TryModel(ctx context.Context, model string) (out api.ModelTrial, err error) {
	err = c.call(ctx, request{method: "POST", path: "/v1/models/test", body: api.TryModel{Model: model}}, &out)
	return out, err
}
