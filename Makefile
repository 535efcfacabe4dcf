# Development entry points; `make help` lists them. None needs root.
# Assumed: make, git, Python >= 3.11. Everything else comes from the package index into $(VENV).

VENV ?= .venv
PYTHON ?= $(shell for python in python3 python3.14 python3.13 python3.12 python3.11 python; do \
	$$python -c 'import sys; sys.exit(sys.version_info < (3, 11))' >/dev/null 2>&1 && echo $$python && break; done)
JOBS ?= 2
# What is installed for development. `EXTRAS=dev,demo,train` brings torch, and with it the tests of training.
EXTRAS ?= dev,demo

BIN := $(VENV)/bin
PIP_INSTALL := $(BIN)/python -m pip install --quiet --disable-pip-version-check --constraint constraints.txt
TYPED_TREE := build/types
comma := ,
DEV := $(VENV)/.stamp-$(subst $(comma),-,$(EXTRAS))

.DEFAULT_GOAL := help
.PHONY: help venv lint types test demo bench clean

help:  ## list the targets
	@grep -E '^[a-z]+:.*## ' $(firstword $(MAKEFILE_LIST)) | sed -E 's/:.*## /\t/' | expand -t 10

venv: $(DEV)  ## make .venv with everything that development needs

lint: $(DEV)  ## ruff: rules and formatting
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .

# passes/ and backends/ are installed below qutec; mypy sees that layout in a tree of links, made anew each time.
types: $(DEV)  ## mypy --strict
	@rm -rf $(TYPED_TREE) && mkdir -p $(TYPED_TREE)/qutec
	@ln -s $(CURDIR)/qutec/* $(CURDIR)/passes $(CURDIR)/backends $(TYPED_TREE)/qutec/
	@ln -s $(CURDIR)/models $(TYPED_TREE)/models
	cd $(TYPED_TREE) && $(abspath $(BIN))/mypy --config-file $(CURDIR)/pyproject.toml \
		--cache-dir $(CURDIR)/.mypy_cache -p qutec -p models

test: lint types  ## lint, types, then the tests
	$(BIN)/python -m pytest -n $(JOBS)

demo: $(VENV)/.stamp-demo  ## compile the demo network; its answers and their uncertainty on an emulated Cortex-M4
	$(BIN)/python -m models.demo

bench: $(DEV)  ## run every script of benchmarks/
	@set -e; for script in benchmarks/[!_]*.py; do \
		test -e "$$script" || { echo "benchmarks/ holds no script" >&2; exit 1; }; \
		module=$$(basename "$$script" .py); \
		echo "$(BIN)/python -m benchmarks.$$module"; $(BIN)/python -m benchmarks.$$module; done

clean:  ## remove what the other targets made
	rm -rf build dist $(VENV) .mypy_cache .pytest_cache .ruff_cache .hypothesis *.egg-info

$(VENV)/bin/python:
	@test -n "$(PYTHON)" || { echo "Python >= 3.11 was not found; name one: make PYTHON=/path/to/python3" >&2; exit 1; }
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11))' 2>/dev/null || \
		{ echo "$(PYTHON) does not run, or is older than Python 3.11" >&2; exit 1; }
	@$(PYTHON) -c 'import ensurepip' || { echo "$(PYTHON) cannot make environments; Debian: apt install python3-venv" >&2; exit 1; }
	$(PYTHON) -m venv $(VENV)

$(DEV): pyproject.toml constraints.txt | $(VENV)/bin/python
	$(PIP_INSTALL) --editable '.[$(EXTRAS)]'
	@touch $@

$(VENV)/.stamp-demo: pyproject.toml constraints.txt | $(VENV)/bin/python
	$(PIP_INSTALL) --editable '.[demo]'
	@touch $@
