"""Whole runs through the real commands: files, tracking, resume, signals, failures, sweeps, evaluation."""

from __future__ import annotations

import json
import math
import re
import signal
import subprocess
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import pytest
from omegaconf import OmegaConf

from commands import (
    TINY,
    Answer,
    evaluate,
    metric_rows,
    run_folders,
    series,
    start_training,
    train,
    write_user_module,
)
from ppolab.config.metrics import METRICS
from ppolab.records.checkpoint import load_checkpoint

if TYPE_CHECKING:
    from mlflow import MlflowClient
    from mlflow.entities import Run

NOISE = ("\x1b", "\r", "Warning", "WARN", "deprecated", "XDG_RUNTIME_DIR", "Traceback", "LOCAL_RANK", "in eval mode")


@dataclass(frozen=True)
class Finished:
    """A command's answer, its run folder, and the rows of metrics.csv at that moment."""

    answer: Answer
    folder: Path
    rows: list[dict[str, str]]

    @property
    def run_id(self) -> str:
        return str(json.loads((self.folder / "run.json").read_text())["run_id"])

    @property
    def steps(self) -> int:
        return int(self.rows[-1]["step"])


def finished(answer: Answer, folder: Path, code: int = 0) -> Finished:
    assert answer.code == code, answer.err
    return Finished(answer, folder, metric_rows(folder))


def new_run(workspace: Path, before: list[Path]) -> Path:
    (folder,) = [folder for folder in run_folders(workspace) if folder not in before]
    return folder


def wait_for(condition: Callable[[], bool], process: subprocess.Popen[str], seconds: float = 90) -> None:
    end = time.monotonic() + seconds
    while not condition():
        assert process.poll() is None, process.communicate()[1]
        assert time.monotonic() < end, "condition not met in time"
        time.sleep(0.05)


def stopped_by(number: signal.Signals, process: subprocess.Popen[str]) -> Answer:
    started = time.monotonic()
    process.send_signal(number)
    out, err = process.communicate(timeout=90)
    return Answer(process.returncode, out, err, time.monotonic() - started)


