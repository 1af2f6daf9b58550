# Semi-MoE: `make demo` installs everything and runs the demo; `make help` lists all targets.
# Requires make and Python 3.10 or newer. Settings: VENV, LABEL_VENV, FORMATS_VENV, CLUSTER_VENV,
# PYTHON, PIP_FLAGS, PYTEST_FLAGS.

PYTHON ?= python3
VENV ?= .venv
LABEL_VENV ?= .venv-label
FORMATS_VENV ?= .venv-formats
CLUSTER_VENV ?= .venv-cluster
PIP_FLAGS ?=
PYTEST_FLAGS ?=

PINS := scripts/requirements.txt
# One process per core; each test file runs in a single process. PYTEST_FLAGS="-n 0" uses one process, for a debugger.
PARALLEL := --numprocesses auto --maxprocesses 8 --dist loadfile --no-loadscope-reorder
# One thread per process; more would compete for the cores.
ONE_THREAD := OMP_NUM_THREADS=1
# Counts of the campaign of faults, one JSON object a line.
FAULT_COUNTS := $(CURDIR)/output/fault_counts.jsonl
STAMP := $(VENV)/.installed
RUN := $(VENV)/bin/python

# MONAI Label has a separate environment; the packages of the second list are installed without their dependencies.
LABEL_PINS := scripts/label_app/requirements.txt
LABEL_NO_DEPS := scripts/label_app/requirements-no-deps.txt
LABEL_STAMP := $(LABEL_VENV)/.installed
LABEL_RUN := $(LABEL_VENV)/bin/python

# Libraries of the formats of scripts/export_bundle.py: an environment of these alone, which also imports those of VENV.
FORMATS_PINS := scripts/requirements-formats.txt
FORMATS_STAMP := $(FORMATS_VENV)/.installed
FORMATS_RUN := $(FORMATS_VENV)/bin/python

# Ray, for --engine ray of scripts/benchmark.py and of slides: an environment of the same kind.
CLUSTER_PINS := scripts/requirements-cluster.txt
CLUSTER_STAMP := $(CLUSTER_VENV)/.installed
CLUSTER_RUN := $(CLUSTER_VENV)/bin/python
SITE_PACKAGES := -c 'import sysconfig; print(sysconfig.get_path("purelib"))'
PIP_INSTALL := -m pip install --disable-pip-version-check

# Create an empty environment in the folder $(1), if there is none, with Python 3.$(2) or newer.
define environment
	@command -v $(PYTHON) >/dev/null || { echo "make: $(PYTHON) was not found; install Python 3.$(2) or newer, or set PYTHON=..." >&2; exit 1; }
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, $(2)))' || { \
		echo "make: $(PYTHON) is older than Python 3.$(2); set PYTHON=python3.11, for example" >&2; exit 1; }
	@$(1)/bin/python -m pip --version >/dev/null 2>&1 || $(PYTHON) -m venv $(1) || { \
		echo "make: $(PYTHON) cannot create an environment in $(1)." >&2; \
		echo "      On Debian and Ubuntu: sudo apt-get install python3-venv, then run make again." >&2; exit 1; }
endef

# Create an environment in the folder $(1) with the pins $(2) alone, which also imports what is in VENV.
define environment_beside
	$(RUN) -m venv $(1)
	$(RUN) $(SITE_PACKAGES) > "$$($(1)/bin/python $(SITE_PACKAGES))/project.pth"
	$(1)/bin/python $(PIP_INSTALL) --no-deps $(PIP_FLAGS) --requirement $(2)
endef

.DEFAULT_GOAL := help
.PHONY: help install demo test test-slow test-cuda test-faults lint check label-install label label-page test-label formats-install test-formats cluster-install test-cluster benchmark-targets clean

help: ## list the targets
	@echo "usage: make TARGET [VENV=folder] [LABEL_VENV=folder] [PYTHON=python3.12] [PIP_FLAGS=...] [PYTEST_FLAGS=...]"
	@awk -F ':.*## ' '/^[a-z-]+:.*## /{printf "  %-18s %s\n", $$1, $$2}' $(firstword $(MAKEFILE_LIST))

install: $(STAMP) ## create the environment with the pinned versions

$(STAMP): $(PINS)
	$(call environment,$(VENV),10)
	$(RUN) $(PIP_INSTALL) $(PIP_FLAGS) --requirement $(PINS)
	@touch $@

demo: install ## train with 10 % of the labels; writes a table, a figure and a report (about 10 minutes on 2 cores)
	$(RUN) scripts/demo.py

