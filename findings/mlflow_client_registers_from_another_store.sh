#!/usr/bin/env bash
# MlflowClient(tracking_uri=A).create_model_version looks its logged model up in the store of the process, not in A.
#
# Versions: mlflow 3.17.2, Python 3.11.
# Seen: 2026-11-28.
#
# Expected: a client that is given a store uses that store. A logged model that the client made and finds by
# get_logged_model can be registered by the same client, from the address models:/MODEL_ID that MLflow itself writes.
#
# Behaviour: with a database as store, create_model_version asks a new MlflowClient(), of the process's own store, for the
# model. It is not there: RESOURCE_DOES_NOT_EXIST, "Logged model with ID ... not found". It works where MLFLOW_TRACKING_URI
# names the same store, and with the model's artifact_location in place of models:/MODEL_ID. A remark in the source of
# MLflow's store (sqlalchemy_store.py, create_model_version) says that clients may have other stores.
#
# Why it matters: a program that keeps clients of several stores, or does not want to change the environment of its caller,
# cannot register a model by its documented address. If the other store has a model of this id, that one is taken.
#
# Output that was seen (exit status 0):
#
#     the client finds its model: True
#     registered from models:/MODEL_ID: not found
#     registered from artifact_location: version 1
#     registered from models:/MODEL_ID with MLFLOW_TRACKING_URI set: version 2
#
# Exit status: 0 while all of this is still so, 1 if something changed, 2 if the packages could not be installed.
set -euo pipefail

work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
python3 -m venv "$work/venv"
"$work/venv/bin/pip" install --quiet --quiet mlflow==3.17.2 || { echo "not tried: the packages could not be installed"; exit 2; }

cd "$work"
unset MLFLOW_TRACKING_URI MLFLOW_REGISTRY_URI
export MLFLOW_DISABLE_TELEMETRY=true
"$work/venv/bin/python" - 2> "$work/errors" <<'PYTHON' || { code=$?; cat "$work/errors" >&2; exit "$code"; }
import os
import sys
from pathlib import Path

from mlflow import MlflowClient
from mlflow.exceptions import MlflowException

changes = []
STORE = f"sqlite:///{Path.cwd()}/store.db"


def expect(text, seen, expected):
    print(f"{text}: {seen}")
    if seen != expected:
        changes.append(f"{text}: expected {expected}, seen {seen}")


def registered(client, source, run_id):
    try:
        return f"version {client.create_model_version('name', source, run_id).version}"
    except MlflowException as error:
        return "not found" if "not found" in str(error) else str(error)


client = MlflowClient(tracking_uri=STORE)
experiment = client.create_experiment("e", artifact_location=(Path.cwd() / "artifacts").as_uri())
run_id = client.create_run(experiment).info.run_id
model = client.create_logged_model(experiment, "m", run_id)
Path("file").write_text("content")
client.log_model_artifact(model.model_id, "file")
client.finalize_logged_model(model.model_id, "READY")
client.create_registered_model("name")

expect("the client finds its model", client.get_logged_model(model.model_id).model_id == model.model_id, True)
by_id = f"models:/{model.model_id}"
expect("registered from models:/MODEL_ID", registered(client, by_id, run_id), "not found")
expect("registered from artifact_location", registered(client, model.artifact_location, run_id), "version 1")
os.environ["MLFLOW_TRACKING_URI"] = STORE
text = "registered from models:/MODEL_ID with MLFLOW_TRACKING_URI set"
expect(text, registered(client, by_id, run_id), "version 2")

for change in changes:
    print("CHANGED:", change)
sys.exit(1 if changes else 0)
PYTHON
