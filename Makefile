# Synod's commands. `make` alone lists them.
#
# RocksDB dominates the build time. Commands that need it compile in the release profile, into one target folder
# and for the whole workspace, because cargo would build RocksDB again for each other combination.

ARGS ?=
CARGO ?= cargo
export PATH := $(PATH):$(or $(CARGO_HOME),$(HOME)/.cargo)/bin

# CI sets this to --locked. Empty otherwise, so that a new dependency needs no extra step.
LOCKED ?=
WHOLE := --release --workspace $(LOCKED)
# Read from cargo, so that CARGO_TARGET_DIR and the user's cargo settings are respected.
TARGET = $(shell $(CARGO) metadata --no-deps --format-version 1 $(LOCKED) \
	| sed -n 's/.*"target_directory":"\([^"]*\)".*/\1/p')

.DEFAULT_GOAL := help
.PHONY: help setup run build test kills bugs fuzz mutants mutation explore bench load peers doc lint

help: ## List the commands
	@printf 'Synod: make COMMAND\n\n'
	@sed -n 's/^\([a-z]*\):.*## \(.*\)/  \1\t\2/p' $(MAKEFILE_LIST) | expand -t 12
	@printf '\nThe first build compiles RocksDB, once: the node alone took 14 minutes on two idle cores.\n'

setup: ## Install missing build tools (C++ compiler, libclang)
	@./scripts/setup.sh

run: setup ## Build, then run three nodes on this machine: make run ARGS='--nodes 5'
	$(CARGO) build $(WHOLE)
	@exec '$(TARGET)/release/synod' dev $(ARGS)

build: setup ## Build everything; the program is target/release/synod
	$(CARGO) build $(WHOLE)

test: setup ## Run every test
	$(CARGO) test $(WHOLE)

kills: setup ## Kill nodes of real clusters ARGS times in total, on all protocols: make kills ARGS=1000
	SYNOD_KILLS=$(or $(ARGS),1000) $(CARGO) test $(WHOLE) --test it -- --nocapture kill::

bugs: ## List known bugs of other projects and the tests for each: make bugs ARGS=raft-09
	$(CARGO) run --release $(LOCKED) -p synod-tests --bin bugs -- $(ARGS)

# A separate build for each package; none of them needs RocksDB.
FUZZ = FUZZ_SECONDS=$(or $(SECONDS),600) $(CARGO) test --release $(LOCKED)
fuzz: ## Fuzz every decoder and every core, 600 s per fuzzer: make fuzz SECONDS=3600
	$(FUZZ) -p synod-sim --test fuzz
	$(FUZZ) -p synod-transport --features quic --lib -- fuzz
	$(FUZZ) -p synod-etcd-api --test fuzz

mutants: ## Check that tests catch known bugs, planted in a copy of the tree: make mutants ARGS=M24
	$(CARGO) run --release $(LOCKED) -p synod-tests --bin mutants -- $(ARGS)

# Runs only the fast tests, and compiles with a profile with little optimisation: with simulator campaigns or
# full optimisation a run would take days.
MUTATED ?= synod-basic-paxos
SURVIVORS = $(or $(wildcard mutants/cargo-mutants/$(MUTATED:synod-%=%).txt),/dev/null)
TOOLS := $(HOME)/.cache/synod/tools
mutation: ## Mutate a protocol's code with cargo-mutants: make mutation ARGS='--shard 0/8'
	@test -x '$(TOOLS)/bin/cargo-mutants' || \
		$(CARGO) install --locked --root '$(TOOLS)' cargo-mutants --version 27.1.0
	@PATH="$(TOOLS)/bin:$$PATH" CARGO_INCREMENTAL=1 $(CARGO) mutants --package $(MUTATED) \
		--profile mutants --cargo-arg=--lib --cargo-arg=--test=it --timeout 90 \
		--output '$(TARGET)' $(ARGS) || { status=$$?; [ $$status = 2 ] || [ $$status = 3 ]; }
	@echo 'Survivors that are not in mutants/cargo-mutants:'
	@cd '$(TARGET)/mutants.out' && export LC_ALL=C && \
		sed -E 's/:[0-9]+:[0-9]+:/:/' missed.txt | sort \
		| comm -23 - $(abspath $(SURVIVORS)) | { ! grep .; }

explore: ## Run the large exhaustive searches of a protocol (minutes): make explore ARGS=raft
	$(CARGO) test --release $(LOCKED) -p synod-$(or $(ARGS),raft) --test explore -- \
		--ignored --nocapture --test-threads=1

BENCHES = $(addprefix --bench ,core_step link log_commit protocols)
bench: setup ## Run the benchmarks: make bench ARGS=core_step
	$(CARGO) bench --workspace $(LOCKED) $(BENCHES) -- $(ARGS)

load: setup ## Run real clusters under load (bursts, slow links and disks, large reads): make load ARGS=burst
	$(CARGO) bench --workspace $(LOCKED) --bench load -- $(ARGS)

peers: ## Compare the throughput of the Raft core and OmniPaxos, in one process
	$(CARGO) run --release --manifest-path bench/peers/Cargo.toml $(LOCKED) -- $(ARGS)

doc: setup ## Build the API documentation: target/doc/synod_raft/index.html
	RUSTDOCFLAGS=-Dwarnings $(CARGO) doc --no-deps $(WHOLE)

lint: setup ## Check the format, and run clippy
	$(CARGO) fmt --all --check
	$(CARGO) clippy --all-targets $(WHOLE) -- -D warnings -D clippy::too_many_lines
