# Everything a newcomer needs: `make demo`, `make test`. Both set up .venv on the first call.

PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
PIP := $(BIN)/python -m pip --disable-pip-version-check install -q -c constraints.txt
TORCH := torch==2.13.0
READY := $(VENV)/.ready
# A process a core, a file at a time; one test that hangs must not take the whole run with it.
PYTEST := $(BIN)/python -m pytest -q -n auto --dist loadfile --timeout=900

.DEFAULT_GOAL := help
.PHONY: help demo test check format clean

help:  ## this list
	@grep -hE '^[a-z]+:.*##' $(MAKEFILE_LIST) | sed -E 's/^([a-z]+):.*## */  make \1\t/'
	@echo '  PYTHON=python3.12 make demo   takes another interpreter (3.11 or newer)'

demo: $(READY)  ## forget one concept with the embedded model, on the CPU, and write the report
	$(BIN)/unsee demo

test: check  ## all checks and all tests
	$(PYTEST)

check: $(READY)  ## lint, formatting and types, without the tests
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy

format: $(READY)  ## let ruff mend what it can
	$(BIN)/ruff check --fix .
	$(BIN)/ruff format .

clean:  ## remove .venv, caches and what builds leave behind
	rm -rf $(VENV) .cache build dist .mypy_cache .pytest_cache .ruff_cache .hypothesis
	find src tests recipes experiments -name __pycache__ -type d -prune -exec rm -rf {} +

# Redone when what is to be installed changes. torch is a step of its own: asked for together with the rest, pip may
# take its newest release, and with it gigabytes of CUDA libraries, where a CPU build is at hand.
$(READY): pyproject.toml constraints.txt
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11) and "unsee needs Python 3.11 or newer; say: make PYTHON=...")'
	$(PYTHON) -m venv $(VENV)
	$(PIP) $(TORCH)
	$(PIP) -e '.[dev]'
	@touch $@
