# make help lists the targets. Everything fetched or built for later runs goes to the cache folder
# (RECPIE_CACHE, default ~/.cache/recpie), never into the clone.

SHELL := /bin/bash
ENV   := scripts/with-env
GOFILES = $(shell git ls-files -co --exclude-standard '*.go')

.PHONY: help setup build quickstart test lint bench clean

help: ## list the targets
	@grep -hE '^[a-z0-9-]+:.*##' $(MAKEFILE_LIST) | sed -E 's/:.*## /\t/' | expand -t 20

setup: ## fetch libtorch, the sentence encoder and MovieLens 100K into the cache (once)
	@scripts/setup.sh

build: setup ## build bin/recpie; it runs without any environment set by hand
	@$(ENV) go build -o bin/recpie ./cmd/recpie

quickstart: build ## the whole loop on MovieLens 100K, from nothing to runs/quickstart/report.html
	@bin/recpie train --preset embedded --sample-pairs 3000 --run runs/quickstart

test: setup ## all fast tests
	@$(ENV) go test ./...

lint: setup ## gofmt, go vet, staticcheck
	@out=$$(gofmt -l $(GOFILES)); [ -z "$$out" ] || { echo "gofmt: $$out"; exit 1; }
	@$(ENV) go vet ./...
	@$(ENV) go tool staticcheck ./...

clean: ## remove what was built in the clone
	@rm -rf bin
