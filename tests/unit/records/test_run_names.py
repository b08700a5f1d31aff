"""A run is found by its id, the first digits of it, its name in MLflow, or a model of the registry."""

from __future__ import annotations

import logging
import os
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
from mlflow.exceptions import MlflowException
from mlflow.protos.databricks_pb2 import RESOURCE_DOES_NOT_EXIST

from ppolab.errors import ConfigError
from ppolab.records.run_folder import RunFolder, find_run
from ppolab.records.tracking import stored_runs

FIRST, SECOND, THIRD = "abc123" + "0" * 26, "abc123" + "f" * 26, "9876543210" + "a" * 22


def run_in(outputs: Path, place: str, run_id: str | None, name: str | None, age: int = 0) -> RunFolder:
    """A run's folder whose record was written `age` seconds ago."""
    folder = RunFolder(outputs / place)
    folder.checkpoint("last").parent.mkdir(parents=True)
    folder.checkpoint("last").touch()
    folder.config.write_text("seed: 4\nenv: {id: Hopper-v5}\nlogger: {run_name: null}\n")
    folder.write_record(run_id, "sqlite:////store.db", name=name)
    written = folder.record.stat().st_mtime - age
    os.utime(folder.record, (written, written))
    return folder


@pytest.fixture
def outputs(tmp_path: Path) -> Path:
    run_in(tmp_path, "first", FIRST, "Hopper-v5-seed0", age=30)
    run_in(tmp_path, "second", SECOND, "Hopper-v5-seed0", age=20)
    run_in(tmp_path, "third", THIRD, "deadbeef", age=10)
    run_in(tmp_path, "earlier version", None, None)
    return tmp_path


@pytest.mark.parametrize(
    ("value", "place"),
    [
        (FIRST, "first"),
        (FIRST[:7], "first"),
        (SECOND[:31], "second"),
        (THIRD[:6], "third"),
        ("Hopper-v5-seed0", "second"),
        ("deadbeef", "third"),
        ("Hopper-v5-seed4", "earlier version"),
    ],
)
def test_a_run_is_found(value: str, place: str, outputs: Path) -> None:
    assert find_run("run", value, outputs=outputs).folder.path == outputs / place


def test_of_several_runs_of_a_name_the_newest_is_said(outputs: Path, caplog: pytest.LogCaptureFixture) -> None:
    with caplog.at_level(logging.INFO, "ppolab"):
        find_run("run", "Hopper-v5-seed0", outputs=outputs)
    told = f"run=Hopper-v5-seed0: 2 runs have this name; this is the newest, {outputs / 'second'}"
    assert [record.getMessage() for record in caplog.records] == [told]


@pytest.mark.parametrize(
    ("value", "told"),
    [
        ("abc123", f"run=abc123: the ids of 2 runs begin so: {FIRST}, {SECOND}; add digits"),
        ("98765", "run=98765: there is no such run id, run name, folder or checkpoint file under "),
        ("Hopper-v5-seed", "; did you mean 'Hopper-v5-seed"),
        (
            "models:/cart",
            "is no model of a registry; write models:/NAME/VERSION or models:/NAME@ALIAS",
        ),
        ("models:/cart/1", "run=models:/cart/1: there is no tracking store at "),
    ],
)
def test_what_names_no_run_is_told_in_one_line(
    value: str, told: str, outputs: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delenv("MLFLOW_TRACKING_URI", raising=False)
    with pytest.raises(ConfigError) as raised:
        find_run("run", value, outputs=outputs)
    assert told in str(raised.value)
    assert "\n" not in str(raised.value)


@pytest.mark.parametrize("value", ["CartPole-v1-clip-098b", "dd9c46690b", f"dd9c46690b{'0' * 22}", "FOLDER"])
def test_a_grid_is_told_from_a_run(value: str, outputs: Path) -> None:
    grid = outputs / "grids/CartPole-v1-clip-098b"
    for number in (1, 0):
        run_in(grid, str(number), None, f"CartPole-v1 clip=0.{number}")
    (grid / "grid.json").write_text(f'{{"mlflow_run": "dd9c46690b{"0" * 22}"}}\n')
    value = str(grid) if value == "FOLDER" else value
    with pytest.raises(ConfigError) as raised:
        find_run("run", value, outputs=outputs)
    assert str(raised.value) == (
        f"run={value}: is a grid of runs, not a run; name one of them, such as run={grid / '0'}"
    )


def test_a_run_without_a_checkpoint_is_told_with_its_folder(outputs: Path) -> None:
    RunFolder(outputs / "third").checkpoint("last").unlink()
    with pytest.raises(ConfigError, match=r"^run=deadbeef: .*third has no checkpoint; .*, so train it again$"):
        find_run("run", "deadbeef", outputs=outputs)


# --- the registry ----------------------------------------------------------------------------------------------------


class Registry:
    """The part of MLflow's client that looks models up, and a run whose artifacts are files."""

    def get_registered_model(self, name: str) -> Any:
        if name != "cart":
            raise MlflowException("not here", error_code=RESOURCE_DOES_NOT_EXIST)
        return SimpleNamespace(name="cart", aliases={"good": "2"})

    def search_registered_models(self) -> list[Any]:
        return [SimpleNamespace(name="cart")]

    def search_model_versions(self, condition: str) -> list[Any]:
        assert condition == "name='cart'"
        return [SimpleNamespace(version=number, run_id=run_id) for number, run_id in ((1, THIRD), (2, FIRST), (3, ""))]


@pytest.fixture
def registry(outputs: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.delenv("MLFLOW_TRACKING_URI", raising=False)
    monkeypatch.setattr(stored_runs, "connect", lambda _: Registry())
    (outputs / "mlflow.db").touch()
    return outputs


@pytest.mark.parametrize(("value", "place"), [("models:/cart/1", "third"), ("models:/cart@good", "first")])
def test_a_registered_model_leads_to_its_run(value: str, place: str, registry: Path) -> None:
    assert find_run("run", value, outputs=registry).folder.path == registry / place


@pytest.mark.parametrize(
    ("value", "told"),
    [
        ("models:/cart/7", "the model cart has no version 7; it has 1, 2, 3; name another, or the store that has it"),
        ("models:/cart@best", "the model cart has no alias best; it has good; name another"),
        ("models:/cart/3", "version 3 of the model cart comes from no run"),
        ("models:/dog/1", "there is no model dog in sqlite:"),
        ("models:/dog/1", "mlflow.db; it has cart; name another, or the store that has it with MLFLOW_TRACKING_URI"),
    ],
)
def test_what_the_registry_lacks_is_told_with_what_it_has(value: str, told: str, registry: Path) -> None:
    with pytest.raises(ConfigError) as raised:
        find_run("run", value, outputs=registry)
    assert told in str(raised.value)