test: install ## run the tests
	$(ONE_THREAD) $(RUN) -m pytest $(PARALLEL) $(PYTEST_FLAGS)

test-slow: install ## run all tests, including the slow ones
	$(ONE_THREAD) $(RUN) -m pytest $(PARALLEL) -m "slow or not slow" $(PYTEST_FLAGS)

test-cuda: install ## run the tests that need a GPU, and measure the training step on it
	$(RUN) -m pytest -m cuda $(PYTEST_FLAGS) tests/test_cuda.py
	$(RUN) scripts/benchmark_speed.py --steps 20 --output output/speed.json

test-faults: install label-install ## run the fault-injection tests (about ten minutes; docs/reliability.md)
	@mkdir -p output
	@rm -f $(FAULT_COUNTS)
	ended=0; \
	$(ONE_THREAD) FAULT_COUNTS=$(FAULT_COUNTS) $(RUN) -m pytest $(PARALLEL) -m slow $(PYTEST_FLAGS) tests/faults || ended=1; \
	$(ONE_THREAD) FAULT_COUNTS=$(FAULT_COUNTS) $(LABEL_RUN) -m pytest -m slow $(PYTEST_FLAGS) \
		tests/label_app/test_faults.py tests/label_app/test_server.py || ended=1; \
	exit $$ended
	@echo "counts: $(FAULT_COUNTS); scripts/dev/list_faults.py --counts writes them to docs/reliability.md"

lint: install ## check style, format and types
	$(RUN) -m ruff check .
	$(RUN) -m ruff format --check .
	$(RUN) -m mypy

check: lint test ## lint, then test

label-install: $(LABEL_STAMP) ## create the environment of MONAI Label (Python 3.11 or newer)

# The list is made for Python 3.11. pip would warn of known conflicts, which the second list explains.
$(LABEL_STAMP): $(LABEL_PINS) $(LABEL_NO_DEPS) $(PINS)
	$(call environment,$(LABEL_VENV),11)
	$(LABEL_RUN) $(PIP_INSTALL) --no-warn-conflicts $(PIP_FLAGS) --requirement $(LABEL_PINS)
	$(LABEL_RUN) $(PIP_INSTALL) --no-deps $(PIP_FLAGS) --requirement $(LABEL_NO_DEPS)
	@touch $@

label: label-install ## label synthetic tiles in the browser; serves on localhost until Ctrl-C (docs/monai_label.md)
	$(LABEL_RUN) scripts/label_app/start.py --studies output/label --embedded --open

label-page: ## build the labeling page from its sources; requires Node 20 or newer (the build is committed)
	cd scripts/label_app/page && npm ci --ignore-scripts && npm run build

test-label: label-install ## run the tests that require MONAI Label
	$(ONE_THREAD) $(LABEL_RUN) -m pytest $(PARALLEL) $(PYTEST_FLAGS) tests/label_app

formats-install: $(FORMATS_STAMP) ## create the environment of bioimage.io, DICOM and Hugging Face (Python 3.11 or newer)

$(FORMATS_STAMP): $(FORMATS_PINS) $(STAMP)
	$(call environment_beside,$(FORMATS_VENV),$(FORMATS_PINS))
	@touch $@

test-formats: formats-install ## run the tests of exports to bioimage.io, DICOM and Hugging Face
	$(ONE_THREAD) $(FORMATS_RUN) -m pytest $(PYTEST_FLAGS) tests/scripts/test_export_formats.py \
		tests/scripts/test_export_dicom_seg.py

cluster-install: $(CLUSTER_STAMP) ## create the environment of Ray (Python 3.11 or newer; docs/performance.md)

$(CLUSTER_STAMP): $(CLUSTER_PINS) $(STAMP)
	$(call environment_beside,$(CLUSTER_VENV),$(CLUSTER_PINS))
	@touch $@

test-cluster: cluster-install ## run the tests of benchmark and slides on a Ray cluster (a few minutes)
	$(ONE_THREAD) $(CLUSTER_RUN) -m pytest -m slow $(PYTEST_FLAGS) tests/scripts/test_benchmark.py tests/test_inference.py

benchmark-targets: install ## time the signed distance and boundary targets on one CPU core
	$(RUN) scripts/dev/benchmark_targets.py

clean: ## remove the environments (.venv, .venv-label, .venv-formats, .venv-cluster) and all caches; keep data, models and results
	rm -rf .venv .venv-label .venv-formats .venv-cluster .mypy_cache .pytest_cache .ruff_cache build semi_moe.egg-info
	find . -name .git -prune -o -type d -name __pycache__ -prune -exec rm -rf {} +
