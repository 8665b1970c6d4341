package wire

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"regexp"
	"strconv"
	"strings"
	"time"
	"unicode/utf8"

	"github.com/errand-dev/errand/llm"
)

// maxMessage bounds an error's message in bytes, as llm.Error promises.
const maxMessage = 2 << 10

// Fault is a failure as the provider described it.
type Fault struct {
	Status  int    // HTTP; 0 inside a stream
	Type    string // "overloaded_error"
	Code    string // "context_length_exceeded"; a number as its digits
	Message string
}

// UnmarshalJSON reads the forms that providers and compatible servers use: an
// object with type, code and message; the same inside "error"; a bare string.
func (f *Fault) UnmarshalJSON(b []byte) error {
	var text string
	if json.Unmarshal(b, &text) == nil {
		f.Message = text
		return nil
	}
	var object struct {
		Error   json.RawMessage `json:"error"`
		Type    string          `json:"type"`
		Code    json.RawMessage `json:"code"`
		Message string          `json:"message"`
		Detail  json.RawMessage `json:"detail"`
	}
	if err := json.Unmarshal(b, &object); err != nil {
		return err
	}
	if len(object.Error) > 0 && string(object.Error) != "null" {
		var inner Fault
		if json.Unmarshal(object.Error, &inner) == nil && inner.told() {
			inner.Status = f.Status
			*f = inner
			return nil
		}
	}
	f.Type, f.Message = object.Type, object.Message
	if code := strings.Trim(string(object.Code), `"`); code != "null" {
		f.Code = code
	}
	if f.Message == "" && len(object.Detail) > 0 {
		f.Message = strings.Trim(string(object.Detail), `"`)
	}
	return nil
}

// told says whether the provider said anything at all.
func (f Fault) told() bool { return f.Message != "" || f.Type != "" || f.Code != "" }

// Error gives the *llm.Error for a fault that the provider described.
func (c *Client) Error(f Fault) *llm.Error {
	var cause llm.Cause
	if c.Classify != nil {
		cause = c.Classify(f)
	}
	if cause == "" {
		cause = CauseOf(f.Status)
	}
	message := f.Message
	if message == "" {
		message = strings.TrimSpace(f.Type + " " + f.Code)
	}
	return c.fail(cause, f.Status, message, nil)
}

// Broken gives the *llm.Error for an answer that cannot be used as it arrived.
func (c *Client) Broken(format string, args ...any) *llm.Error {
	return c.fail(llm.Broken, 0, fmt.Sprintf(format, args...), nil)
}

// CauseOf gives what an HTTP status alone tells; 0 stands for a fault inside a
// stream that names nothing known, after which the same request may succeed.
func CauseOf(status int) llm.Cause {
	switch {
	case status == 0:
		return llm.Broken
	case status == http.StatusUnauthorized, status == http.StatusForbidden:
		return llm.Denied
	case status == http.StatusPaymentRequired:
		return llm.NoCredit
	case status == http.StatusNotFound:
		return llm.NoModel
	case status == http.StatusRequestEntityTooLarge:
		return llm.TooLong
	case status == http.StatusTooManyRequests:
		return llm.RateLimited
	case status == http.StatusRequestTimeout, status == http.StatusConflict:
		return llm.Broken
	case status >= 500:
		return llm.Overloaded
	}
	return llm.Rejected
}

// refusal turns an answer that is not 2xx into an error.
func (c *Client) refusal(resp *http.Response, body io.Reader) error {
	text, _ := io.ReadAll(io.LimitReader(body, maxError))
	fault := Fault{Status: resp.StatusCode}
	if json.Unmarshal(text, &fault) == nil && fault.told() {
		e := c.Error(fault)
		e.After = after(resp.Header, time.Now())
		return e
	}
	message := describeBody(text)
	cause := CauseOf(resp.StatusCode)
	switch {
	case resp.StatusCode/100 == 3:
		message = fmt.Sprintf("the base URL redirects to %s; set the base URL to where the API is", resp.Header.Get("Location"))
	case cause == llm.NoModel:
		// Nobody who knows the API says 404 without a word.
		cause, message = llm.Rejected, message+"; check the base URL"
	}
	e := c.fail(cause, resp.StatusCode, message, nil)
	e.After = after(resp.Header, time.Now())
	return e
}

// fail makes an error of bounded, clean text without the key.
func (c *Client) fail(cause llm.Cause, status int, message string, err error) *llm.Error {
	if c.Secret != "" {
		message = strings.ReplaceAll(message, c.Secret, "[key]")
	}
	return &llm.Error{Provider: c.Provider, Cause: cause, Status: status, Message: clip(message, maxMessage), Err: err}
}

// brokenUnless passes a provider's error on and makes anything else Broken.
func (c *Client) brokenUnless(err error) error {
	var e *llm.Error
	if err == nil || errors.As(err, &e) {
		return err
	}
	return c.fail(llm.Broken, 0, err.Error(), err)
}

var title = regexp.MustCompile(`(?is)<title[^>]*>(.*?)</title>`)

// describeBody says, for people, what a body is that should have been the
// API's JSON.
func describeBody(body []byte) string {
	text := strings.TrimSpace(string(body))
	switch {
	case text == "":
		return "the answer is empty"
	case strings.HasPrefix(text, "<"):
		if m := title.FindStringSubmatch(text); m != nil {
			return fmt.Sprintf("the answer is a web page (%q), not the API's JSON", clip(strings.TrimSpace(m[1]), 200))
		}
		return "the answer is a web page, not the API's JSON"
	}
	return fmt.Sprintf("the answer is not the API's JSON: %s", clip(text, 300))
}

// after reads how long the provider asks to wait: milliseconds where it is that
// exact, seconds or a date otherwise. Zero is no or no usable word of it.
func after(h http.Header, now time.Time) time.Duration {
	if ms, err := strconv.ParseFloat(h.Get("Retry-After-Ms"), 64); err == nil {
		return span(ms, time.Millisecond)
	}
	value := strings.TrimSpace(h.Get("Retry-After"))
	if s, err := strconv.ParseFloat(value, 64); err == nil {
		return span(s, time.Second)
	}
	if date, err := http.ParseTime(value); err == nil {
		// The provider's clock counts: ours may be off by more than the wait.
		if theirs, err := http.ParseTime(h.Get("Date")); err == nil {
			now = theirs
		}
		return max(0, date.Sub(now))
	}
	return 0
}

// span gives n units, bounded to a day so that no number overflows.
func span(n float64, unit time.Duration) time.Duration {
	const day = 24 * time.Hour
	if !(n > 0) { // also NaN
		return 0
	}
	if n >= float64(day/unit) {
		return day
	}
	return time.Duration(n * float64(unit))
}

// clip cuts s to at most n bytes at a letter's edge, without control characters.
func clip(s string, n int) string {
	s = string(bytes.ToValidUTF8([]byte(s), []byte("\uFFFD")))
	s = strings.Map(func(r rune) rune {
		if r < ' ' && r != '\n' && r != '\t' || r == 0x7f {
			return -1
		}
		return r
	}, s)
	if len(s) <= n {
		return s
	}
	cut := n - len("…")
	for cut > 0 && !utf8.RuneStart(s[cut]) {
		cut--
	}
	return s[:cut] + "…"
}
