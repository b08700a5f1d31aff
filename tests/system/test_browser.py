"""A study in MLflow's own pages: the real server, a real browser. `make test-browser` runs this."""

from __future__ import annotations

import socket
import subprocess
import sys
import time
import urllib.error
import urllib.request
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest
from studies import STUDY, client, runs

from commands import clean_environment, train

pytest.importorskip("selenium", reason="selenium is not installed: pip install selenium")

from mlflow_pages import PATIENCE_SECONDS, MlflowPages, browser, browser_program
from selenium.webdriver.common.by import By
from selenium.webdriver.support.ui import WebDriverWait

pytestmark = [
    pytest.mark.browser,
    pytest.mark.skipif(browser_program() is None, reason="no browser: apt-get install chromium chromium-driver"),
]
TRIALS = [f"trial-{number:04d}" for number in range(4)]


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """With a finished study of four trials."""
    place = tmp_path_factory.mktemp("study")
    answer = train(place, *STUDY, "n_trials=4", "total_steps=512", "eval_interval=128", "sampler=random")
    assert answer.code == 0, answer.err
    return place


@contextmanager
def serving(folder: Path, health: str, *command: object) -> Iterator[str]:
    """URL of a server that `command` and a port start, as soon as it answers at `health`."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    words = [sys.executable, *map(str, command), "--port", str(port)]
    log = folder / f"server-{port}.log"
    with log.open("w") as output:
        server = subprocess.Popen(words, cwd=folder, env=clean_environment(), stdout=output, stderr=output)
    try:
        url = f"http://127.0.0.1:{port}"
        _wait_for(f"{url}{health}", server, log)
        yield url
    finally:
        server.terminate()
        server.wait(timeout=60)


@pytest.fixture(scope="module")
def pages(folder: Path) -> Iterator[MlflowPages]:
    """In a browser that looks at a server over the study's store."""
    store = f"sqlite:///{folder}/outputs/mlflow.db"
    command = ("-m", "mlflow", "server", "--host", "127.0.0.1", "--workers", "1", "--backend-store-uri", store)
    with serving(folder, "/health", *command) as url, browser() as driver:
        yield MlflowPages(driver, url)


def _wait_for(url: str, server: subprocess.Popen[bytes], log: Path) -> None:
    deadline = time.monotonic() + 180
    while time.monotonic() < deadline:
        try:
            with urllib.request.urlopen(url, timeout=5):
                return
        except (urllib.error.URLError, OSError):
            assert server.poll() is None, log.read_text()
            time.sleep(0.2)
    raise AssertionError(f"the server does not answer: {log.read_text()}")


def test_the_study_lists_its_trials(pages: MlflowPages) -> None:
    assert pages.open_runs("s") == ["s"]
    assert sorted(pages.unfold(len(TRIALS))) == ["s", *TRIALS]


def test_sorting_by_the_objective(pages: MlflowPages, folder: Path) -> None:
    returns = {
        str(run.info.run_name): run.data.metrics["eval/return"] for run in runs(folder) if run.info.run_name != "s"
    }
    listed = [name for name in pages.open_runs("s", sorted_by="eval/return") if name in TRIALS]
    assert sorted(listed) == TRIALS
    assert [returns[name] for name in listed] == sorted(returns.values(), reverse=True)


def test_two_trials_are_compared(pages: MlflowPages, folder: Path, tmp_path: Path) -> None:
    """Both values of `clip`, and both curves with all their points."""
    pages.open_runs("s", sorted_by="eval/return")
    compared = pages.compare("trial-0001", "trial-0003")
    by_name = {str(run.info.run_name): run for run in runs(folder)}
    pair = [by_name["trial-0001"], by_name["trial-0003"]]
    assert sorted(compared["clip"]) == sorted(run.data.params["clip"] for run in pair)
    assert len(set(compared["clip"])) == 2
    curves = pages.curves("eval/return", ["trial-0001", "trial-0003"])
    for run in pair:
        history = sorted(client(folder).get_metric_history(run.info.run_id, "eval/return"), key=lambda m: m.step)
        assert len(history) >= 4
        assert curves[str(run.info.run_name)] == ([m.step for m in history], [m.value for m in history])
    pages.picture(tmp_path / "curves.png")
    assert (tmp_path / "curves.png").stat().st_size > 10_000


def test_the_study_opens_in_optuna_dashboard(folder: Path) -> None:
    program = Path(sys.executable).parent / "optuna-dashboard"
    study = folder / "outputs/studies/s.journal"
    with serving(folder, "/api/studies", program, study) as url, browser() as driver:
        driver.get(f"{url}/dashboard/studies/0/trials")
        page = driver.find_element(By.TAG_NAME, "body")
        WebDriverWait(driver, PATIENCE_SECONDS).until(lambda _: "Intermediate Values" in page.text)
        shown = page.text.splitlines()
    assert "4 Trials" in shown
    assert [line for line in shown if line in (f"Trial {number}" for number in range(4))] == [
        f"Trial {number}" for number in range(4)
    ]
