package api

import "github.com/errand-dev/errand"

// Snapshots is a page of snapshots.
type Snapshots struct {
	Items      []errand.Snapshot `json:"items"`
	NextCursor string            `json:"nextCursor,omitempty"`
}

// EditSnapshot changes what people call a snapshot.
type EditSnapshot struct {
	Name string `json:"name" maxLength:"63" doc:"Unique; empty takes the name away."`
}

// Collect asks for room.
type Collect struct {
	DryRun bool `json:"dryRun,omitempty" doc:"Say what would go and remove nothing."`
}

// Collections is a page of what was removed to make room.
type Collections struct {
	Items      []errand.Collection `json:"items"`
	NextCursor string              `json:"nextCursor,omitempty"`
}

// MediaArchive is the content type of an exported snapshot: a tar of an OCI
// layout.
const MediaArchive = "application/x-tar"
