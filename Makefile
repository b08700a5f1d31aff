# ppolab: `make help` lists every target.
PYTHON ?= python3
VENV ?= .venv
BIN := $(VENV)/bin
ARGS ?=
STAMP := $(VENV)/.installed
DEV_STAMP := $(VENV)/.installed-dev
PYTEST := $(BIN)/python -m pytest

.DEFAULT_GOAL := help
.PHONY: help setup setup-dev train test coverage test-commands test-system test-all test-slow test-browser lint format types check \
	docs docs-serve bench time-to-return scaling profile learning report ui clean

help: ## list the targets
	@grep -E '^[a-z-]+:.*## ' $(MAKEFILE_LIST) | awk -F ':.*## ' '{printf "  make %-15s %s\n", $$1, $$2}'

$(BIN)/python:
	$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11) and "ppolab needs Python 3.11 or newer; set PYTHON=python3.x")'
	$(PYTHON) -m venv $(VENV)

$(STAMP): pyproject.toml constraints.txt | $(BIN)/python
	$(BIN)/pip install --quiet --disable-pip-version-check --constraint constraints.txt --editable .
	touch $(STAMP)

$(DEV_STAMP): pyproject.toml constraints.txt | $(BIN)/python
	$(BIN)/pip install --quiet --disable-pip-version-check --constraint constraints.txt --editable '.[dev]'
	touch $(STAMP) $(DEV_STAMP)

setup: $(STAMP) ## create .venv and install what training, sweeps and reports need
setup-dev: $(DEV_STAMP) ## the same, and what tests, types, lint and benchmarks need

train: $(STAMP) ## train; ARGS="env=cartpole seed=3" is passed on
	$(BIN)/python src/train.py $(ARGS)
	@echo "compare runs  make ui"

test: $(DEV_STAMP) ## the fast tiers (unit and smoke), at most 5 minutes; ARGS is passed to pytest
	$(PYTEST) tests/unit tests/smoke -m 'not slow' -n 2 $(ARGS)

coverage: $(DEV_STAMP) ## the same, and which lines they run
	$(PYTEST) tests/unit tests/smoke -m 'not slow' -n 2 --cov --cov-report=term:skip-covered $(ARGS)

test-commands: $(DEV_STAMP) ## the real commands, about 10 minutes
	$(PYTEST) tests/commands -m 'not slow' -n 2 $(ARGS)

test-system: $(DEV_STAMP) ## ranks, servers, disks, learning, packaging, about 15 minutes
	$(PYTEST) tests/system -m 'not slow and not browser' -n 2 $(ARGS)

test-all: test ## all tiers, which is what CI runs
	$(PYTEST) tests/commands tests/system -m 'not slow and not browser' -n 2 $(ARGS)

test-slow: $(DEV_STAMP) ## the tests that take minutes each
	$(PYTEST) tests -m slow $(ARGS)

test-browser: $(DEV_STAMP) ## a study in MLflow's own pages; needs chromium and its driver (apt-get install chromium chromium-driver)
	$(PYTEST) tests/system -m browser $(ARGS)

lint: $(DEV_STAMP) ## ruff: rules and formatting
	$(BIN)/ruff check src tests benchmarks docs
	$(BIN)/ruff format --check src tests benchmarks docs

format: $(DEV_STAMP) ## let ruff rewrite what it can
	$(BIN)/ruff check --fix src tests benchmarks docs
	$(BIN)/ruff format src tests benchmarks docs

types: $(DEV_STAMP) ## mypy --strict
	$(BIN)/mypy

check: lint types ## lint and types

docs: $(DEV_STAMP) ## the documentation as a site, in outputs/site; any warning, such as a dead link, is an error
	NO_MKDOCS_2_WARNING=1 $(BIN)/mkdocs build

docs-serve: $(DEV_STAMP) ## the same on 127.0.0.1:8000, rebuilt at every change
	NO_MKDOCS_2_WARNING=1 $(BIN)/mkdocs serve

bench: $(DEV_STAMP) ## speed against stable-baselines3, sheeprl and the simulator (about an hour; ARGS="--env Hopper-v5" a quarter)
	$(BIN)/python benchmarks/throughput.py --csv docs/results/throughput.csv --report docs/results/throughput.md $(ARGS)

time-to-return: $(DEV_STAMP) ## wall clock to a return, against stable-baselines3; continues where it stopped (two to four hours)
	$(BIN)/python benchmarks/time_to_return.py run --jobs 2 $(ARGS)
	$(BIN)/python benchmarks/time_to_return.py report

scaling: $(DEV_STAMP) ## speed and memory over environments, width, minibatch, runs side by side (about an hour)
	$(BIN)/python benchmarks/scaling.py envs width minibatch pair memory report $(ARGS)

profile: $(DEV_STAMP) ## where the time of an iteration goes (two minutes); ARGS="--env Ant-v5"
	$(BIN)/python benchmarks/profile.py target_kl=null $(ARGS)

learning: $(DEV_STAMP) ## returns over seeds; continues where it stopped (about an hour)
	$(BIN)/python benchmarks/learning.py run $(ARGS)
	$(BIN)/python benchmarks/learning.py report

report: $(STAMP) ## tables and plots over the runs of the store; ARGS="experiment=ppolab"
	$(BIN)/python src/report.py $(ARGS)

ui: $(STAMP) ## MLflow UI on 127.0.0.1:5000 over the local store
	$(BIN)/python -m ppolab.records.tracking.ui

clean: ## remove the virtual environment and caches; outputs/ stays
	rm -rf $(VENV) .pytest_cache .mypy_cache .ruff_cache .hypothesis .coverage
