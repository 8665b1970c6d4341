package server

import (
	"context"
	"errors"
	"io"
	"net"
	"net/http"
	"strconv"
	"strings"
	"time"

	"github.com/errand-dev/errand"
	"github.com/errand-dev/errand/api"
	"github.com/errand-dev/errand/egress"
)

// fetchLimit bounds how long the pictures of one request may take to fetch.
const fetchLimit = 30 * time.Second

// prompt gives a checked prompt with its pictures at hand.
func (s *Server) prompt(ctx context.Context, p api.Prompt) (errand.Prompt, error) {
	out := errand.Prompt{Text: p.Text}
	ctx, cancel := context.WithTimeout(ctx, fetchLimit)
	defer cancel()
	for _, img := range p.Images {
		decode := img.Decode
		if img.URL != "" {
			decode = func() (errand.Image, error) { return s.fetch(ctx, img.URL) }
		}
		picture, err := decode()
		if err != nil {
			return errand.Prompt{}, err
		}
		out.Images = append(out.Images, picture)
	}
	return out, nil
}

// fetch gets a picture from the web, by the rules that machines are under: no
// address of ours or of our network, whatever a name or a redirect points to.
func (s *Server) fetch(ctx context.Context, url string) (errand.Image, error) {
	client := &http.Client{
		Transport: &http.Transport{
			DialContext:       s.dialPublic,
			DisableKeepAlives: true, ResponseHeaderTimeout: 10 * time.Second, TLSHandshakeTimeout: 10 * time.Second,
		},
		CheckRedirect: func(r *http.Request, via []*http.Request) error {
			if len(via) > 3 || (r.URL.Scheme != "http" && r.URL.Scheme != "https") {
				return errors.New("too many redirects")
			}
			return nil
		},
	}
	req, err := http.NewRequestWithContext(ctx, http.MethodGet, url, nil)
	if err != nil {
		return errand.Image{}, unfetched(url, err)
	}
	req.Header.Set("User-Agent", "errand/"+s.version)
	resp, err := client.Do(req)
	if err != nil {
		return errand.Image{}, unfetched(url, err)
	}
	defer resp.Body.Close()
	if resp.StatusCode != http.StatusOK {
		return errand.Image{}, unfetched(url, errors.New(resp.Status))
	}
	data, err := io.ReadAll(io.LimitReader(resp.Body, api.MaxImageBytes+1))
	if err != nil {
		return errand.Image{}, unfetched(url, err)
	}
	if len(data) > api.MaxImageBytes {
		return errand.Image{}, errand.Errorf(errand.TooLarge, "validation_error", "The picture at %.200s has more than 15 MB.", url)
	}
	kind, _, _ := strings.Cut(http.DetectContentType(data), ";")
	if !api.KnownImage(kind) {
		return errand.Image{}, errand.Errorf(errand.Invalid, "validation_error", "What is at %.200s is not a PNG, JPEG, GIF or WebP picture.", url)
	}
	return errand.Image{MIME: kind, Data: data}, nil
}

func (s *Server) dialPublic(ctx context.Context, network, address string) (net.Conn, error) {
	host, port, err := net.SplitHostPort(address)
	if err != nil {
		return nil, err
	}
	n, err := strconv.Atoi(port)
	if err != nil {
		return nil, err
	}
	return s.runner.Gate.DialContext(ctx, egress.Policy{}, host, n, nil)
}

func unfetched(url string, err error) error {
	var e *errand.Error
	if errors.As(err, &e) {
		err = e
	}
	return errand.Errorf(errand.Invalid, "validation_error", "The picture at %.200s cannot be fetched: %w. Send it as data instead.", url, err)
}
