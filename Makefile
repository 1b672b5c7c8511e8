# make run          set up, start everything, send a demonstration order flow, stay up (TICKS=file: on that recording)
# make test         set up, pass all tests, in WORKERS=2 processes (0: in this one); TESTS=tests/unit, or one test, for some
# make simulate     run SEEDS=1000 simulated days of faults in two processes; SEED=17 runs one again
# make check        format, lint, types, import rule, generated pages
# make bench        benchmarks in small; wojak bench --help has the rest
# make lock         write requirements.lock anew from pyproject.toml
# make docs         write docs/reference anew from the code
# make compile      compile the hot modules ahead of time, beside the checkout's own: .venv/bin/wojak-compiled
# make clean        remove what the targets above made
# No make here? sh cli/bootstrap.sh && .venv/bin/wojak up --flow

SHELL := /bin/sh
BIN := .venv/bin
DATA := $(or $(WOJAK_TEST_DATA),../shared/data)
TICKS ?= $(wildcard $(DATA)/btcusdt_20240808.gz)
TESTS ?=
WORKERS ?= 2
SEEDS ?= 1000
COMPILED := .venv/compiled
SETUP := setup

.PHONY: run test simulate check bench compile lock docs clean setup
.DEFAULT_GOAL := run

setup:
	@PYTHON="$(PYTHON)" sh cli/bootstrap.sh

run: setup
	@exec $(BIN)/wojak up --init --flow $(if $(TICKS),--ticks "$(TICKS)")

test: setup
	$(BIN)/python -m pytest -n $(WORKERS) --dist loadfile $(TESTS)

simulate: $(SETUP)
	@$(BIN)/python -m tests.simulation.run --seeds $(if $(SEED),$(SEED):$$(($(SEED) + 1)),$(SEEDS))

check: setup
	$(BIN)/ruff format --check .
	$(BIN)/ruff check .
	$(BIN)/mypy
	$(BIN)/wojak docs --check
	$(BIN)/python -m pytest tests/test_tidy.py tests/test_docs.py

bench: setup
	$(BIN)/wojak bench

# Needs a C compiler and Python's headers. PYTHONSAFEPATH: the folder it is started in must not come first.
compile: $(SETUP)
	rm -rf build "$(COMPILED)"
	WOJAK_COMPILE=1 $(BIN)/python -m pip install --quiet --disable-pip-version-check --no-index --no-deps \
	  --no-build-isolation --target "$(COMPILED)" .
	rm -rf build
	printf '%s\n' '#!/bin/sh' '# Wojak with its hot modules compiled, made by: make compile' \
	  'exec env PYTHONSAFEPATH=1 PYTHONPATH="$(abspath $(COMPILED))" "$(abspath $(BIN))/python" -m cli.main "$$@"' \
	  > "$(COMPILED)/wojak"
	chmod +x "$(COMPILED)/wojak"
	$(if $(filter .venv/%,$(COMPILED)),ln -sf ../compiled/wojak $(BIN)/wojak-compiled)

lock: setup
	{ printf '# Every package of every extra, held by its hash. Made by: make lock\n'; \
	  $(BIN)/pip-compile --quiet --generate-hashes --no-emit-index-url --no-emit-trusted-host --no-emit-find-links \
	    --no-header --no-annotate --strip-extras --unsafe-package wojak --extra all --extra dev \
	    --output-file - pyproject.toml 2>/dev/null | sed '/^# WARNING: The following/,$$d'; } > requirements.lock.new
	mv requirements.lock.new requirements.lock

docs: setup
	$(BIN)/wojak docs

clean:
	rm -rf .venv .venv.log .mypy_cache .ruff_cache .pytest_cache .hypothesis build dist *.egg-info
