#!/usr/bin/env bash
# MLflow's storage for Optuna lists trials newest first, and at most 1000: CMA-ES stands still, and a best trial is forgotten.
#
# Versions: mlflow 3.17.2, optuna 5.0.0, cmaes 0.13.1, Python 3.11.
# Seen: 2026-12-01.
#
# Expected: a study keeps its trials in mlflow.optuna.storage.MlflowStorage as in any storage of Optuna. There, study.trials[i] is the
# trial with number i, and study.best_value gets never worse.
#
# Behaviour: the storage searches the runs of the study once, with MLflow's defaults: latest start first, 1000 runs.
# - study.trials[0] is the newest trial. CmaEsSampler looks from the end of the list for the last state of its search, and finds
#   the oldest. Here it never leaves generation 2 and draws from one and the same distribution for the rest of the study. No message.
# - Of more than 1000 trials, the oldest are no longer part of the study. If the best one is among them, best_value and best_params
#   tell of another trial.
# The control: with the storage in memory, the same sampler and seed go on to generation 4.
#
# Why it matters: the search looks alive, all trials are in MLflow, and only their quality is that of the first few generations.
#
# What to do: keep the study in a storage of Optuna's own, and log the trials to MLflow beside it. Or take a sampler that asks not
# for the order (TPE, random), and stay below 1000 trials.
#
# It takes three to four minutes, most of them to write and read 1001 trials.
#
# Output that was seen (exit status 0):
#
#     InMemoryStorage: first of the trials has number 0, CMA-ES reached generation 4
#     MlflowStorage: first of the trials has number 19, CMA-ES reached generation 2
#     MlflowStorage, 1000 trials, the first has value -1: trials 1000, best value -1.0
#     MlflowStorage, one trial more of value 0: trials 1000, best value 0.0
#
# Exit status: 0 while all of this is still so, 1 if something changed, 2 if the packages could not be installed.
set -euo pipefail

work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
python3 -m venv "$work/venv"
"$work/venv/bin/pip" install --quiet --quiet mlflow==3.17.2 optuna==5.0.0 cmaes==0.13.1 || { echo "not tried: the packages could not be installed"; exit 2; }

cd "$work"
"$work/venv/bin/python" - 2> "$work/errors.txt" <<'PYTHON' || { tail -n 5 "$work/errors.txt"; exit 1; }
import sys
import warnings
from pathlib import Path

import mlflow
import optuna
from mlflow.optuna.storage import MlflowStorage

warnings.simplefilter("ignore")
optuna.logging.set_verbosity(optuna.logging.WARNING)
mlflow.set_tracking_uri(f"sqlite:///{Path.cwd()}/runs.db")
changes = []


def expect(line, expected):
    print(line, flush=True)
    if line != expected:
        changes.append(f"expected '{expected}', seen '{line}'")


def storage(name):
    return MlflowStorage(mlflow.create_experiment(name, artifact_location=str(Path.cwd() / "artifacts")))


def searched(kept):
    """A study of 20 trials by CMA-ES, in generations of four."""
    study = optuna.create_study(storage=kept, sampler=optuna.samplers.CmaEsSampler(seed=0, popsize=4))
    for _ in range(20):
        trial = study.ask()
        study.tell(trial, sum((trial.suggest_float(name, -5, 5) - 2) ** 2 for name in "xyz"))
    trials = study.trials
    generations = [trial.system_attrs["cma:generation"] for trial in trials if "cma:generation" in trial.system_attrs]
    return f"first of the trials has number {trials[0].number}, CMA-ES reached generation {max(generations)}"


expect(f"InMemoryStorage: {searched(optuna.storages.InMemoryStorage())}",
       "InMemoryStorage: first of the trials has number 0, CMA-ES reached generation 4")
expect(f"MlflowStorage: {searched(storage('search'))}",
       "MlflowStorage: first of the trials has number 19, CMA-ES reached generation 2")

study = optuna.create_study(storage=storage("long"))
study.add_trial(optuna.trial.create_trial(value=-1.0))
for _ in range(999):
    study.add_trial(optuna.trial.create_trial(value=0.0))
expect(f"MlflowStorage, 1000 trials, the first has value -1: trials {len(study.trials)}, best value {study.best_value}",
       "MlflowStorage, 1000 trials, the first has value -1: trials 1000, best value -1.0")
study.add_trial(optuna.trial.create_trial(value=0.0))
expect(f"MlflowStorage, one trial more of value 0: trials {len(study.trials)}, best value {study.best_value}",
       "MlflowStorage, one trial more of value 0: trials 1000, best value 0.0")

for change in changes:
    print("CHANGED:", change)
sys.exit(1 if changes else 0)
PYTHON
