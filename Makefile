# One command per step; `make test` is all that CI runs.

SHELL := bash
.SHELLFLAGS := -euo pipefail -c
.DEFAULT_GOAL := help
# Steps share one target directory and one machine: in order, one after the other.
.NOTPARALLEL:

STEP := scripts/step.sh
# One profile for everything that is compiled, or librdkafka would be compiled once for each.
CARGO_FLAGS := --profile tests --locked
TEST_FLAGS := --no-fail-fast
# A name or a part of it: `make blackbox T=harness`, `make unit T=window`.
T :=
# Of the simulation: how many seeds, or the one whose trace is wanted.
SEEDS :=
SEED :=

.PHONY: help
help: ## This list
	@sed -n 's/^\([a-z-]*\):.*## \(.*\)/  make \1	\2/p' $(MAKEFILE_LIST) | expand -t 24

.PHONY: demo
demo: ## A throwaway Postgres and Kafka with the relay between them; Ctrl-C ends it
	@scripts/setup.sh demo
	@cargo run --release --locked -p walpost -- demo

.PHONY: test
test: setup fmt lint doc deny mutants-apply unit blackbox fuzz-build ## Everything that CI runs

.PHONY: setup
setup: ## Installs what the tests need and the machine lacks
	@$(STEP) setup $(MAKE) --no-print-directory .setup

.PHONY: .setup
.setup:
	@scripts/setup.sh test
	@scripts/kafka-jars.sh
	@scripts/postgres-major.sh 18

.PHONY: fmt
fmt: ## Formatting, checked only (cargo fmt --all writes it)
	@$(STEP) fmt cargo fmt --all -- --check

.PHONY: lint
lint: ## Clippy, warnings are errors
	@$(STEP) lint cargo clippy $(CARGO_FLAGS) -q --workspace --all-targets -- -D warnings

.PHONY: doc
doc: ## The documentation builds and its links resolve
	@RUSTDOCFLAGS="-D warnings" $(STEP) doc \
		cargo doc $(CARGO_FLAGS) -q --workspace --no-deps

.PHONY: deny
deny: ## Licences, banned crates and sources of all dependencies
	@$(STEP) deny "$$(scripts/cargo-deny.sh)" --log-level error --locked \
		check --hide-inclusion-graph bans licenses sources

.PHONY: unit
unit: ## Tests of the crates, simulation included
	@$(STEP) unit cargo test $(CARGO_FLAGS) --workspace --exclude walpost-tests \
		$(TEST_FLAGS) -- $(T)

.PHONY: sim
sim: ## Only the simulation of the core: SEEDS=1000000 for a night, SEED=17 for a trace of one
	@$(STEP) sim env $(addprefix WALPOST_SIM_SEEDS=,$(SEEDS)) $(addprefix WALPOST_SIM_SEED=,$(SEED)) \
		cargo test $(CARGO_FLAGS) -p walpost-core --test sim $(TEST_FLAGS) -- --nocapture $(T)

.PHONY: mutants
mutants: ## Plants one bug after the other and looks whether the tests find it: T=, SEEDS=
	@$(STEP) mutants env $(addprefix SEEDS=,$(SEEDS)) scripts/mutants.sh $(T)

.PHONY: mutants-apply
mutants-apply: ## Each of these bugs can still be planted
	@$(STEP) mutants-apply scripts/mutants.sh --check

.PHONY: survivors
survivors: ## Changes the core in one place after the other and lists what no test sees: T=window.rs
	@$(STEP) survivors env $(addprefix SEEDS=,$(SEEDS)) scripts/survivors.sh $(T)

.PHONY: blackbox
# They mostly wait for servers, so more of them run at once than there are cores.
blackbox: export RUST_TEST_THREADS ?= 4
blackbox: ## The real binary against real Postgres and real Kafka
	@$(STEP) build cargo build $(CARGO_FLAGS) -q -p walpost -p walpost-witness
	@$(STEP) blackbox cargo test $(CARGO_FLAGS) -p walpost-tests $(TEST_FLAGS) -- $(T)

# Of `make chaos`: how many runs, the first one's seed, the seconds of each, how many at a time.
RUNS :=
SEED :=
DURATION :=
JOBS :=
# Anything: also a run in which nothing is wrong leaves its timeline, logs and data behind.
KEEP :=

.PHONY: chaos
chaos: ## Long runs of faults of everything, on the release binary: RUNS=20 SEED=7 DURATION=60
	@$(STEP) build cargo build --release --locked -q -p walpost
	@WALPOST_TEST_BIN="$$(realpath "$${CARGO_TARGET_DIR:-target}")/release/walpost" \
		WALPOST_TEST_SCALE=full WALPOST_CHAOS_RUNS=$(RUNS) WALPOST_CHAOS_SEED=$(SEED) \
		WALPOST_CHAOS_SECONDS=$(DURATION) WALPOST_CHAOS_JOBS=$(JOBS) \
		WALPOST_CHAOS_KEEP=$(KEEP) \
		$(STEP) chaos cargo test $(CARGO_FLAGS) -q -p walpost-tests --test chaos -- --nocapture

.PHONY: fuzz-build
fuzz-build: ## The fuzz targets compile; only checked without a nightly cargo-fuzz
	@$(STEP) fuzz-build scripts/fuzz-build.sh

.PHONY: clean
clean: ## Removes everything that was built or fetched
	@cargo clean
	@rm -rf .cache
