package image

import "context"

// Get gives the image that ref names: "host", "" for the same, or an OCI
// reference. It blocks while it pulls and tells progress, which may be nil, in
// sentences what it does.
func (s *Store) Get(ctx context.Context, ref string, progress func(string)) (Image, error) {
	if progress == nil {
		progress = func(string) {}
	}
	return s.host(ctx, progress)
}
