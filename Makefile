# Errand is built and tested from here. `make demo` shows it, `make test` proves it.

GO      ?= go
GOTEST  ?= $(GO) test
BIN     := bin
LDFLAGS := -s -w
export CGO_ENABLED := 0

# The panel is compiled in where npm is there to build it; a server without it says so.
PANEL := $(if $(shell command -v npm),panel)

.PHONY: build test fast lint demo bench clean

build: $(BIN)/runsc $(BIN)/buildkitd guest kms buildkit errand ## everything that is shipped, into bin/

.PHONY: errand guest kms buildkit panel
errand: $(PANEL)
	$(GO) build -trimpath -ldflags '$(LDFLAGS)' -o $(BIN)/errand ./cmd/errand
guest:
	$(GO) build -trimpath -ldflags '$(LDFLAGS)' -o $(BIN)/errand-guest ./cmd/errand-guest
kms:
	$(GO) build -trimpath -ldflags '$(LDFLAGS)' -o $(BIN)/errand-kms ./cmd/errand-kms
buildkit:
	$(GO) build -trimpath -ldflags '$(LDFLAGS)' -o $(BIN)/errand-buildkit ./cmd/errand-buildkit

panel: web/dist/index.html ## the panel, into web/dist, if its sources changed
web/dist/index.html: web/panel/node_modules/.package-lock.json $(shell find web/panel -name node_modules -prune -o -type f ! -name schema.d.ts -print)
	cd web/panel && npm run build
web/panel/node_modules/.package-lock.json: web/panel/package-lock.json
	cd web/panel && npm ci
	touch $@

# gVisor's runtime, from the Go module proxy: two to four minutes the first time.
$(BIN)/runsc: tools/go.mod tools/go.sum
	@echo "building runsc (gVisor) from source; this takes a few minutes once"
	cd tools && $(GO) build -trimpath -ldflags "$(LDFLAGS) -X gvisor.dev/gvisor/runsc/version.version=$$($(GO) list -m -f '{{.Version}}' gvisor.dev/gvisor)" -o ../$(BIN)/runsc gvisor.dev/gvisor/runsc

# BuildKit's daemon, which builds Dockerfiles: two to three minutes the first time.
# A module of its own, whose many dependencies bend nobody else's.
$(BIN)/buildkitd: tools/buildkit/go.mod tools/buildkit/go.sum
	@echo "building buildkitd (BuildKit) from source; this takes a few minutes once"
	cd tools/buildkit && $(GO) build -trimpath -ldflags "$(LDFLAGS)" -o ../../$(BIN)/buildkitd github.com/moby/buildkit/cmd/buildkitd

# The README's test command: all of it, with the race detector. Needs root and a C compiler.
test: build lint
	ERRAND_BIN=$(CURDIR)/$(BIN) CGO_ENABLED=1 $(GOTEST) -race -timeout 30m $(TESTFLAGS) ./...

fast: guest ## what needs no machine, for a quick look while working
	ERRAND_BIN=$(CURDIR)/$(BIN) $(GO) test -short ./...

lint:
	@unformatted=$$(gofmt -l $$(git ls-files '*.go')); if [ -n "$$unformatted" ]; then echo "gofmt these:"; echo "$$unformatted"; exit 1; fi
	$(GO) vet ./...
	GOOS=darwin $(GO) vet ./cmd/errand
	GOOS=windows $(GO) vet ./cmd/errand
	cd tools && $(GO) build -o ../$(BIN)/staticcheck honnef.co/go/tools/cmd/staticcheck
	$(BIN)/staticcheck ./...

demo: build ## the whole path once, on a repository made for it
	$(BIN)/errand demo

bench: build
	$(BIN)/errand bench

clean:
	rm -rf $(BIN)
