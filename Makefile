# Each target does its own set-up: a fresh clone needs Python >= 3.11, make and a package index, nothing else.
PYTHON ?= python3
JOBS ?= 4
CONFIG ?= config.yaml

VENV := .venv
BIN := $(VENV)/bin
READY := $(VENV)/.ready
CLIENTS := $(VENV)/.clients
FUZZ := $(VENV)/.fuzz
PIP := $(BIN)/python -m pip -qq --disable-pip-version-check
PYTEST := $(BIN)/python -m pytest
say = @printf '==> %-13s %s\n'

export PYTHONUTF8 := 1

.DEFAULT_GOAL := help
.DELETE_ON_ERROR:
.PHONY: help demo serve test lint types unit test-clients bench guard torture fuzz format wheel lock clean

help:  ## this list
	@awk -F ':.*## ' '/^[a-z-]+:.*## / {printf "  make %-13s %s\n", $$1, $$2}' Makefile

demo: $(READY)  ## a legacy origin with a video, the adapter before it, a page that shows both
	@exec $(BIN)/range-adapter demo

serve: $(READY)  ## run the adapter with config.yaml (or CONFIG=file)
	@exec $(BIN)/range-adapter serve $(CONFIG)

# The test run is this target's own recipe, so that its summary is the last line, with `make -j` too.
test: lint types  ## lint, types and all tests that need no foreign programs
	$(say) test 'everything but the real clients'
	@$(PYTEST) -m 'not clients' -n $(JOBS) -q

lint: $(READY)  ## ruff: rules and format
	$(say) lint 'ruff check, ruff format'
	@$(BIN)/ruff check --quiet --output-format concise .
	@$(BIN)/ruff format --check --quiet . || { echo 'not formatted; `make format` does it:'; $(BIN)/ruff format --check .; }

types: $(READY)  ## mypy, strict
	$(say) types 'mypy --strict'
	@$(BIN)/mypy --no-error-summary

unit: $(READY)  ## the pure core alone, in seconds
	$(say) unit 'tests/semantics'
	@$(PYTEST) -q tests/semantics

test-clients: $(CLIENTS)  ## real clients: curl, wget, aria2, ffmpeg, zsync, chromium, nginx; skips those that are missing
	$(say) test-clients 'real clients, and the tools that judge deploy/'
	@$(PYTEST) -m clients -q

bench: $(READY)  ## what it costs on this machine, beside nginx and Varnish where they are installed; a quarter of an hour
	@$(BIN)/python -m tests.bench

guard: $(READY)  ## whether a warm request takes more instructions than it may; needs valgrind
	$(say) guard 'instructions of a warm request, by callgrind'
	@$(BIN)/python -m tests.bench guard

torture: $(READY)  ## kill it, starve it, lie to it, for some minutes: no client may get a wrong byte
	@$(BIN)/python -m tests.torture

fuzz: $(FUZZ)  ## a fuzzer (atheris) over everything that is parsed, a minute for each target
	@$(BIN)/python -m tests.fuzz

format: $(READY)  ## rewrite the sources in house format
	@$(BIN)/ruff check --quiet --fix-only . && $(BIN)/ruff format --quiet .

wheel: $(READY)  ## dist/*.whl, to install elsewhere
	$(say) wheel 'dist/'
	@$(BIN)/python -m hatchling build --target wheel

# The first lock decides; the others take its versions, so that what is deployed is what was tested.
COMPILE = $(BIN)/uv pip compile --quiet --universal --python-version 3.11 --generate-hashes --no-annotate \
	--no-emit-index-url --no-emit-find-links --custom-compile-command 'make lock'
lock: $(READY)  ## renew the locks: newest versions that pyproject.toml allows
	$(say) lock 'tests/requirements.lock and those that follow it'
	@$(COMPILE) --upgrade pyproject.toml --group dev -o tests/requirements.lock
	@$(COMPILE) --upgrade -c tests/requirements.lock --group clients --group deploy -o tests/clients/requirements.lock
	@$(COMPILE) --upgrade -c tests/requirements.lock --group fuzz -o tests/fuzz/requirements.lock
	@$(COMPILE) --upgrade -c tests/requirements.lock pyproject.toml -o deploy/requirements.lock
	@$(COMPILE) --upgrade -c tests/requirements.lock --group build -o deploy/build.lock

clean:  ## remove the environment and everything that was built
	@rm -rf $(VENV) build dist .artifacts .hypothesis .mypy_cache .pytest_cache .ruff_cache *.egg-info
	@find proxy tests -name __pycache__ -type d -prune -exec rm -rf {} +

$(READY): tests/requirements.lock pyproject.toml
	@command -v $(PYTHON) >/dev/null || { echo "There is no '$(PYTHON)'. Name another: make PYTHON=python3.12 ..." >&2; exit 1; }
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11))' || { \
	  echo "Python 3.11 or later is needed; '$(PYTHON)' is $$($(PYTHON) --version 2>&1). Name another: make PYTHON=python3.12 ..."; \
	  exit 1; } >&2
	@$(PYTHON) -c 'import ensurepip, venv' 2>/dev/null || { \
	  echo "'$(PYTHON)' cannot make virtual environments (on Debian and Ubuntu: apt install python3-venv)."; \
	  exit 1; } >&2
	$(say) environment '$(VENV), from tests/requirements.lock'
	@$(PYTHON) -m venv $(VENV)
	@$(PIP) install --require-hashes -r tests/requirements.lock
	@$(PIP) install --no-deps --no-build-isolation -e .
	@touch $@

$(CLIENTS): tests/clients/requirements.lock $(READY)
	$(say) environment '$(VENV), with tests/clients/requirements.lock'
	@$(PIP) install --require-hashes -r $<
	@touch $@

$(FUZZ): tests/fuzz/requirements.lock $(READY)
	$(say) environment '$(VENV), with tests/fuzz/requirements.lock'
	@$(PIP) install --require-hashes -r $< || echo 'The fuzzer cannot be installed here.'
	@touch $@
