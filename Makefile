# `make` alone says what there is.
.DEFAULT_GOAL := help
.PHONY: help setup run test bench bench-claims bench-soak bench-fairness bench-upload bench-far bench-destinations bench-together bench-suppressions bench-postfix bench-reports bench-events bench-pace bench-traces bench-compare faults score-bounces deny sbom dist image stop fmt lint

ARGS ?=
target := $(or $(CARGO_TARGET_DIR),target)

help: ## Say what there is
	@awk -F ':.*## ' '/^[a-z-]+:.*## / { printf "make %-14s %s\n", $$1, $$2 }' Makefile
	@echo 'Arguments: make run ARGS="--recipients 10000 --faults --exit"'

setup: ## Find or install what is needed, also for tests and measurements (Debian, Ubuntu)
	@scripts/setup.sh

run: ## Start everything, send a first campaign, stay up until Ctrl-C
	@scripts/setup.sh run
	cargo build --locked --profile quick --bins
	@$(target)/quick/postrider dev $(ARGS)

test: ## Everything that must hold: format, lints, tests, documentation
	@scripts/test.sh

bench: setup ## Messages per second and CPU per message, beside the raw limit
	@bench/run.sh $(ARGS)

faults: setup ## Break what can break and audit every mail (ARGS="--list")
	cargo bench --locked --profile dev --bench faults -- $(ARGS)

bench-claims: setup ## Claims per second with millions waiting, most of it blocked (--waiting 10000000, --daemon)
	@bench/queue.sh claims $(ARGS)

bench-soak: setup ## Steady load with a snapshot held open for a third of it (--minutes 30)
	@bench/queue.sh soak $(ARGS)

bench-fairness: setup ## A small tenant's mail beside a large one's (--waiting 1000000 --seconds 120)
	@bench/queue.sh fairness $(ARGS)

bench-upload: setup ## Many recipients as NDJSON: seconds and memory (--recipients 1000000)
	@bench/queue.sh upload $(ARGS)

bench-far: setup ## A receiver that answers late (--connections 200 --delay-ms 100; 1000 and 1000)
	@bench/queue.sh far $(ARGS)

bench-destinations: setup ## One mail to each of many destinations (--destinations 20000)
	@bench/queue.sh destinations $(ARGS)

bench-together: setup ## Submission over HTTP and delivery at the same time (--mails 100000)
	@bench/queue.sh together $(ARGS)

bench-suppressions: setup ## Checks of a batch against a long list of suppressions (--entries 10000000)
	@bench/queue.sh suppressions $(ARGS)

bench-reports: setup ## Reports that come back by mail, stored and worked off a second (--full)
	@bench/queue.sh reports $(ARGS)

bench-events: setup ## What events cost, also beside a dead endpoint (--full)
	@bench/queue.sh events $(ARGS)

bench-pace: setup ## Receivers that refuse beyond a rate: how the pace settles and follows (--takes 20 --seconds 240)
	@bench/queue.sh pace $(ARGS)

bench-traces: setup ## What 1 % of the traces costs, in turns within one run (--count 1000000)
	@bench/run.sh --sink builtin --traces 0.01 $(or $(ARGS),--count 1000000)

bench-postfix: setup ## Postfix's queue to the same sink, for comparison (as root)
	@bench/queue.sh postfix $(ARGS)

bench-compare: setup ## The queue beside apalis-postgres and awa (fetches and builds them)
	@bench/compare.sh $(ARGS)

score-bounces: ## Score the reading of bounces on labelled mails (DIR=folder, ARGS="--misses")
	@cargo run --locked --quiet --profile quick --bin postrider -- report score $(DIR) $(ARGS)

deny: ## Licences, bans and sources of the crates; advisories where their database is reachable
	@scripts/deny.sh

sbom: ## The bill of materials (CycloneDX) as target/postrider.cdx.json
	@scripts/sbom.sh

dist: ## A release below dist/: static programs, units, documentation, checksums
	@scripts/dist.sh

image: dist ## The container image from dist/image/, started and tried with podman (ARGS=--figures)
	@scripts/container.sh $(ARGS)

stop: ## Stop what a killed run left behind
	@scripts/stop.sh

fmt: ## Format the code
	cargo fmt

lint: ## Lints alone
	cargo clippy --locked --all-targets -- -D warnings
