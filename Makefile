# SPDX-License-Identifier: MIT

# Every module of the tree; tools/ has no package of its own.
MODULES := . $(filter-out tools,$(patsubst %/go.mod,%,$(wildcard */go.mod */*/go.mod)))
TOOL    := go tool -modfile=$(CURDIR)/tools/go.mod

FUZZTIME  ?= 10m
SOAKTIME  ?= 10m
BENCH     ?= .
BENCHTIME ?= 100ms
COUNT     ?= 6
RESULTS   ?= $(CURDIR)/benchmarks/results.txt
# A test binary of benchmarks/ at another commit, which takes turns with this one.
BENCHBASE ?=

# each runs a command in every module and stops at the first that fails.
each = @set -e; for m in $(MODULES); do echo "== $$m: $(1)"; (cd $$m && $(1)); done

# The tests of dtlsserver run with pion v2's handshakes. With these flags they run with pion
# v4's: the overlay replaces the one file that knows the adapter.
V4 := -modfile=pionv4/testdata/dtlsserver.mod -overlay=pionv4/testdata/overlay.json

.PHONY: all test test-v4 lockcheck lint vet staticcheck gofmt spdx tidy-check fuzz cover soak bench bench-wire bench-million bench-v4 bench-restart admission dashboard

all: lint test

test:
	$(call each,go test -race -shuffle=on -timeout 10m ./...)

test-v4:
	go test $(V4) -race -shuffle=on -timeout 10m ./dtlsserver

# The order of locks, checked at every Lock.
lockcheck:
	go test -race -tags lockcheck -timeout 20m ./internal/lockorder ./dtlsserver ./pionv2
	go test $(V4) -race -tags lockcheck -timeout 20m ./dtlsserver

lint: gofmt vet staticcheck spdx tidy-check

gofmt:
	@out=$$(gofmt -l .); [ -z "$$out" ] || { echo "gofmt would change:"; echo "$$out"; exit 1; }

vet:
	$(call each,go vet ./...)
	go vet $(V4) ./dtlsserver

staticcheck:
	$(call each,$(TOOL) staticcheck ./...)

spdx:
	@out=$$(git ls-files '*.go' '*.sh' Makefile .ci | xargs grep -L 'SPDX-License-Identifier: MIT' || true); \
	[ -z "$$out" ] || { echo "no SPDX line:"; echo "$$out"; exit 1; }

tidy-check:
	@set -e; for m in $(MODULES) tools; do echo "== $$m: go mod tidy -diff"; (cd $$m && go mod tidy -diff); done
	go mod tidy -diff $(V4)

# Each fuzz target, FUZZTIME long. Inputs are not minimised for long: tables hash
# with random secrets, so that coverage differs from run to run.
fuzz:
	@set -e; for m in $(MODULES); do (cd $$m; for p in $$(go list ./...); do for t in $$(go test -list '^Fuzz' $$p | grep '^Fuzz' || true); do \
		echo "== $$p $$t"; go test -run '^$$' -fuzz "^$$t$$" -fuzztime $(FUZZTIME) -fuzzminimizetime 10x $$p; done; done); done
	go test $(V4) -run '^$$' -fuzz '^FuzzListener$$' -fuzztime $(FUZZTIME) -fuzzminimizetime 10x ./dtlsserver

cover:
	$(call each,go test -cover ./...)

# Clients that connect, close, die and come back, for SOAKTIME each: on one listener, behind
# NATs while the server restarts, and while Prometheus scrapes.
soak:
	go test -race -run '^TestSoak$$' -timeout 60m -v ./dtlsserver -soak $(SOAKTIME)
	go test $(V4) -race -run '^TestSoak$$' -timeout 60m -v ./dtlsserver -soak $(SOAKTIME)
	go -C interop test -race -run '^TestSoakRoaming$$' -timeout 60m -v . -soak $(SOAKTIME)
	go -C dsmprom test -race -run '^TestSumsHoldInEachScrape$$' -timeout 60m -v . -soak $(SOAKTIME)

# COUNT rounds over all benchmarks of benchmarks/, so that contenders take turns,
# then the medians, the ratios to the targets and the plot.
bench:
	cd benchmarks && go test -c -o /tmp/dsm-bench.test . && rm -f $(RESULTS) $(RESULTS).before && \
	for i in $$(seq $(COUNT)); do \
		for binary in /tmp/dsm-bench.test $(BENCHBASE); do \
			results=$(RESULTS); [ $$binary = /tmp/dsm-bench.test ] || results=$(RESULTS).before; \
			$$binary -test.run '^$$' -test.bench '$(BENCH)' -test.benchtime $(BENCHTIME) -test.timeout 60m >> $$results || exit 1; \
		done; \
	done && go run ./report -svg ns-per-op.svg $(if $(BENCHBASE),-before $(RESULTS).before) $(RESULTS)

# Whole servers over loopback: one core for the server, the other for its clients.
bench-wire:
	cd benchmarks && go build -o /tmp/dsm-wire ./wire && \
	for what in saturated echo receive handshake resume stalled attacked sockets latency idle; do /tmp/dsm-wire -what $$what || exit 1; done && \
	for what in handshake resume; do /tmp/dsm-wire -what $$what -suite ecdsa || exit 1; done

# A server with 1000 and with a million sessions, of which 1 % talk. About a quarter of an hour.
bench-million:
	cd benchmarks && go build -o /tmp/dsm-wire ./wire && /tmp/dsm-wire -what million -rounds 3 -seconds 3

# Pion v4 and v2 in turn, and a flood of ClientHellos. About 20 minutes.
bench-v4:
	cd benchmarks && go build -o /tmp/dsm-wire ./wire && \
	for what in handshake resume half-open stalled; do /tmp/dsm-wire -what $$what -adapter v2,v4 || exit 1; done && \
	/tmp/dsm-wire -what handshake -suite ecdsa -adapter v2,v4 && \
	/tmp/dsm-wire -what echo -sessions 256 -servers dsm-serve,dsm-serve-v4,pion,pion-v4 && \
	/tmp/dsm-wire -what hellos -adapter v2,v4 && \
	/tmp/dsm-wire -what hellos -servers floor,dsm-serve-v4 -rate 66667 && \
	/tmp/dsm-wire -what idle -servers dsm-serve,dsm-serve-v4,dsm-cid-v4,pion-parallel,pion-v4 -sessions 5000 -rounds 2

# What a restart takes: snapshots of a million sessions, and the journal. About a quarter of
# an hour.
bench-restart:
	cd benchmarks && go build -o /tmp/dsm-wire ./wire && /tmp/dsm-wire -what save && \
	/tmp/dsm-wire -what save -suite ecdsa -sessions 10000 && \
	/tmp/dsm-wire -what journal -pace 1s -seconds 5 -rounds 12 && /tmp/dsm-wire -what journal -sessions 256 -seconds 4 -rounds 12

# Which share of honest clients gets in while strangers flood the server, and when a herd
# comes at once: in virtual time, all cells of the table. It prints the section of
# BENCHMARKS.md and draws its plot. CELLS is a regexp for some of them.
CELLS ?=
admission:
	cd benchmarks && go test -count 1 -run '^TestTable$$' -timeout 60m -v ./admission -table -cells '$(CELLS)' -markdown /tmp/dsm-admission.md -svg $(CURDIR)/benchmarks/admission.svg
	@cat /tmp/dsm-admission.md

# The picture of dsmprom's dashboard: a server that is watched by Prometheus for four minutes.
# It needs prometheus and redis-server.
dashboard:
	cd benchmarks && go run ./dashboard -png $(CURDIR)/docs/dashboard.png
