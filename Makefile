# Semi-MoE: `make demo` sets everything up and shows it at work; `make help` lists the rest.
# Needs make and Python 3.10 or newer, nothing else. Settings: VENV, LABEL_VENV, PYTHON, PIP_FLAGS, PYTEST_FLAGS.

PYTHON ?= python3
VENV ?= .venv
LABEL_VENV ?= .venv-label
PIP_FLAGS ?=
PYTEST_FLAGS ?=

PINS := scripts/requirements.txt
# A process a core, each with files of its own; PYTEST_FLAGS="-n 0" runs all in one, for a debugger.
PARALLEL := --numprocesses auto --maxprocesses 8 --dist loadfile --no-loadscope-reorder
# One thread each: more would wait for each other on the cores.
ALONE := OMP_NUM_THREADS=1
STAMP := $(VENV)/.installed
RUN := $(VENV)/bin/python

# MONAI Label in an environment of its own; the second list is installed without what it asks for.
LABEL_PINS := scripts/label_app/requirements.txt
LABEL_ALONE := scripts/label_app/requirements-no-deps.txt
LABEL_STAMP := $(LABEL_VENV)/.installed
LABEL_RUN := $(LABEL_VENV)/bin/python
PIP_INSTALL := -m pip install --disable-pip-version-check

# An empty environment in the folder $(1), unless one stands there, for Python 3.$(2) or newer.
define environment
	@command -v $(PYTHON) >/dev/null || { echo "make: $(PYTHON) is not there; install Python 3.$(2) or newer, or set PYTHON=..." >&2; exit 1; }
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, $(2)))' || { \
		echo "make: $(PYTHON) is older than Python 3.$(2); set PYTHON=python3.11, for example" >&2; exit 1; }
	@$(1)/bin/python -m pip --version >/dev/null 2>&1 || $(PYTHON) -m venv $(1) || { \
		echo "make: $(PYTHON) cannot make an environment in $(1)." >&2; \
		echo "      On Debian and Ubuntu: sudo apt-get install python3-venv, then the same make again." >&2; exit 1; }
endef

.DEFAULT_GOAL := help
.PHONY: help install demo test test-slow lint check label-install label test-label benchmark-targets clean

help: ## list the targets
	@echo "usage: make TARGET [VENV=folder] [LABEL_VENV=folder] [PYTHON=python3.12] [PIP_FLAGS=...] [PYTEST_FLAGS=...]"
	@awk -F ':.*## ' '/^[a-z-]+:.*## /{printf "  %-18s %s\n", $$1, $$2}' $(firstword $(MAKEFILE_LIST))

install: $(STAMP) ## make the environment with the pinned versions, once

$(STAMP): $(PINS)
	$(call environment,$(VENV),10)
	$(RUN) $(PIP_INSTALL) $(PIP_FLAGS) --requirement $(PINS)
	@touch $@

demo: install ## train with a tenth of the labels; ends with a table, a picture and a report (10 to 15 minutes on 2 cores)
	$(RUN) scripts/demo.py

test: install ## run the tests
	$(ALONE) $(RUN) -m pytest $(PARALLEL) $(PYTEST_FLAGS)

test-slow: install ## run the slow tests too
	$(ALONE) $(RUN) -m pytest $(PARALLEL) -m "slow or not slow" $(PYTEST_FLAGS)

lint: install ## check style, format and types
	$(RUN) -m ruff check .
	$(RUN) -m ruff format --check .
	$(RUN) -m mypy

check: lint test ## lint, then test

label-install: $(LABEL_STAMP) ## make the environment of MONAI Label, once (Python 3.11 or newer)

# Python 3.11, for which the list is made. pip would name conflicts that are known: the second list says which.
$(LABEL_STAMP): $(LABEL_PINS) $(LABEL_ALONE) $(PINS)
	$(call environment,$(LABEL_VENV),11)
	$(LABEL_RUN) $(PIP_INSTALL) --no-warn-conflicts $(PIP_FLAGS) --requirement $(LABEL_PINS)
	$(LABEL_RUN) $(PIP_INSTALL) --no-deps $(PIP_FLAGS) --requirement $(LABEL_ALONE)
	@touch $@

label: label-install ## serve embedded tiles with MONAI Label on this machine alone, until Ctrl-C (docs/monai_label.md)
	$(LABEL_RUN) scripts/label_app/start.py --studies output/label --embedded

test-label: label-install ## run the tests that need MONAI Label
	$(ALONE) $(LABEL_RUN) -m pytest $(PARALLEL) $(PYTEST_FLAGS) tests/label_app

benchmark-targets: install ## time the signed distance and boundary targets on one core
	$(RUN) scripts/benchmark_targets.py

clean: ## remove the environments .venv and .venv-label and all caches; data, models and results stay
	rm -rf .venv .venv-label .mypy_cache .pytest_cache .ruff_cache build semi_moe.egg-info
	find . -name .git -prune -o -type d -name __pycache__ -prune -exec rm -rf {} +
