# ppolab: `make help` lists every target.
PYTHON ?= python3
VENV ?= .venv
BIN := $(VENV)/bin
ARGS ?=
STAMP := $(VENV)/.installed

.DEFAULT_GOAL := help
.PHONY: help setup train test test-slow test-browser lint format types check bench time-to-return scaling profile learning report ui clean

help: ## list the targets
	@grep -E '^[a-z-]+:.*## ' $(MAKEFILE_LIST) | awk -F ':.*## ' '{printf "  make %-15s %s\n", $$1, $$2}'

$(STAMP): pyproject.toml constraints.txt
	$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11) and "ppolab needs Python 3.11 or newer; set PYTHON=python3.x")'
	$(PYTHON) -m venv $(VENV)
	$(BIN)/pip install --quiet --disable-pip-version-check --constraint constraints.txt --editable '.[dev]'
	touch $(STAMP)

setup: $(STAMP) ## create .venv and install the pinned set

train: $(STAMP) ## train; ARGS="env=cartpole seed=3" is passed on
	$(BIN)/python src/train.py $(ARGS)
	@echo "compare runs  make ui"

test: $(STAMP) ## all tests but the slow and the browser's, with coverage; ARGS is passed to pytest
	$(BIN)/python -m pytest -m 'not slow and not browser' -n 2 --dist loadfile --cov --cov-report=term:skip-covered $(ARGS)

test-slow: $(STAMP) ## the tests that take minutes
	$(BIN)/python -m pytest -m slow $(ARGS)

test-browser: $(STAMP) ## a study in MLflow's own pages; needs chromium and its driver (apt-get install chromium chromium-driver)
	$(BIN)/python -m pytest -m browser $(ARGS)

lint: $(STAMP) ## ruff: rules and formatting
	$(BIN)/ruff check src tests benchmarks
	$(BIN)/ruff format --check src tests benchmarks

format: $(STAMP) ## let ruff rewrite what it can
	$(BIN)/ruff check --fix src tests benchmarks
	$(BIN)/ruff format src tests benchmarks

types: $(STAMP) ## mypy --strict
	$(BIN)/mypy

check: lint types test ## everything CI runs

bench: $(STAMP) ## speed against stable-baselines3, sheeprl and the simulator (about an hour; ARGS="--env Hopper-v5" a quarter)
	$(BIN)/python benchmarks/throughput.py --csv docs/results/throughput.csv --report docs/results/throughput.md $(ARGS)

time-to-return: $(STAMP) ## wall clock to a return, against stable-baselines3; continues where it stopped (two to four hours)
	$(BIN)/python benchmarks/time_to_return.py run --jobs 2 $(ARGS)
	$(BIN)/python benchmarks/time_to_return.py report

scaling: $(STAMP) ## speed and memory over environments, width, minibatch, runs side by side (about an hour)
	$(BIN)/python benchmarks/scaling.py envs width minibatch pair memory report $(ARGS)

profile: $(STAMP) ## where the time of an iteration goes (two minutes); ARGS="--env Ant-v5"
	$(BIN)/python benchmarks/profile.py target_kl=null $(ARGS)

learning: $(STAMP) ## returns over seeds; continues where it stopped (about an hour)
	$(BIN)/python benchmarks/learning.py run $(ARGS)
	$(BIN)/python benchmarks/learning.py report

report: $(STAMP) ## tables and plots over the runs of the store; ARGS="experiment=ppolab"
	$(BIN)/python src/report.py $(ARGS)

ui: $(STAMP) ## MLflow UI on 127.0.0.1:5000 over the local store
	@echo "open  http://127.0.0.1:5000/#/experiments/1/runs?workflowType=machine_learning"
	$(BIN)/mlflow ui --backend-store-uri sqlite:///$(CURDIR)/outputs/mlflow.db --host 127.0.0.1 --port 5000

clean: ## remove the virtual environment and caches; outputs/ stays
	rm -rf $(VENV) .pytest_cache .mypy_cache .ruff_cache .hypothesis .coverage
