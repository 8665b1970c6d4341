package server

import (
	"context"
	"net/http"
	"reflect"
	"strconv"
	"strings"
	"sync"
	"time"

	"github.com/danielgtaylor/huma/v2"
	"github.com/danielgtaylor/huma/v2/adapters/humago"

	"github.com/errand-dev/errand/api"
)

// maxBody bounds a request's body unless its route says otherwise, in bytes.
const maxBody = 1 << 20

// router puts routes on a mux and into the OpenAPI document, so that the two
// cannot differ.
type router struct {
	server *Server
	mux    *http.ServeMux
	api    huma.API
}

func newRouter(s *Server, mux *http.ServeMux) *router {
	config := huma.Config{
		OpenAPI: &huma.OpenAPI{
			OpenAPI: "3.1.0",
			Info: &huma.Info{
				Title: "Errand", Version: s.version,
				Description: "Coding agents in the background. /v1 is compatible with Cursor's Cloud Agents API v1; what Errand adds are optional fields and paths of its own.",
			},
			Servers: []*huma.Server{{URL: s.url}},
			Components: &huma.Components{
				Schemas: huma.NewMapRegistry("#/components/schemas/", huma.DefaultSchemaNamer),
				SecuritySchemes: map[string]*huma.SecurityScheme{
					"bearerAuth": {Type: "http", Scheme: "bearer", Description: "Authorization: Bearer KEY"},
					"basicAuth":  {Type: "http", Scheme: "basic", Description: "The key as user name, an empty password"},
				},
			},
			Security: []map[string][]string{{"bearerAuth": {}}, {"basicAuth": {}}},
		},
		Formats:       map[string]huma.Format{"application/json": huma.DefaultJSONFormat, "json": huma.DefaultJSONFormat},
		DefaultFormat: "application/json",
		Transformers:  []huma.Transformer{own},
	}
	config.AllowAdditionalPropertiesByDefault = true // fields that later clients send are no error
	return &router{server: s, mux: mux, api: huma.NewAPI(config, adapter{humago.NewAdapter(mux, "")})}
}

// adapter is humago's with the statuses of Cursor's API.
type adapter struct{ huma.Adapter }

// Handle puts one operation on the mux.
func (a adapter) Handle(op *huma.Operation, handler func(huma.Context)) {
	a.Adapter.Handle(op, func(ctx huma.Context) { handler(statusContext{ctx}) })
}

type statusContext struct{ inner }

// inner is huma.Context under a name that its own method Context does not hide.
type inner = huma.Context

// SetStatus sends the status.
func (c statusContext) SetStatus(status int) { c.inner.SetStatus(ours(status)) }

// Unwrap gives what is inside.
func (c statusContext) Unwrap() huma.Context { return c.inner }

// route describes one operation.
type route struct {
	name     string // operationId
	method   string
	path     string
	summary  string
	status   int   // of success; 0 is 200
	maxBody  int64 // 0 is maxBody
	failures []int // statuses beside 401, 429 and 500
}

func (r *router) operation(o route) huma.Operation {
	op := huma.Operation{
		OperationID: o.name, Method: o.method, Path: o.path, Summary: o.summary,
		DefaultStatus: o.status, MaxBodyBytes: o.maxBody, BodyReadTimeout: 2 * time.Minute,
		Responses: map[string]*huma.Response{},
	}
	if op.MaxBodyBytes == 0 {
		op.MaxBodyBytes = maxBody
	}
	schema := r.api.OpenAPI().Components.Schemas.Schema(reflect.TypeFor[api.ErrorBody](), true, "ErrorBody")
	for _, status := range append([]int{http.StatusUnauthorized, http.StatusTooManyRequests, http.StatusInternalServerError}, o.failures...) {
		op.Responses[strconv.Itoa(status)] = &huma.Response{
			Description: http.StatusText(status),
			Content:     map[string]*huma.MediaType{"application/json": {Schema: schema}},
		}
	}
	return op
}

// body is an answer with a JSON body.
type body[T any] struct{ Body T }

// add puts a route with JSON answers on the router. I is its parameters and
// body in huma's form.
func add[I, O any](r *router, o route, handle func(ctx context.Context, w who, in *I) (O, error)) {
	huma.Register(r.api, r.operation(o), func(ctx context.Context, in *I) (*body[O], error) {
		out, err := handle(ctx, whoIs(ctx), in)
		if err != nil {
			return nil, r.server.refusalOf(ctx, err)
		}
		return &body[O]{out}, nil
	})
}

// addEmpty puts a route on the router that answers a success with 204 and no
// body.
func addEmpty[I any](r *router, o route, handle func(ctx context.Context, w who, in *I) error) {
	o.status = http.StatusNoContent
	huma.Register(r.api, r.operation(o), func(ctx context.Context, in *I) (*struct{}, error) {
		if err := handle(ctx, whoIs(ctx), in); err != nil {
			return nil, r.server.refusalOf(ctx, err)
		}
		return nil, nil
	})
}

// addRaw puts a route on the router that writes its answer itself: contentType,
// under success. Errors that handle gives are answered if nothing was written. The
// requests of streams and sockets end when the server is stopped.
func (r *router) addRaw(o route, success int, contentType string, parameters []*huma.Param, handle func(http.ResponseWriter, *http.Request) error) {
	op := r.operation(o)
	op.Parameters = append(pathParameters(o.path), parameters...)
	answer := &huma.Response{Description: http.StatusText(success)}
	if contentType != "" {
		answer.Content = map[string]*huma.MediaType{contentType: {Schema: &huma.Schema{Type: huma.TypeString}}}
	}
	op.Responses[strconv.Itoa(success)] = answer
	r.api.OpenAPI().AddOperation(&op)
	open := contentType == "text/event-stream" || success == http.StatusSwitchingProtocols
	r.mux.HandleFunc(o.method+" "+o.path, func(w http.ResponseWriter, req *http.Request) {
		if open {
			ctx, end := r.server.untilStop(req.Context())
			defer end()
			req = req.WithContext(ctx)
		}
		if err := handle(w, req); err != nil {
			r.server.refuse(w, req, err)
		}
	})
}

// untilStop gives a context that ends with ctx or when the server is stopped. end
// is to be called when it is done with.
func (s *Server) untilStop(ctx context.Context) (_ context.Context, end func()) {
	ctx, cancel := context.WithCancel(ctx)
	var watch sync.WaitGroup
	watch.Go(func() {
		select {
		case <-s.stopped:
			cancel()
		case <-ctx.Done():
		}
	})
	return ctx, func() {
		cancel()
		watch.Wait()
	}
}

// pathParameters reads a pattern's own parameters.
func pathParameters(path string) []*huma.Param {
	var all []*huma.Param
	for part := range strings.SplitSeq(path, "/") {
		if name, ok := strings.CutPrefix(part, "{"); ok {
			all = append(all, &huma.Param{Name: strings.TrimSuffix(name, "}"), In: "path", Required: true, Schema: &huma.Schema{Type: huma.TypeString}})
		}
	}
	return all
}
