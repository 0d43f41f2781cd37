# Set-up, tests and the server, from a fresh checkout: `make run`, `make test`.

PYTHON ?= python3
CARGO ?= cargo
VENV := .venv
BIN := $(VENV)/bin
NOX := $(BIN)/nox --session
PORT ?= 8888
LAB ?=
FUZZ_SECONDS ?= 60
FUZZ_TARGETS ?= v1_decode legacy_decode multipart_split peek_vs_serde frame_reader log_operations
FUZZ_LIMITS := -max_len=8192 -timeout=5 -malloc_limit_mb=64 -rss_limit_mb=1024

SOURCES := $(shell find rust \( -name target -o -name fuzz \) -prune -o \( -name '*.rs' -o -name Cargo.toml \) -print) Cargo.toml Cargo.lock pyproject.toml

# What the benchmarks compare with: the bare relay, and a flooding kernel.
RELAY := benches/relay/target/release/relay
RELAY_SOURCES := $(shell find benches/relay/src rust/core/src rust/zmq/src -name '*.rs') benches/relay/Cargo.toml benches/relay/Cargo.lock

.DEFAULT_GOAL := help
.PHONY: help set-up run test test-slow check format relay bench bench-fast bench-check bench-codec figures docs fuzz jupyverse earlier wheel licences clean prerequisites

help: ## Say what there is
	@sed -n 's/^\([a-z-]*\):.*## \(.*\)/make \1\t\2/p' $(MAKEFILE_LIST) | expand -t 20

prerequisites:
	@command -v $(PYTHON) >/dev/null || { echo "kernelwire needs Python 3.11 or later: $(PYTHON) was not found" >&2; exit 1; }
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11))' || { echo "kernelwire needs Python 3.11 or later; $(PYTHON) is $$($(PYTHON) --version). Use make PYTHON=..." >&2; exit 1; }
	@$(PYTHON) -c 'import ensurepip, venv' 2>/dev/null || { echo "$(PYTHON) cannot make virtual environments: install python3-venv" >&2; exit 1; }
	@command -v $(CARGO) >/dev/null || { echo "kernelwire is built with Rust 1.88 or later: cargo was not found" >&2; exit 1; }

$(BIN)/python: | prerequisites
	$(PYTHON) -m venv $(VENV)
	$(BIN)/python -m pip install --quiet --upgrade pip

# Jupyter refuses root unless it is told that this is meant, as it is in a container.
AS_ROOT := $(if $(filter 0,$(shell id -u)),--allow-root)

# The stamp stands for an environment in which the sources as they are now are built and installed.
$(VENV)/.installed: $(SOURCES) | $(BIN)/python
	$(BIN)/python -m pip install --quiet --editable '.[test,bench,docs,lint]'
	@touch $@

$(VENV)/.lab: $(VENV)/.installed
	$(BIN)/python -m pip install --quiet --editable '.[lab]'
	@touch $@

# The relay is for Linux: it takes pyzmq's libzmq from where /proc says it is.
set-up: $(VENV)/.installed $(if $(filter Linux,$(shell uname)),$(RELAY)) ## Install what the checks of noxfile.py need

run: $(VENV)/.installed $(if $(LAB),$(VENV)/.lab) ## Start a server with kernelwire on (LAB=1: JupyterLab)
	PATH="$(abspath $(BIN)):$$PATH" $(BIN)/jupyter $(if $(LAB),lab,server) --port=$(PORT) $(AS_ROOT) $(ARGS)

test: set-up ## Run the tests of the core and of the package
	$(NOX) core tests -- $(ARGS)

test-slow: set-up ## Run the tests that flood, stall and break servers for minutes
	$(NOX) slow -- $(ARGS)

check: set-up ## Run formatting, lints and types
	$(NOX) lint types

format: $(VENV)/.installed ## Format everything
	$(CARGO) fmt
	cd benches/relay && $(CARGO) fmt
	$(BIN)/ruff format
	$(BIN)/ruff check --fix

relay: $(RELAY) ## Build what the benchmarks compare with

$(RELAY): $(RELAY_SOURCES)
	cd benches/relay && $(CARGO) build --locked --quiet --release
	@touch $@

jupyverse: | prerequisites ## Install jupyverse, for the benchmarks to compare with
	$(PYTHON) -m venv benches/.cache/jupyverse
	benches/.cache/jupyverse/bin/python -m pip install --quiet 'jupyverse[noauth]==0.14.18'

earlier: $(VENV)/.installed ## Install kernelwire of a COMMIT, for the benchmarks to compare with
	@test -n "$(COMMIT)" || { echo "say which: make earlier COMMIT=..." >&2; exit 2; }
	$(BIN)/python -m pip install --quiet --no-deps --upgrade --target benches/.cache/earlier 'git+file://$(CURDIR)@$(COMMIT)'

bench: $(VENV)/.installed $(RELAY) ## Measure against stock, end to end
	$(BIN)/python -m benches.bridge $(ARGS)

bench-fast: set-up ## See that the benchmarks work, in a minute
	$(NOX) bench-fast -- $(ARGS)

bench-codec: $(VENV)/.installed ## Measure the codec and the steps of the hot path
	$(BIN)/python -m benches.codec $(ARGS)

fuzz: ## Fuzz the decoders and the log, each for FUZZ_SECONDS; needs a nightly toolchain
	@$(CARGO) +nightly --version >/dev/null || { echo "make fuzz needs a nightly toolchain: rustup toolchain install nightly" >&2; exit 1; }
	@$(CARGO) fuzz --version >/dev/null 2>&1 || $(CARGO) install cargo-fuzz --locked
	@set -e; for target in $(FUZZ_TARGETS); do \
		mkdir -p rust/fuzz/corpus/$$target; \
		$(CARGO) +nightly fuzz run --fuzz-dir rust/fuzz $$target \
			rust/fuzz/corpus/$$target rust/core/tests/seeds/$$target -- -dict=rust/fuzz/json.dict \
			-max_total_time=$(FUZZ_SECONDS) -print_final_stats=1 $(FUZZ_LIMITS); \
	done

bench-check: set-up ## See that the benchmarks work and that no optimisation is lost
	$(NOX) bench-check -- $(ARGS)

figures: $(VENV)/.installed ## Put the results in benches/results into the README and docs/
	$(BIN)/python -m benches.readme
	$(BIN)/python -m benches.pages

docs: set-up ## Build the documentation into docs/_build/html
	$(NOX) docs

wheel: $(VENV)/.installed ## Build the wheel and the source distribution into dist/
	$(BIN)/maturin build --release --sdist --out dist

licences: | prerequisites ## Write the licences of the crates that the native module is made of
	@$(CARGO) bundle-licenses --version >/dev/null 2>&1 || $(CARGO) install cargo-bundle-licenses --locked
	cd rust/py && $(CARGO) bundle-licenses --format yaml --prefer MIT --previous ../../THIRDPARTY.yml --output ../../THIRDPARTY.yml

clean: ## Remove what was built
	rm -rf $(VENV) .nox target dist build docs/_build docs/_generated benches/relay/target benches/.cache
