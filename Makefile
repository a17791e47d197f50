# pgquorum: build and tests. `make` alone lists the targets.

SHELL       := /bin/bash
.SHELLFLAGS := -euo pipefail -c
.DEFAULT_GOAL := help

BIN      := bin/pgquorum
N        ?= 1
SCENARIO ?= .
BENCH    ?= all
ARGS     ?=
SEEDS    ?= 1000
PG       ?=
VERSIONS ?= 13 14 15 16 17 18

# One way to compile, that of the binary: everything is compiled once, for lint, tests and build alike.
export CGO_ENABLED = 0
export GOFLAGS    := $(filter-out -trimpath,$(shell go env GOFLAGS 2>/dev/null)) -trimpath

# PG=17 takes PostgreSQL 17, fetched if it is not installed; without it, the machine's newest.
WITH_PG = $(if $(PG),pg="$$(scripts/pg.sh $(PG))" && export PGQUORUM_PG="$$pg" &&)
PACKAGES ?= ./...
RECKON   := ./agent/decide ./agent/sim/...
MINUTES  ?= 3
NODES    ?= 3

INTEGRATION := PGQUORUM_BIN=$(CURDIR)/$(BIN) go test -tags integration -count=1 ./integration

.PHONY: help
help: ## list the targets
	@awk -F':.*## ' '/^[a-z-]+:.*## / {printf "  make %-12s %s\n", $$1, $$2}' $(MAKEFILE_LIST)

.PHONY: build
build: ## build bin/pgquorum, one static binary
	go build -ldflags '-s -w' -o $(BIN) ./cmd/pgquorum

.PHONY: deps
deps: ## install what is missing of PostgreSQL, HAProxy, iproute2, nftables, e2fsprogs and a C compiler (Debian 12, root)
	scripts/deps.sh

# To an ordinary user, who cannot install anything, the demo itself says what is missing.
.PHONY: demo
demo: ## a three-node cluster on this machine and a failover under load, narrated
	@scripts/deps.sh postgresql haproxy || test "$$(id -u)" -ne 0
	@$(MAKE) --no-print-directory build
	$(BIN) demo $(ARGS)

.PHONY: test
test: deps needs vet ## lint, all tests, 1000 simulated schedules, each scenario once, 3 minutes of chaos (root; 23 minutes on 2 cores from an empty cache)
	@$(MAKE) --no-print-directory -j2 --output-sync=none tests-that-reckon tests-that-wait

# Who runs in virtual time, or only reckons, takes what the others leave of the processors: those mostly wait.
.PHONY: tests-that-reckon tests-that-wait
tests-that-reckon:
	@scripts/beside.sh $(MAKE) --no-print-directory staticcheck
	@scripts/beside.sh $(MAKE) --no-print-directory unit PACKAGES='$(RECKON)'
	@scripts/beside.sh $(MAKE) --no-print-directory sim
tests-that-wait:
	@$(MAKE) --no-print-directory unit PACKAGES="$$(go list ./... | grep -vxF "$$(go list $(RECKON))" | tr '\n' ' ')"
	@$(MAKE) --no-print-directory powercut
	@$(MAKE) --no-print-directory integration CHAOS_SEED=13

.PHONY: check
check: lint unit ## lint and the tests that need no root

.PHONY: unit
unit: ## the tests of all packages, without real clusters
	go test -timeout 30m $(PACKAGES)

.PHONY: race
race: ## the same under the race detector (needs a C compiler)
	CGO_ENABLED=1 go test -race -timeout 30m ./...

# The stores in memory where there is room, since nothing of them outlives a schedule, and a collector that comes less often:
# half of the time.
IN_MEMORY = TMPDIR="$${TMPDIR:-$$(df --output=avail /dev/shm | awk 'NR == 2 && $$1 > 2000000 { print "/dev/shm" }')}" GOGC=400

.PHONY: sim
sim: SEED = 1
sim: ## SEEDS=1000 simulated clusters under faults, from SEED=1 on; ARGS='-logs DIR' keeps the logs of those that fail
	$(IN_MEMORY) go test -count=1 -timeout 10h ./agent/sim -run '^TestSchedules$$' -args -seed $(SEED) -seeds $(SEEDS) $(ARGS)

# The same machine code for all: the first run after a change of the code compiles for some seconds.
.PHONY: replay
replay: SEEDS = 1
replay: SEED = 1
replay: ## one simulated schedule exactly, SEED=17: each run of it is the same; ARGS='-logs DIR -order 3', SEEDS=200 plays more
	go run ./agent/sim/replay -seed $(SEED) -seeds $(SEEDS) $(ARGS)

