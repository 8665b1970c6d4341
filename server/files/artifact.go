package files

import (
	"context"
	"crypto/hmac"
	"crypto/rand"
	"crypto/sha256"
	"encoding/base64"
	"errors"
	"fmt"
	"io/fs"
	"net/http"
	"net/url"
	"os"
	"strconv"
	"strings"
	"time"

	"github.com/errand-dev/errand"
	"github.com/errand-dev/errand/api"
	"github.com/errand-dev/errand/guest"
	"github.com/errand-dev/errand/image"
)

const (
	mostArtifacts = 100
	linkFor       = 15 * time.Minute
)

// LinkPath is where links lead, before an agent's id.
const LinkPath = "/v1/artifacts/"

// Links makes links that open one file for a while without a key.
type Links struct{ key []byte }

// OpenLinks reads the key of links from a file that only its owner may read. Where
// there is none it is made; links that were made before hold on as long as the file
// is there.
func OpenLinks(file string) (*Links, error) {
	key, err := os.ReadFile(file)
	if errors.Is(err, fs.ErrNotExist) {
		key = make([]byte, 32)
		rand.Read(key)
		err = image.WriteFile(file, key)
	}
	if err != nil {
		return nil, fmt.Errorf("reading the key of links: %w", err)
	}
	if len(key) != 32 {
		return nil, errand.Errorf(errand.Invalid, "link_key", "%s is not the key of links that it was. Remove it; links that are under way end then.", file)
	}
	return &Links{key}, nil
}

func (l *Links) sign(agent errand.AgentID, path string, expires int64) string {
	mac := hmac.New(sha256.New, l.key)
	fmt.Fprintf(mac, "artifact\n%s\n%d\n%s", agent, expires, path)
	return base64.RawURLEncoding.EncodeToString(mac.Sum(nil))
}

// query gives what a link says after its path.
func (l *Links) query(agent errand.AgentID, path string, expires time.Time) url.Values {
	at := expires.Unix()
	return url.Values{"path": {path}, "expires": {strconv.FormatInt(at, 10)}, "signature": {l.sign(agent, path, at)}}
}

// check says for which file of the agent a link is.
func (l *Links) check(agent errand.AgentID, q url.Values, now time.Time) (string, error) {
	at, err := strconv.ParseInt(q.Get("expires"), 10, 64)
	path := q.Get("path")
	if err != nil || !hmac.Equal([]byte(q.Get("signature")), []byte(l.sign(agent, path, at))) {
		return "", errand.Errorf(errand.Forbidden, "bad_link", "This link is not one that the server made. Ask for a new one.")
	}
	if now.Unix() >= at {
		return "", errand.Errorf(errand.Gone, "link_expired", "This link has expired. Ask for a new one; it is good for %d minutes.", linkFor/time.Minute)
	}
	return path, nil
}

// artifactPath gives an artifact's path in its folder: of v1's "artifacts/…", or
// of v0's absolute one.
func artifactPath(name string) (string, error) {
	inner, ok := strings.CutPrefix(name, "artifacts/")
	if !ok {
		inner, ok = strings.CutPrefix(name, guest.Artifacts+"/")
	}
	p := Place{Root: "artifacts/"}
	if !ok || inner == "" || p.inside(inner) != nil || len(inner) > 4096 || strings.Contains(inner, "\x00") {
		return "", errand.Errorf(errand.Invalid, "validation_error", "%.200q is no artifact's path. It begins with artifacts/ and is one of those that are listed.", name)
	}
	return inner, nil
}

// artifactsOf is the folder of an agent's artifacts.
func (f *Files) artifactsOf(ctx context.Context, who errand.Caller, agent string) (Place, error) {
	p, err := f.At(ctx, who, agent, Workspace, "")
	p.Root = guest.Artifacts
	return p, err
}

// Artifacts lists what an agent left for people, at most 100 files. An agent whose
// machine has not been made yet has none.
func (f *Files) Artifacts(ctx context.Context, who errand.Caller, agent string) ([]api.Artifact, error) {
	out := []api.Artifact{}
	p, err := f.artifactsOf(ctx, who, agent)
	if err != nil {
		return out, err
	}
	err = f.visit(ctx, p, func(line *guest.Line) error {
		all, err := line.List(ctx, p.Root, "", guest.ListOptions{Depth: -1, Limit: mostListed, Ignored: true})
		for _, s := range all.Entries {
			if s.Mode.IsRegular() && len(out) < mostArtifacts {
				out = append(out, api.Artifact{Path: "artifacts/" + f.Runner.Redactor.String(s.Path), SizeBytes: s.Size, UpdatedAt: s.ModTime.Truncate(time.Millisecond)})
			}
		}
		if errors.Is(err, fs.ErrNotExist) { // somebody has removed the folder
			err = nil
		}
		return err
	})
	if e := (*errand.Error)(nil); errors.As(err, &e) && e.Code == "machine_not_found" {
		err = nil
	}
	return out, err
}

// Link makes a link to an artifact.
func (f *Files) Link(ctx context.Context, who errand.Caller, agent, name string) (api.ArtifactLink, error) {
	p, err := f.artifactsOf(ctx, who, agent)
	if err != nil {
		return api.ArtifactLink{}, err
	}
	if p.Path, err = artifactPath(name); err != nil {
		return api.ArtifactLink{}, err
	}
	err = f.visit(ctx, p, func(line *guest.Line) error {
		_, _, err := line.ReadFile(ctx, p.Root, p.Path, 0, 1)
		return err
	})
	e := (*errand.Error)(nil)
	if errors.As(err, &e) && (e.Code == "file_not_found" || e.Code == "machine_not_found") {
		err = errand.Errorf(errand.NotFound, "artifact_not_found", "Agent %s has no artifact %.200q. List them to see which there are.", p.Agent, name)
	}
	if err != nil {
		return api.ArtifactLink{}, err
	}
	expires := time.Now().Add(linkFor).UTC().Truncate(time.Second)
	link := f.URL + LinkPath + string(p.Agent) + "?" + f.Links.query(p.Agent, p.Path, expires).Encode()
	return api.ArtifactLink{URL: link, ExpiresAt: expires}, nil
}

// Follow answers a request that shows a link, and no key.
func (f *Files) Follow(w http.ResponseWriter, r *http.Request) error {
	id, err := errand.ParseAgentID(r.PathValue("id"))
	if err != nil {
		return err
	}
	name, err := f.Links.check(id, r.URL.Query(), time.Now())
	if err != nil {
		return err
	}
	p, err := f.artifactsOf(r.Context(), errand.Caller{}, string(id))
	if err != nil {
		return err
	}
	p.Path = name
	return f.Download(w, r, p)
}
