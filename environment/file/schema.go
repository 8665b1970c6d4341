package file

import _ "embed"

//go:embed schema.json
var schema string

// SchemaName is the last part of the schema's address.
const SchemaName = "environment.schema.json"

// Schema gives the JSON Schema of environment files, for editors: what Check
// finds nothing to say about, it accepts.
func Schema() []byte { return []byte(schema) }
