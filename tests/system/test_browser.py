"""Runs and a study in MLflow's own pages: the real server, a real browser. `make test-browser` runs this."""

from __future__ import annotations

import re
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

from commands import TINY, clean_environment, train
from ppolab.records.tracking import experiment_link
from ppolab.records.tracking.ui import QUICK

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
    """With a finished study of four trials, and a run that belongs to none."""
    place = tmp_path_factory.mktemp("study")
    answer = train(place, *STUDY, "n_trials=4", "total_steps=512", "eval_interval=128", "sampler=random")
    assert answer.code == 0, answer.err
    (place / "study.txt").write_text(answer.out)
    alone = train(place, "env=cartpole", *TINY, "total_steps=512", "eval_interval=128", "clip=0.15")
    assert alone.code == 0, alone.err
    (place / "run.txt").write_text(alone.out)
    return place


def printed(folder: Path, what: str) -> str:
    """The link in the summary of the `study` or of the `run` that was trained alone."""
    found = re.search(r"^page +(http://127\.0\.0\.1:5000/#/\S+)$", (folder / f"{what}.txt").read_text(), re.MULTILINE)
    assert found
    return found[1]


@contextmanager
def serving(folder: Path, health: str, *command: object) -> Iterator[str]:
    """URL of a server that `command` and a port start, as soon as it answers at `health`."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    words = [sys.executable, *map(str, command), "--port", str(port)]
    log = folder / f"server-{port}.log"
    with log.open("w") as output:
        server = subprocess.Popen(words, cwd=folder, env=clean_environment() | QUICK, stdout=output, stderr=output)
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


def test_the_printed_link_opens_the_run_with_its_description(pages: MlflowPages, folder: Path) -> None:
    side = pages.open_printed(printed(folder, "run"))
    assert "Model registry" in side  # of the view for training
    assert "Evaluation runs" not in side  # of the view for language models
    what, result, *_ = filter(None, pages.description().splitlines())
    assert what.startswith("CartPole-v1 with ppo_clip, 512 steps, seed ")
    assert "clip=0.15" in what
    assert re.match(r"Finished after \d+ steps\. Eval return [\d.]+ ± [\d.]+ \(best [\d.]+\)\.", result)


def test_the_charts_of_a_run_are_over_environment_steps(pages: MlflowPages, folder: Path) -> None:
    (run,) = runs(folder, "tags.`ppolab.kind` = 'run'")
    pages.open_printed(printed(folder, "run").replace("?", "/model-metrics?"))
    assert pages.charts(3) == ["length", "return", "return_std"]  # the evaluations come first
    history = sorted(client(folder).get_metric_history(run.info.run_id, "eval/length"), key=lambda m: m.step)
    assert pages.first_curve() == ([m.step for m in history], [m.value for m in history])
    assert history[-1].step >= 512


def test_the_saved_view_begins_with_returns(pages: MlflowPages, folder: Path) -> None:
    """In the table and in the charts; the best run comes first."""
    link = experiment_link(f"sqlite:///{folder}/outputs/mlflow.db", "ppolab")
    assert link is not None
    pages.open_printed(link)
    pages.wait_for_names(len(TRIALS) + 2)
    pages.wait_for_columns({"eval/return", "train/return", "algorithm.name"})
    pages.open_printed(f"{link}&compareRunsMode=CHART")
    assert pages.charts(2) == ["eval/return", "train/return"]


def test_the_study_shows_its_best_trial_and_a_picture(pages: MlflowPages, folder: Path) -> None:
    link = printed(folder, "study")
    pages.open_printed(link)
    (study,) = runs(folder, "tags.`ppolab.kind` = 'study'")
    best = study.data.tags["best.trial"]
    assert f"(trial {best})." in pages.description()
    pages.open_printed(link.replace("?", "/artifacts/plots/optimization_history.png?"))
    assert pages.width_of_picture() > 300


@pytest.mark.parametrize(
    ("condition", "names"),
    [
        ("tags.`ppolab.kind` = 'trial'", TRIALS),
        ("tags.`ppolab.kind` = 'study'", ["s"]),
        ("tags.study = 's' and tags.`ppolab.kind` = 'trial' and metrics.`eval/return` > 0", TRIALS),
        ("params.`env.id` = 'CartPole-v1' and tags.`ppolab.kind` = 'run'", ["CartPole-v1-seed0"]),
        ("params.`algorithm.name` = 'a2c'", []),
    ],
)
def test_the_filters_of_the_documentation_find_what_they_say(folder: Path, condition: str, names: list[str]) -> None:
    assert [run.info.run_name for run in runs(folder, condition)] == names


def test_the_study_lists_its_trials(pages: MlflowPages) -> None:
    assert pages.open_runs("s") == ["s"]
    assert sorted(pages.unfold(len(TRIALS))) == ["s", *TRIALS]


def test_sorting_by_the_objective(pages: MlflowPages, folder: Path) -> None:
    returns = {
        str(run.info.run_name): run.data.metrics["eval/return"] for run in runs(folder, "tags.`ppolab.kind` = 'trial'")
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
