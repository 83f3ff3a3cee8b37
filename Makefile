# make help lists the targets. Everything fetched or built for later runs goes to the cache folder
# (RECPIE_CACHE, default ~/.cache/recpie), never into the clone.

SHELL := /bin/bash
ENV   := scripts/with-env
SAYS  := echo "compiling (a machine's first time takes 2 to 5 minutes: the wrapper of libtorch is compiled)" >&2
GOFILES = $(shell git ls-files -co --exclude-standard '*.go')

.PHONY: help setup build quickstart quickstart-seeds test fuzz test-crash test-postgres test-kills test-sdk test-skyrl test-cookbook test-transformers test-vllm test-vllm-merged test-vllm-scale nightly lint bench clean

help: ## list the targets
	@grep -hE '^[a-z0-9-]+:.*##' $(MAKEFILE_LIST) | sed -E 's/:.*## /\t/' | expand -t 20

setup: ## fetch libtorch, the sentence encoder and MovieLens 100K into the cache (once)
	@scripts/setup.sh

build: setup ## build bin/recpie; it runs without any environment set by hand
	@$(SAYS)
	@$(ENV) go build -o bin/recpie ./cmd/recpie

quickstart: build ## the whole loop on MovieLens 100K, from nothing to runs/quickstart/report.html
	@bin/recpie train --preset embedded --run runs/quickstart

quickstart-seeds: build ## the quickstart with five seeds: means and standard errors
	@for s in 1 2 3 4 5; do bin/recpie train --preset embedded --seed $$s --run runs/quickstart-seed-$$s || exit 1; done
	@bin/recpie evaluate runs/quickstart-seed-1 runs/quickstart-seed-2 runs/quickstart-seed-3 runs/quickstart-seed-4 runs/quickstart-seed-5

test: setup ## all fast tests
	@$(SAYS)
	@$(ENV) go test ./...

test-crash: setup ## runs killed at every failpoint and at random moments end as unbroken ones
	@RECPIE_CRASH=1 $(ENV) go test ./cmd/recpie -run 'Kill|Interrupt' -timeout 30m -v

test-postgres: setup ## the batch engine on PostgreSQL, killed more than 200 times on both databases, and explain with workers on it
	@RECPIE_CRASH=1 scripts/peers/postgres.sh
	@scripts/peers/postgres.sh $(ENV) go test ./cmd/recpie -run Postgres -count 1

test-kills: ## the batch engine killed more than 1000 times on both databases
	@RECPIE_CRASH=5 scripts/peers/postgres.sh go test ./internal/queue -run 'ManyKills|PostgresItself' -count 1 -timeout 90m -v

test-sdk: setup ## the official SDK of the training API against our server
	@scripts/peers/sdk.sh

test-skyrl: setup ## a real SkyRL server against our training client (Python 3.12)
	@scripts/peers/skyrl.sh

test-cookbook: setup ## tinker-cookbook's RL loop against our training server
	@scripts/peers/cookbook.sh

test-transformers: setup ## logits, gradients and files of every architecture beside transformers and PEFT
	@scripts/peers/transformers.sh

test-vllm: setup ## a real vLLM on this CPU against our clients
	@scripts/peers/vllm.sh

test-vllm-merged: setup ## a GPT-2 trained for a real vLLM, which has no LoRA for it: merged checkpoints
	@scripts/peers/vllm.sh merged

test-vllm-scale: setup ## 20,000 rows with kills, 50 adapter versions, prefix caches, on real vLLM servers
	@scripts/peers/vllm.sh scale

fuzz: ## every reader of raw formats, ten seconds each (FUZZTIME)
	@for p in formats layout; do scripts/fuzz.sh ./internal/dataset/$$p $${FUZZTIME:-10s} || exit 1; done

nightly: build ## the long suites: real data sets, five seeds
	@RECPIE_LONG=1 go test ./internal/dataset/formats -run FlatMemory -timeout 60m -v
	@FUZZTIME=5m $(MAKE) fuzz
	@RECPIE_LONG=1 $(ENV) go test ./recommender ./orchestrator ./cmd/recpie -run 'Real|Network|Planted' -timeout 120m -v
	@$(MAKE) test-kills
	@$(MAKE) test-vllm-merged
	@$(MAKE) test-vllm-scale
	@$(MAKE) test-skyrl
	@$(MAKE) test-cookbook
	@$(MAKE) quickstart-seeds

bench: setup ## benchmarks beside their peers (bench/)
	@$(ENV) go test ./internal/lm ./internal/tokenizer -run xxx -bench . -benchtime 3x
	@go run ./bench/queue -db "$$(mktemp -d)/bench.db" -rows 300000
	@go run ./bench/faults
	@bench/client/setup.sh && go run ./bench/client -python $${RECPIE_CACHE:-$${XDG_CACHE_HOME:-$$HOME/.cache}/recpie}/bench-client-venv/bin/python
	@$(ENV) go run ./bench/lm -python "$$(bench/lm/setup.sh)"
	@go run ./bench/readers -python "$$(bench/readers/setup.sh)"
	@$(ENV) go run ./bench/accuracy -python "$$(bench/accuracy/setup.sh)" $${RECPIE_CACHE:-$${XDG_CACHE_HOME:-$$HOME/.cache}/recpie}/ml-100k
	@bench/torch/setup.sh && $(ENV) go run ./bench/torch -python $${RECPIE_CACHE:-$${XDG_CACHE_HOME:-$$HOME/.cache}/recpie}/bench-venv/bin/python

lint: setup ## gofmt, go vet, staticcheck
	@out=$$(gofmt -l $(GOFILES)); [ -z "$$out" ] || { echo "gofmt: $$out"; exit 1; }
	@$(ENV) go vet ./... && $(ENV) go vet -tags peers ./internal/peers ./internal/lm ./internal/tokenizer
	@$(ENV) go tool staticcheck ./...

clean: ## remove what was built in the clone
	@rm -rf bin
