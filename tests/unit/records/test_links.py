"""The pages of experiments in MLflow's UI."""

from __future__ import annotations

import json
import os
from pathlib import Path

import pytest

from ppolab.records.tracking import experiment_link, page_rows, saved_view, ui, ui_command
from ppolab.records.tracking.links import run_link
from ppolab.records.tracking.operations import StoredExperiment
from ppolab.records.tracking.ui import ui_lines


class Reader:
    """A store with three experiments, of which one has the saved view."""

    def __init__(self, uri: str) -> None:
        pass

    def stored_experiments(self) -> list[StoredExperiment]:
        view = {"mlflow.sharedViewState.ppolab": "{}"}
        return [
            StoredExperiment("0", "Default", {}),
            StoredExperiment("7", "ppolab", view),
            StoredExperiment("12", "paper_table1", {}),
        ]


@pytest.fixture(autouse=True)
def _store(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("ppolab.records.tracking.links.StoreReader", Reader)


def test_link_has_the_id_of_the_experiment_and_opens_the_page_of_training_runs() -> None:
    page = "/#/experiments/7/runs?workflowType=machine_learning&viewStateShareKey=ppolab"
    assert experiment_link("sqlite:////store/mlflow.db", "ppolab") == f"http://127.0.0.1:5000{page}"
    assert experiment_link("https://me:secret@host/mlflow/", "ppolab") == f"https://***@host/mlflow{page}"
    assert experiment_link("sqlite:////store/mlflow.db", "nothing") is None


def test_every_experiment_but_the_empty_one_is_listed() -> None:
    assert ui_lines("sqlite:////store/mlflow.db") == [
        "open  ppolab        http://127.0.0.1:5000/#/experiments/7/runs?workflowType=machine_learning&viewStateShareKey=ppolab",
        "open  paper_table1  http://127.0.0.1:5000/#/experiments/12/runs?workflowType=machine_learning",
    ]


def test_ui_is_started_over_the_store(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    started: list[list[str]] = []
    monkeypatch.setattr("os.execv", lambda _path, arguments: started.append(arguments))
    monkeypatch.setenv("MLFLOW_TRACKING_URI", "sqlite:////store/mlflow.db")
    for name in ui.QUICK:
        monkeypatch.setenv(name, "")  # which is put back afterwards
        monkeypatch.delenv(name)
    assert ui.main() == 0
    assert started[0][1:7] == ["-m", "mlflow", "ui", "--workers", "1", "--backend-store-uri"]
    assert os.environ["MLFLOW_SERVER_ENABLE_JOB_EXECUTION"] == "false"
    assert started[0][7:] == ["sqlite:////store/mlflow.db", "--host", "127.0.0.1", "--port", "5000"]
    assert "experiments/7/" in capsys.readouterr().out
    monkeypatch.setenv("MLFLOW_TRACKING_URI", "http://host:5000")
    assert ui.main() == 0
    assert len(started) == 1, "a server shows its own pages"


def test_no_store_is_told_in_one_line(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    monkeypatch.undo()
    monkeypatch.setenv("MLFLOW_TRACKING_URI", "sqlite:////nowhere/mlflow.db")
    assert ui.main() == 1
    assert capsys.readouterr().err == (
        "ppolab: there is no tracking store at /nowhere/mlflow.db; train first, or set MLFLOW_TRACKING_URI\n"
    )


def test_a_run_s_page_is_told_without_asking_the_store() -> None:
    page = "/#/experiments/7/runs/ab12?workflowType=machine_learning"
    assert run_link("sqlite:////nowhere/mlflow.db", "7", "ab12") == f"http://127.0.0.1:5000{page}"
    assert run_link("https://me:secret@host/mlflow/", "7", "ab12") == f"https://***@host/mlflow{page}"


def test_a_summary_has_the_page_and_what_serves_it() -> None:
    serve = "mlflow ui --workers 1 --backend-store-uri sqlite:////store/mlflow.db"
    assert page_rows("http://p", "sqlite:////store/mlflow.db") == [("page", "http://p"), ("served by", serve)]
    assert page_rows("https://p", "https://host") == [("page", "https://p")]
    assert page_rows(None, "https://me:pw@host") == [("served by", "open https://***@host")]
    assert page_rows(None, None) == []


def test_a_store_below_the_current_folder_is_named_from_there(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    command = ui_command(f"sqlite:///{tmp_path}/outputs/mlflow.db")
    assert command == "mlflow ui --workers 1 --backend-store-uri sqlite:///outputs/mlflow.db"


def test_the_saved_view_has_the_form_that_mlflow_reads() -> None:
    """An envelope, and in it the state of the page as text, as MLflow's own "Save as new view" makes them."""
    envelope = json.loads(saved_view.view_tag())
    assert (envelope["name"], envelope["createdAt"]) == ("returns", 0)
    state = json.loads(envelope["state"])
    assert state["orderByKey"] == "metrics.`eval/return`"
    assert [chart["metricKey"] for chart in state["compareRunCharts"]] == ["eval/return", "train/return"]
    assert {chart["metricSectionId"] for chart in state["compareRunCharts"]} == {state["compareRunSections"][0]["uuid"]}
    assert len(saved_view.view_tag()) < 5000, "the longest tag that every server takes"
