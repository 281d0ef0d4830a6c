# `make demo` and `make test` do all the set-up from a bare python3; both can be run again at no cost.

PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
# test processes: one for each core
WORKERS ?= $(shell nproc 2>/dev/null || sysctl -n hw.ncpu 2>/dev/null || echo 1)
PARALLEL := --numprocesses=$(WORKERS) --dist=worksteal
PRESENT := $(VENV)/.present
READY := $(VENV)/.ready

# real data for the tests, where they lie beside the repository; tests that need absent data say so
ifneq ($(wildcard ../shared/data),)
export VAEKIT_DATA ?= $(abspath ../shared/data)
endif

.PHONY: setup demo test test-all lint clean

setup: $(READY)

$(PRESENT): pyproject.toml constraints.txt
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11))' || { echo "vaekit needs Python 3.11 or newer: make PYTHON=python3.12"; exit 1; }
	$(PYTHON) -m venv $(VENV)
	PIP_CONSTRAINT=constraints.txt $(BIN)/python -m pip install --quiet --disable-pip-version-check --editable .
	@touch $(PRESENT)

$(READY): $(PRESENT)
	PIP_CONSTRAINT=constraints.txt $(BIN)/python -m pip install --quiet --disable-pip-version-check --editable '.[dev]'
	@touch $(READY)

demo: $(PRESENT)
	$(BIN)/vaekit train experiment=demo

lint: $(READY)
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy

test: $(READY) lint
	$(BIN)/python -m pytest $(PARALLEL) -m "not slow"

test-all: $(READY) lint
	$(BIN)/python -m pytest $(PARALLEL)

clean:
	rm -rf $(VENV) build dist .mypy_cache .pytest_cache .ruff_cache