.PHONY: draws
draws: ## the random tests of the rules and the state machine, 20 times the usual draws; ARGS='-rapid.seed=42' replays one
	go test -count=1 -timeout 30m ./agent/decide ./raftfsm -run 'Property|SecondModel|mIsNoHigher' -args -rapid.checks=2000 $(ARGS)

.PHONY: powercut
powercut: ## what was promised is on disk: the guard's marks on a file system that loses what was not synced (root)
	go test -tags integration -count=1 ./pgctl -run PowerCut

.PHONY: needs
needs: ## say what this machine lacks for the integration tests, and fail if anything
	@go test -tags integration -count=1 -run '^$$' ./integration

.PHONY: integration
integration: build ## real clusters and faults (root); N=5 repeats, SCENARIO=Switchover chooses, PG=17 the version, PGQUORUM_FULL=1 long pauses
	$(WITH_PG) PGQUORUM_RUNS=$(N) $(INTEGRATION) -v -timeout $$((20 * $(N) + 20))m -run '$(SCENARIO)' $(if $(CHAOS_SEED),-args -seed $(CHAOS_SEED))

# Which faults TestChaos draws there, so that a failure of make test can be had again; make chaos draws others each time.
CHAOS_SEED ?=

# What each version can and cannot show stands at the head and the end of its part, and in docs/versions.md.
.PHONY: versions
versions: SCENARIO = Version|Switchover|PostmasterKilled|HostCrash|TestStandby|PrimaryCut|AllHostsCrash|KilledDuringRewind|ForeignDirectory
versions: ## pgctl's tests and chosen scenarios on each major version in turn (root; an hour); VERSIONS='13 17' chooses
	@for pg in $(VERSIONS); do $(MAKE) --no-print-directory version PG=$$pg SCENARIO='$(SCENARIO)' || failed="$${failed:-} $$pg"; done; \
		test -z "$${failed:-}" || { echo "failed with PostgreSQL$$failed"; exit 1; }

.PHONY: version
version:
	$(WITH_PG) go test -count=1 -timeout 15m ./pgctl
	@$(MAKE) --no-print-directory integration PG=$(PG) SCENARIO='$(SCENARIO)'

# Without SEED one is drawn and printed. The report: integration/out/chaos/report.html.
.PHONY: chaos
chaos: build ## faults drawn from a seed on real clusters (root); MINUTES=60, SEED=42 draws the same again, NODES=5
	PGQUORUM_BIN=$(CURDIR)/$(BIN) go test -tags integration -count=1 -v -timeout $$(awk 'BEGIN { print int($(MINUTES)) + 20 }')m ./integration \
		-run '^TestChaos$$' -args -minutes $(MINUTES) -nodes $(NODES) $(if $(SEED),-seed $(SEED)) $(ARGS)

.PHONY: soak
soak: HOURS = 8
soak: ## simulated schedules and chaos with seeds never played before (root); HOURS=8, WHAT=sim or chaos; goes on where docs/soak.tsv ends
	scripts/soak.sh $(HOURS) $(WHAT)

# Of the scenarios' outages, SCENARIO chooses. ARGS go to the test binary, such as ARGS='-seconds 5 -rounds 1 -handovers 1'.
.PHONY: bench
bench: N = 5
bench: build ## outages, pgbench, rest, health checks (root; an hour); N=5 runs, BENCH=rest,health chooses, ARGS='-seconds 5'
	PGQUORUM_BIN=$(CURDIR)/$(BIN) go test -tags integration,bench -count=1 -v -timeout 300m -run '^TestBench$$' ./integration \
		-args -runs $(N) -parts '$(BENCH)' -scenario '$(SCENARIO)' $(ARGS)

.PHONY: lint vet staticcheck
lint: vet staticcheck ## gofmt, go vet, staticcheck, and the import rules
vet:
	@unformatted="$$(gofmt -l .)"; test -z "$$unformatted" || { echo "gofmt would change:"; echo "$$unformatted"; exit 1; }
	go vet -tags integration,bench ./...
	go test .
	bash -n .ci/run
	for script in scripts/*.sh; do bash -n "$$script"; done
# On an empty cache it looks into all dependencies, for minutes.
staticcheck:
	go tool staticcheck -tags integration,bench ./...

.PHONY: mutants
mutants: ## break each safety rule in turn; the test that guards it must fail
	go run ./scripts/mutants $(ARGS)

.PHONY: clean
clean: ## remove what the other targets made
	rm -rf bin integration/out
