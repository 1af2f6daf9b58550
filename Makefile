# Semi-MoE: `make demo` sets everything up and shows it at work; `make help` lists the rest.
# Needs make and Python 3.10 or newer, nothing else. Settings: VENV, PYTHON, PIP_FLAGS, PYTEST_FLAGS.

PYTHON ?= python3
VENV ?= .venv
PIP_FLAGS ?=
PYTEST_FLAGS ?=

PINS := scripts/requirements.txt
# A process a core, each with files of its own; PYTEST_FLAGS="-n 0" runs all in one, for a debugger.
PARALLEL := --numprocesses auto --maxprocesses 8 --dist loadfile
STAMP := $(VENV)/.installed
RUN := $(VENV)/bin/python

.DEFAULT_GOAL := help
.PHONY: help install demo test test-slow lint check benchmark-targets clean

help: ## list the targets
	@echo "usage: make TARGET [VENV=folder] [PYTHON=python3.12] [PIP_FLAGS=...] [PYTEST_FLAGS=...]"
	@awk -F ':.*## ' '/^[a-z-]+:.*## /{printf "  %-18s %s\n", $$1, $$2}' $(firstword $(MAKEFILE_LIST))

install: $(STAMP) ## make the environment with the pinned versions, once

$(STAMP): $(PINS)
	@command -v $(PYTHON) >/dev/null || { echo "make: $(PYTHON) is not there; install Python 3.10 or newer, or set PYTHON=..." >&2; exit 1; }
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 10))' || { \
		echo "make: $(PYTHON) is older than Python 3.10; set PYTHON=python3.11, for example" >&2; exit 1; }
	@$(RUN) -m pip --version >/dev/null 2>&1 || $(PYTHON) -m venv $(VENV) || { \
		echo "make: $(PYTHON) cannot make an environment in $(VENV)." >&2; \
		echo "      On Debian and Ubuntu: sudo apt-get install python3-venv, then the same make again." >&2; exit 1; }
	$(RUN) -m pip install --disable-pip-version-check $(PIP_FLAGS) --requirement $(PINS)
	@touch $@

demo: install ## train with a tenth of the labels, evaluate, infer, show a table and a picture (10 minutes on 2 cores)
	$(RUN) scripts/demo.py

test: install ## run the tests
	$(RUN) -m pytest $(PARALLEL) $(PYTEST_FLAGS)

test-slow: install ## run the slow tests too
	$(RUN) -m pytest $(PARALLEL) -m "slow or not slow" $(PYTEST_FLAGS)

lint: install ## check style, format and types
	$(RUN) -m ruff check .
	$(RUN) -m ruff format --check .
	$(RUN) -m mypy

check: lint test ## lint, then test

benchmark-targets: install ## time the signed distance and boundary targets on one core
	$(RUN) scripts/benchmark_targets.py

clean: ## remove the environment .venv and all caches; data, models and results stay
	rm -rf .venv .mypy_cache .pytest_cache .ruff_cache build semi_moe.egg-info
	find . -name .git -prune -o -type d -name __pycache__ -prune -exec rm -rf {} +
