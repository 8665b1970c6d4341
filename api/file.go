package api

import "time"

// What a File can be.
const (
	FileRegular = "file"
	FileFolder  = "folder"
	FileLink    = "link"
	FileOther   = "other" // a device, a socket, a pipe
)

// File is one file or folder in an agent's machine.
type File struct {
	Path       string    `json:"path" doc:"Relative to the root that was asked for."`
	Name       string    `json:"name"`
	Kind       string    `json:"kind" enum:"file,folder,link,other"`
	SizeBytes  int64     `json:"sizeBytes"`
	Mode       string    `json:"mode" doc:"As ls shows it: -rw-r--r--."`
	ModifiedAt time.Time `json:"modifiedAt"`
	Link       string    `json:"link,omitempty" doc:"Where a symbolic link points."`
	Tag        string    `json:"tag,omitempty" doc:"Of a file's content, for If-Match."`
}

// Files is one page of a folder, folders first, each by name.
type Files struct {
	Items      []File `json:"items"`
	NextCursor string `json:"nextCursor,omitempty"`
	Truncated  bool   `json:"truncated,omitempty" doc:"The folder has more than can be listed."`
}

// FileText is a file as people see it.
type FileText struct {
	File
	Text      string `json:"text" doc:"Without secrets. Empty for a binary file."`
	Binary    bool   `json:"binary,omitempty"`
	Truncated bool   `json:"truncated,omitempty" doc:"There is more of the file."`
	Redacted  bool   `json:"redacted,omitempty" doc:"Secrets were taken out, so the text is not the file's and cannot be saved in its place."`
}

// FileAt names a file or folder that is to be made.
type FileAt struct {
	Path string `json:"path" minLength:"1"`
	Root string `json:"root,omitempty" enum:"/workspace,/" doc:"/workspace, or / for the whole machine."`
}

// MoveFile asks for another name, or place, of a file or folder.
type MoveFile struct {
	FileAt
	To      string `json:"to" minLength:"1"`
	Replace bool   `json:"replace,omitempty" doc:"Also over a file that is there."`
}

// Unpacked is what became of an archive.
type Unpacked struct {
	Entries int `json:"entries"`
}

// FileChanges is what changed in a machine since the message before. The first one,
// without paths, says that it is watched.
type FileChanges struct {
	Paths []string `json:"paths"`
	All   bool     `json:"all,omitempty" doc:"More changed than is listed."`
}

// StreamFiles is the event of FileChanges.
const StreamFiles = "change"

// Artifact is a file that an agent leaves for people.
type Artifact struct {
	Path      string    `json:"path" doc:"Relative, under artifacts/."`
	SizeBytes int64     `json:"sizeBytes"`
	UpdatedAt time.Time `json:"updatedAt"`
}

// Artifacts are an agent's, at most 100.
type Artifacts struct {
	Items []Artifact `json:"items"`
}

// ArtifactLink is where an artifact is downloaded without a key.
type ArtifactLink struct {
	URL       string    `json:"url" format:"uri"`
	ExpiresAt time.Time `json:"expiresAt"`
}

// ArtifactV0 is an Artifact as v0 tells it.
type ArtifactV0 struct {
	AbsolutePath string    `json:"absolutePath"`
	SizeBytes    int64     `json:"sizeBytes"`
	UpdatedAt    time.Time `json:"updatedAt"`
}

// ArtifactsV0 are Artifacts as v0 tells them.
type ArtifactsV0 struct {
	Artifacts []ArtifactV0 `json:"artifacts"`
}