@pytest.fixture(scope="module")
def workspace(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("workspace")
    write_user_module(folder)
    return folder


@pytest.fixture(scope="module")
def first(workspace: Path) -> Finished:
    """CartPole in EnvPool, clip 0.1, everything else as shipped; the folder is quoted from the summary."""
    intervals = ("total_steps=1024", "eval_interval=256", "checkpoint_interval=256")
    answer = train(workspace, "env=cartpole", "clip=0.1", "seed=3", *TINY, *intervals)
    return finished(answer, new_run(workspace, []))


@pytest.fixture(scope="module")
def grid(workspace: Path, first: Finished) -> list[Finished]:
    """Two seeds with clip 0.3 in the same store; -m may stand anywhere."""
    before = run_folders(workspace)
    answer = train(
        workspace, "env=cartpole", "-m", "clip=0.3", "seed=0,1", *TINY, "total_steps=256", "logger.video=false"
    )
    return [finished(answer, folder) for folder in run_folders(workspace) if folder not in before]


@pytest.fixture(scope="module")
def resumed(workspace: Path, first: Finished, grid: list[Finished]) -> Finished:
    """`first` by its MLflow run id, for 512 steps more."""
    before = run_folders(workspace)
    answer = train(workspace, f"resume={first.run_id}", "total_steps=1536", "logger.video=false")
    assert run_folders(workspace) == before, "a resumed run stays in its folder"
    return finished(answer, first.folder)


@pytest.fixture(scope="module")
def interrupted(workspace: Path, resumed: Finished) -> Finished:
    """Stopped by Ctrl-C after a few iterations."""
    before = run_folders(workspace)
    process = start_training(workspace, "env=pendulum", *TINY, "eval_interval=0", "logger.video=false")
    wait_for(lambda: _rows(workspace, before) > 5, process)
    return finished(stopped_by(signal.SIGINT, process), new_run(workspace, before), 130)


@pytest.fixture(scope="module")
def terminated(workspace: Path, interrupted: Finished) -> Finished:
    """`interrupted` by its folder, stopped again, by SIGTERM."""
    process = start_training(workspace, f"resume={interrupted.folder}")
    wait_for(lambda: len(metric_rows(interrupted.folder)) > len(interrupted.rows) + 5, process)
    return finished(stopped_by(signal.SIGTERM, process), interrupted.folder, 130)


def _rows(workspace: Path, before: list[Path]) -> int:
    folders = [folder for folder in run_folders(workspace) if folder not in before]
    return len(metric_rows(folders[0])) if folders and (folders[0] / "metrics.csv").is_file() else 0


def client_of(workspace: Path) -> MlflowClient:
    from mlflow import MlflowClient

    return MlflowClient(tracking_uri=f"sqlite:///{workspace}/outputs/mlflow.db")


def tracked(workspace: Path, run_id: str) -> Run:
    return client_of(workspace).get_run(run_id)


def history(workspace: Path, run_id: str, name: str) -> dict[int, float]:
    points = client_of(workspace).get_metric_history(run_id, name)
    assert len({point.step for point in points}) == len(points), f"{name} was stored twice at one step"
    return {point.step: point.value for point in sorted(points, key=lambda point: point.step)}


# --- a finished run ----------------------------------------------------------------------------------------------


def test_finished_run_leaves_its_files(first: Finished) -> None:
    config = OmegaConf.load(first.folder / "config.yaml")
    assert (config.clip, config.seed, config.env.id, config.gamma) == (0.1, 3, "CartPole-v1", 0.99)
    assert (first.folder / "learning_curve.png").read_bytes().startswith(b"\x89PNG\r\n")
    assert (first.folder / "video.mp4").stat().st_size > 1000
    assert len(first.run_id) == 32
    for name in ("last", "best"):
        assert (first.folder / f"checkpoints/{name}.ckpt").is_file()
    assert "CartPole-v1 on envpool" in (first.folder / "train.log").read_text()


def test_metrics_file(first: Finished) -> None:
    assert tuple(first.rows[0]) == ("step", *METRICS)
    training = [int(row["step"]) for row in first.rows if row["loss/policy"]]
    evaluations = [int(row["step"]) for row in first.rows if row["eval/return"]]
    assert training == sorted(set(training))
    assert evaluations == sorted(set(evaluations))
    assert set(evaluations) <= set(training)
    assert len(evaluations) == 4, "one in every 256 of 1024 steps, the last at the end"
    assert evaluations[-1] == training[-1] >= 1024
    assert training[0] <= 128, "the second rollout: the first fills the normalisers"
    for name in METRICS:
        if name != "policy/std":  # of continuous actions
            values = [float(row[name]) for row in first.rows if row[name]]
            assert values, name
            assert all(map(math.isfinite, values)), name


def test_summary_names_results_and_what_to_do_next(first: Finished) -> None:
    out = first.answer.out
    assert first.run_id in out
    assert re.search(r"steps +1,0\d\d in [\d.]+ s, [\d,]+ steps/s", out)
    assert f"train return  {float(first.rows[-2]['train/return']):,.1f}" in out
    assert f"eval return   {float(first.rows[-1]['eval/return']):,.1f}" in out
    assert f"files         {first.folder}" in out
    assert f"run={first.folder}" in out
    page = rf"^page +http://127\.0\.0\.1:5000/#/experiments/\d+/runs/{first.run_id}\?workflowType=machine_learning$"
    assert re.search(page, out, re.MULTILINE)
    assert "served by     mlflow ui --workers 1 --backend-store-uri sqlite:///outputs/mlflow.db" in out


def test_output_without_a_terminal_is_plain(first: Finished) -> None:
    for noise in NOISE:
        assert noise not in first.answer.err + first.answer.out
    assert first.answer.err == "CartPole-v1 on envpool: 4 environments x 16 steps\n"


def test_runs_are_compared_in_mlflow(workspace: Path, first: Finished, grid: list[Finished]) -> None:
    client = client_of(workspace)
    experiment = client.get_experiment_by_name("ppolab")
    assert experiment is not None
    for clip, expected in (("0.1", [first]), ("0.3", grid)):
        found = client.search_runs([experiment.experiment_id], f"params.clip = '{clip}'")
        assert {run.info.run_id for run in found} == {run.run_id for run in expected}
        assert {run.info.status for run in found} == {"FINISHED"}


def test_mlflow_holds_what_the_run_wrote(workspace: Path, first: Finished) -> None:
    for name in ("train/return", "eval/return", "policy/kl"):
        stored, written = history(workspace, first.run_id, name), series(first.folder, name)
        assert stored.keys() == written.keys()
        assert list(stored.values()) == pytest.approx(list(written.values()))
    client, run = client_of(workspace), tracked(workspace, first.run_id)
    assert {"config.yaml", "learning_curve.png", "metrics.csv", "video.mp4", "checkpoints"} <= {
        item.path for item in client.list_artifacts(first.run_id)
    }
    checkpoints = {item.path for item in client.list_artifacts(first.run_id, "checkpoints")}
    assert checkpoints == {"checkpoints/best.ckpt", "checkpoints/last.ckpt"}
    assert {"version.ppolab", "version.torch", "version.python", "host", "command"} <= run.data.tags.keys()
    assert "clip=0.1" in run.data.tags["command"]
    assert {"env.id", "model.hidden_sizes", "optimizer.lr", "trainer.accelerator"} <= run.data.params.keys()
    assert run.info.run_name == "CartPole-v1-seed3"
    assert run.data.tags["ppolab.kind"] == "run"
    note = run.data.tags["mlflow.note.content"]
    assert note.startswith("**CartPole-v1** with ppo_clip, ") and "`clip=0.1`" in note
    assert f"Finished after {first.steps:,} steps. Eval return **" in note
    assert f"run={first.folder}`" in note


# --- grids -------------------------------------------------------------------------------------------------------


def test_grid_runs_every_combination(grid: list[Finished]) -> None:
    assert [OmegaConf.load(run.folder / "config.yaml").seed for run in grid] == [0, 1]
    assert grid[0].folder.parent == grid[1].folder.parent
    assert all(run.steps >= 256 for run in grid)
    assert grid[0].rows[-1]["eval/return"] != ""
    assert len(re.findall(r"^job [01] +complete ", grid[0].answer.out, re.MULTILINE)) == 2
    assert grid[0].rows[0]["policy/kl"] != grid[1].rows[0]["policy/kl"], "the seed matters"


# --- resume ------------------------------------------------------------------------------------------------------


def test_resume_by_run_id_goes_on_where_the_run_ended(workspace: Path, first: Finished, resumed: Finished) -> None:
    assert resumed.rows[: len(first.rows)] == first.rows
    assert len(resumed.rows) > len(first.rows)
    steps = [int(row["step"]) for row in resumed.rows if row["loss/policy"]]
    assert steps == sorted(set(steps))
    assert first.steps < steps[len(steps) // 2 + 4] <= resumed.steps
    assert 1536 <= resumed.steps < 1536 + 64
    assert history(workspace, resumed.run_id, "train/return") == pytest.approx(series(resumed.folder, "train/return"))
    run = tracked(workspace, resumed.run_id)
    assert (resumed.run_id, run.info.status) == (first.run_id, "FINISHED")
    assert json.loads(run.data.tags["resumed_with"])["parameters"]["total_steps"] == "1536"
    assert OmegaConf.load(resumed.folder / "config.yaml").clip == 0.1


def test_resume_refuses_what_would_make_another_run(workspace: Path, resumed: Finished) -> None:
    kept = (resumed.folder / "config.yaml").read_text()
    for argument, difference in (("clip=0.4", "clip 0.1 -> 0.4"), ("env=hopper", "env.id CartPole-v1 -> Hopper-v5")):
        answer = train(workspace, f"resume={resumed.folder}", argument)
        assert (answer.code, answer.out, answer.err.count("\n")) == (2, "", 1)
        assert difference in answer.err
    assert (resumed.folder / "config.yaml").read_text() == kept
    assert (resumed.folder / "checkpoints/last.ckpt").is_file()


def test_interrupt_saves_and_says_how_to_go_on(workspace: Path, interrupted: Finished) -> None:
    assert load_checkpoint(interrupted.folder / "checkpoints/last.ckpt").module["steps"] == interrupted.steps
    assert tracked(workspace, interrupted.run_id).info.status in ("KILLED", "RUNNING"), "or already resumed"
    assert f"resume={interrupted.folder}" in interrupted.answer.err.splitlines()[-1]
    assert "Traceback" not in interrupted.answer.err
    assert interrupted.answer.out == ""


def test_terminate_does_the_same_and_the_run_can_be_resumed_from_its_checkpoint_file(
    workspace: Path, interrupted: Finished, terminated: Finished
) -> None:
    assert terminated.rows[: len(interrupted.rows)] == interrupted.rows
    assert tracked(workspace, terminated.run_id).info.status == "KILLED"
    checkpoint = terminated.folder / "checkpoints/last.ckpt"
    answer = train(workspace, f"resume={checkpoint}", f"total_steps={terminated.steps + 64}", "eval_episodes=1")
    ended = finished(answer, terminated.folder)
    assert ended.rows[: len(terminated.rows)] == terminated.rows
    assert terminated.steps + 64 <= ended.steps < terminated.steps + 192
    assert ended.run_id == interrupted.run_id
    assert tracked(workspace, ended.run_id).info.status == "FINISHED"
    assert series(ended.folder, "loss/value").keys() == history(workspace, ended.run_id, "loss/value").keys()


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_interrupt_during_the_imports_is_quiet(number: signal.Signals, workspace: Path) -> None:
    process = start_training(workspace, "env=cartpole", *TINY, "logger=none")
    maps = Path(f"/proc/{process.pid}/maps")
    if maps.exists():
        wait_for(lambda: "libtorch" in maps.read_text(), process)
    else:
        time.sleep(2.5)
    answer = stopped_by(number, process)
    assert (answer.code, answer.out) == (130, "")
    assert answer.err.count("\n") == 1, answer.err


def test_a_run_that_goes_on_otherwise_than_before_is_recorded_as_a_new_one(tmp_path: Path) -> None:
    """From the checkpoint before its last one, named from within its folder, with a learning rate that falls later."""
    answer = train(tmp_path, "env=pendulum", *TINY, "total_steps=640", "checkpoint_interval=128", "logger.video=false")
    whole = finished(answer, new_run(tmp_path, []))
    before, folder = whole.run_id, whole.folder / "checkpoints"
    steps = load_checkpoint(folder / "last-1.ckpt").module["steps"]
    store = f"logger.tracking_uri=sqlite:///{tmp_path}/outputs/mlflow.db"
    answer = train(folder, "resume=last-1.ckpt", "total_steps=1280", store)
    resumed = finished(answer, whole.folder)
    assert f"went on with other settings after {steps} steps: a new run is recorded" in answer.err
    assert resumed.run_id != before
    assert history(tmp_path, resumed.run_id, "optim/lr").keys() == series(whole.folder, "optim/lr").keys()
    assert max(history(tmp_path, before, "optim/lr")) == whole.steps, "the earlier run stays as it was"


# --- failures ----------------------------------------------------------------------------------------------------


def test_loss_that_is_no_longer_finite(workspace: Path) -> None:
    before = run_folders(workspace)
    arguments = ("total_steps=2048", "checkpoint_interval=64", "normalize_rewards=false", "logger.video=false")
    answer = train(workspace, "env.id=user_module:Explodes-v0", *TINY, *arguments)
    failed = finished(answer, new_run(workspace, before), 1)
    assert answer.err.splitlines()[-1].startswith("ppolab: the loss or the parameters are no longer finite after")
    assert "Traceback" not in answer.err
    assert answer.out == ""
    state = load_checkpoint(failed.folder / "checkpoints/last.ckpt").module
    assert 0 < state["steps"] <= 400
    assert all(bool(values.isfinite().all()) for values in state["policy"].values())
    assert tracked(workspace, failed.run_id).info.status == "FAILED"


def test_environment_that_raises(workspace: Path) -> None:
    answer = train(workspace, "env.id=user_module:Breaks-v0", *TINY, "total_steps=2048", "logger=none")
    assert (answer.code, answer.out) == (1, "")
    last = answer.err.splitlines()[-1]
    assert last.startswith("ppolab: user_module:Breaks-v0: environment 0 raised at its step 50")
    assert "RuntimeError: the simulator is on fire" in last
    assert "Traceback" not in answer.err


# --- evaluation --------------------------------------------------------------------------------------------------


def test_evaluation_in_gymnasium(workspace: Path, resumed: Finished) -> None:
    answer = evaluate(workspace, f"run={resumed.folder}", "episodes=3", "seed=5")
    assert answer.code == 0, answer.err
    target = resumed.folder / "evaluations/best-seed5-3episodes"
    result = json.loads((target / "result.json").read_text())
    assert len(result["returns"]) == len(result["lengths"]) == 3
    assert result["returns"] == [float(length) for length in result["lengths"]], "CartPole pays 1 a step"
    assert result["mean"] == pytest.approx(sum(result["returns"]) / 3)
    deviation = math.sqrt(sum((value - result["mean"]) ** 2 for value in result["returns"]) / 3)
    assert result["std"] == pytest.approx(deviation)
    assert "CartPole-v1 on gymnasium" in answer.out
    assert f"{result['mean']:,.1f} ± {result['std']:,.1f} over 3" in answer.out
    assert " ".join(f"{value:.1f}" for value in result["returns"]) in answer.out
    assert (target / "video.mp4").stat().st_size > 1000
    assert answer.err == ""

    again = evaluate(workspace, f"run={resumed.run_id[:10]}", "episodes=3", "seed=5", "video=false")
    assert again.code == 0, again.err
    second = target.with_name(f"{target.name}-2") / "result.json"
    assert json.loads(second.read_text()) == result, "the same seed, the same returns"
    assert (target / "video.mp4").is_file(), "an evaluation overwrites no other"

    client = client_of(workspace)
    run = client.get_run(resumed.run_id)
    assert run.data.metrics["evaluate/return"] == result["mean"] == run.data.metrics["evaluate/length"]
    assert run.data.metrics["evaluate/return_std"] == pytest.approx(result["std"])
    assert run.info.status == "FINISHED"
    kept = {file.path for file in client.list_artifacts(resumed.run_id, "evaluations")}
    assert kept == {f"evaluations/{target.name}", f"evaluations/{target.name}-2"}


def test_an_evaluation_by_name_and_by_model_of_the_registry(tmp_path: Path) -> None:
    assert train(tmp_path, "env=cartpole", *TINY, "total_steps=64", "logger.video=false").code == 0
    (folder,) = run_folders(tmp_path)
    run_id = str(json.loads((folder / "run.json").read_text())["run_id"])
    client = client_of(tmp_path)
    client.create_registered_model("cart")
    client.create_model_version("cart", source=client.get_run(run_id).info.artifact_uri, run_id=run_id)

    named = evaluate(tmp_path, "run=CartPole-v1-seed0", "episodes=2", "video=false", "deterministic=false")
    assert named.code == 0, named.err
    assert "over 2 episodes of sampled actions" in named.out
    assert (folder / "evaluations/best-seed0-2episodes-sampled/result.json").is_file()
    here = evaluate(tmp_path, "run=models:/cart/1", "episodes=2", "video=false")
    assert (here.code, here.err) == (0, "")
    expected = json.loads((folder / "evaluations/best-seed0-2episodes/result.json").read_text())

    folder.rename(tmp_path / "elsewhere")
    fetched = evaluate(tmp_path, "run=models:/cart/1", "episodes=2", "video=false")
    assert (fetched.code, fetched.err) == (0, "")
    copy = tmp_path / "outputs/downloaded" / run_id / "evaluations/best-seed0-2episodes/result.json"
    assert json.loads(copy.read_text()) == expected

    (tmp_path / "outputs/mlflow.db").unlink()
    away = evaluate(tmp_path, f"run={tmp_path / 'elsewhere'}", "episodes=2", "video=false")
    assert away.code == 0
    assert away.err.startswith("the evaluation is in ") and "but not in MLflow: there is no tracking store" in away.err
    assert "over 2 deterministic episodes" in away.out
