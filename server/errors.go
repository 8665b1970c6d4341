package server

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"net/http"
	"strings"

	"github.com/danielgtaylor/huma/v2"

	"github.com/errand-dev/errand"
	"github.com/errand-dev/errand/api"
)

// statusOf is what each kind of error is over HTTP.
func statusOf(kind errand.Kind) int {
	switch kind {
	case errand.Invalid:
		return http.StatusBadRequest
	case errand.Unauthorized:
		return http.StatusUnauthorized
	case errand.Forbidden:
		return http.StatusForbidden
	case errand.NotFound:
		return http.StatusNotFound
	case errand.Conflict:
		return http.StatusConflict
	case errand.Gone:
		return http.StatusGone
	case errand.TooLarge:
		return http.StatusRequestEntityTooLarge
	case errand.Limited:
		return http.StatusTooManyRequests
	case errand.Unavailable:
		return http.StatusServiceUnavailable
	}
	return http.StatusInternalServerError
}

// refusal is an answer that is not a success.
type refusal struct {
	status int
	body   api.ErrorBody
}

// Error gives the message alone.
func (r *refusal) Error() string { return r.body.Error.Message }

// GetStatus is huma's word for the status.
func (r *refusal) GetStatus() int { return r.status }

// MarshalJSON gives the answer's body.
func (r *refusal) MarshalJSON() ([]byte, error) { return json.Marshal(r.body) }

// refusalOf gives the answer to err, without secrets (it may repeat what a machine
// said), and logs a fault of ours.
func (s *Server) refusalOf(ctx context.Context, err error) *refusal {
	var already *refusal
	if errors.As(err, &already) {
		return already
	}
	if errand.KindOf(err) == errand.Internal && ctx.Err() == nil {
		s.log.Error("request failed", "error", err)
	}
	told := api.FromError(err)
	told.Message, told.Output = s.runner.Redactor.String(told.Message), s.runner.Redactor.String(told.Output)
	return &refusal{status: statusOf(errand.KindOf(err)), body: api.ErrorBody{Error: told}}
}

// refuse answers a request with err.
func (s *Server) refuse(w http.ResponseWriter, r *http.Request, err error) {
	answer := s.refusalOf(r.Context(), err)
	w.Header().Set("Content-Type", "application/json")
	if answer.status == http.StatusUnauthorized {
		w.Header().Set("WWW-Authenticate", `Bearer realm="errand"`)
	}
	w.WriteHeader(answer.status)
	_ = json.NewEncoder(w).Encode(answer) // the client may be gone
}

// own makes huma's errors (a body that does not fit its schema, a parameter out
// of range) ours.
func own(ctx huma.Context, _ string, v any) (any, error) {
	m, ok := v.(*huma.ErrorModel)
	if !ok {
		return v, nil
	}
	ctx.SetHeader("Content-Type", "application/json")
	code, message := "validation_error", m.Detail
	switch {
	case m.Status == http.StatusRequestEntityTooLarge:
		message = fmt.Sprintf("The request's body is too large: %s.", m.Detail)
	case m.Status >= 500:
		code, message = "internal_error", "The server failed at this. Its log says more."
	case m.Detail == "request body is required":
		code, message = "missing_body", "The request has no body. Send JSON."
	case len(m.Errors) > 0:
		message = validation(m.Errors)
	}
	return &refusal{status: ours(m.Status), body: api.ErrorBody{Error: api.Error{Code: code, Message: message}}}, nil
}

// validation words what does not fit, without repeating what was sent.
func validation(details []*huma.ErrorDetail) string {
	const most = 5
	var all []string
	for _, d := range details {
		text := d.Message
		if where := strings.TrimPrefix(d.Location, "body."); where != "" && where != "body" {
			text = where + ": " + text
		}
		all = append(all, text)
	}
	if len(all) > most {
		all = append(all[:most], fmt.Sprintf("and %d more", len(details)-most))
	}
	return "The request is not valid: " + strings.Join(all, "; ") + "."
}

// ours is the status that Cursor's API has for huma's.
func ours(status int) int {
	switch status {
	case http.StatusUnprocessableEntity, http.StatusUnsupportedMediaType:
		return http.StatusBadRequest
	}
	return status
}
