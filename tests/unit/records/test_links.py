"""The pages of experiments in MLflow's UI."""

from __future__ import annotations

import pytest

from ppolab.records.tracking import experiment_link, ui
from ppolab.records.tracking.ui import ui_lines


class Reader:
    """A store with three experiments."""

    def __init__(self, uri: str) -> None:
        pass

    def experiment_ids(self) -> dict[str, str]:
        return {"Default": "0", "ppolab": "7", "paper_table1": "12"}


@pytest.fixture(autouse=True)
def _store(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("ppolab.records.tracking.links.StoreReader", Reader)


def test_link_has_the_id_of_the_experiment_and_opens_the_page_of_training_runs() -> None:
    page = "/#/experiments/7/runs?workflowType=machine_learning"
    assert experiment_link("sqlite:////store/mlflow.db", "ppolab") == f"http://127.0.0.1:5000{page}"
    assert experiment_link("https://me:secret@host/mlflow/", "ppolab") == f"https://***@host/mlflow{page}"
    assert experiment_link("sqlite:////store/mlflow.db", "nothing") is None


def test_every_experiment_but_the_empty_one_is_listed() -> None:
    assert ui_lines("sqlite:////store/mlflow.db") == [
        "open  ppolab        http://127.0.0.1:5000/#/experiments/7/runs?workflowType=machine_learning",
        "open  paper_table1  http://127.0.0.1:5000/#/experiments/12/runs?workflowType=machine_learning",
    ]


def test_ui_is_started_over_the_store(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    started: list[list[str]] = []
    monkeypatch.setattr("os.execv", lambda _path, arguments: started.append(arguments))
    monkeypatch.setenv("MLFLOW_TRACKING_URI", "sqlite:////store/mlflow.db")
    assert ui.main() == 0
    assert started[0][1:5] == ["-m", "mlflow", "ui", "--backend-store-uri"]
    assert started[0][5:] == ["sqlite:////store/mlflow.db", "--host", "127.0.0.1", "--port", "5000"]
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
