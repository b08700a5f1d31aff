"""Runs that meet trouble, through the real command: what they say, how they end, and what is kept."""

from __future__ import annotations

import os
import shutil
import signal
import subprocess
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest
import torch
from servers import client_of, steps_of
from troubles import (
    SMALL,
    assert_tracked,
    last_steps,
    only_run,
    run_id_of,
    store_of,
    troubled,
    workspace_in,
)

from commands import (
    Answer,
    assert_one_line,
    ended,
    evaluate,
    metric_rows,
    start_training,
    train,
    train_together,
)
from ppolab.records.checkpoint import load_checkpoint
from ppolab.records.run_folder import RunFolder

pytestmark = pytest.mark.filterwarnings("ignore:The ``noload`` loader strategy:DeprecationWarning")


def assert_ends_with(answer: Answer, *parts: str, code: int = 1) -> None:
    """The last line on stderr is ours and holds `parts`; no traceback."""
    assert answer.code == code, answer.err
    assert answer.out == ""
    assert "Traceback" not in answer.err
    last = answer.err.splitlines()[-1]
    assert last.startswith("ppolab: ")
    for part in parts:
        assert part in last


@dataclass(frozen=True)
class Met:
    """What a command answered to its trouble, and the run that it left."""

    answer: Answer
    run: Path
    uri: str


@pytest.fixture(scope="module")
def disks(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    """Two file systems of two megabytes each, or folders that nobody can mount them at."""
    folder = tmp_path_factory.mktemp("disks")
    for name in DISKS:
        (folder / name).mkdir()
        subprocess.run(["mount", "-t", "tmpfs", "-o", "size=2m", "tmpfs", folder / name], check=False)
    yield folder
    for name in DISKS:
        subprocess.run(["umount", "--lazy", folder / name], check=False)


DISKS = ("for a while", "for good")
FAULTS = ("infinite reward", "nan observation", "no memory", "folder removed")


@pytest.fixture(scope="module")
def met(disks: Path, tmp_path_factory: pytest.TempPathFactory) -> dict[str, Met]:
    """All troubles in one store, a few at a time; the run whose folder goes has none beside it."""
    workspace = workspace_in(tmp_path_factory.mktemp("met"))
    commands = {name: [*troubled(name)] for name in FAULTS}
    commands["nan observation"].append("env.vectorization=async")
    runs = {name: workspace / "outputs/runs" / name.replace(" ", "-") for name in FAULTS}
    for name, until in zip(DISKS, (180, 10**9), strict=True):
        if (disks / name).is_mount():
            runs[name] = disks / name / "run"
            commands[name] = [*troubled("full disk", at=90, until=until, folder=f"'{disks / name}'", mark=f"'{name}'")]
    for name, command in commands.items():
        command.append(f"hydra.run.dir='{runs[name]}'")
    answers = train_together(workspace, **commands)
    return {name: Met(answer, runs[name], store_of(workspace)) for name, answer in answers.items()}


# --- environments ----------------------------------------------------------------------------------------------------

ENVIRONMENTS = {
    "infinite reward": "environment 0 returned a non-finite reward at its step 100: inf",
    "nan observation": "environment 0 returned a non-finite observation at its step 100",
    "no memory": "environment 0 raised at its step 100: MemoryError: Unable to allocate 8.00 TiB",
}


@pytest.mark.parametrize("trouble", ENVIRONMENTS)
def test_an_environment_s_fault_ends_the_run_and_keeps_what_it_made(trouble: str, met: dict[str, Met]) -> None:
    case = met[trouble]
    assert_ends_with(case.answer, f"troubled:Troubled-v0: {ENVIRONMENTS[trouble]}")
    assert_tracked(case.run, case.uri, "FAILED")
    assert 256 <= last_steps(case.run) <= int(metric_rows(case.run)[-1]["step"]) < 400


def test_a_run_that_does_not_fit_into_memory_says_what_to_lower(tmp_path: Path) -> None:
    large = ("model.hidden_sizes=[20000,20000]", "logger=none")
    answer = train(workspace_in(tmp_path), *troubled("little memory"), *large)
    assert_ends_with(answer, "out of memory: ", "allocate", "lower num_envs, rollout_steps, model.hidden_sizes or")


@pytest.mark.slow
def test_a_simulator_that_crashes_leaves_a_run_that_resumes(tmp_path: Path) -> None:
    workspace = workspace_in(tmp_path)
    answer = train(workspace, *troubled("crash"), "total_steps=512")
    assert answer.code == -signal.SIGSEGV
    run = only_run(workspace)
    kept = metric_rows(run)
    assert int(kept[-1]["step"]) > 300 and last_steps(run) >= 256
    resumed = train(workspace, f"resume={run}")
    assert resumed.code == 0, resumed.err
    assert [row["loss/value"] for row in metric_rows(run)[: len(kept)]] == [row["loss/value"] for row in kept]
    assert_tracked(run, store_of(workspace), "FINISHED")


# --- disks -----------------------------------------------------------------------------------------------------------


def of_a_small_disk(name: str, met: dict[str, Met]) -> Met:
    if name not in met:
        pytest.skip("only root can mount a file system")
    return met[name]


def test_a_disk_that_is_full_for_a_while_costs_nothing(met: dict[str, Met]) -> None:
    case = of_a_small_disk("for a while", met)
    assert case.answer.code == 0, case.answer.err
    told = "last.ckpt: the checkpoint cannot be written: No space left on device; training goes on"
    assert told in case.answer.err
    assert last_steps(case.run) == int(metric_rows(case.run)[-1]["step"]) >= 1024
    files = {path.name for path in (case.run / "checkpoints").iterdir()}
    assert files == {"best.ckpt", "last-1.ckpt", "last.ckpt"}
    assert_tracked(case.run, case.uri, "FINISHED")


def test_a_disk_that_stays_full_ends_with_the_last_checkpoint_that_fitted(met: dict[str, Met]) -> None:
    case = of_a_small_disk("for good", met)
    told = "run/checkpoints/last.ckpt: the checkpoint cannot be written: No space left on device"
    assert_ends_with(case.answer, told)
    assert 256 <= last_steps(case.run) < 400
    assert client_of(case.uri).get_run(run_id_of(case.run)).info.status == "FAILED"
    steps = steps_of(case.uri, run_id_of(case.run), "loss/value")
    assert len(steps) == len(set(steps)) and max(steps) >= 1024, "the store has what the disk could not take"
    (case.run.parent / "filler").unlink()
    resumed = train(workspace_of(case), f"resume={case.run}")
    assert resumed.code == 0, resumed.err
    assert last_steps(case.run) >= 1024
    assert_tracked(case.run, case.uri, "FINISHED")


def workspace_of(case: Met) -> Path:
    return Path(case.uri.removeprefix("sqlite:///")).parents[1]


def test_a_run_whose_folder_is_removed_makes_it_again(met: dict[str, Met]) -> None:
    case = met["folder removed"]
    assert case.answer.code == 0, case.answer.err
    assert case.answer.err.count("was removed: it is made again, with all metrics and a checkpoint of now") == 1
    assert int(metric_rows(case.run)[0]["step"]) < 200, "rows from before are there"
    assert last_steps(case.run) == int(metric_rows(case.run)[-1]["step"]) >= 1024
    assert "was removed" in (case.run / "train.log").read_text()
    assert_tracked(case.run, case.uri, "FINISHED")


@pytest.mark.slow
def test_a_run_whose_outputs_are_all_removed_keeps_its_metrics_and_checkpoints(tmp_path: Path) -> None:
    workspace = workspace_in(tmp_path)
    answer = train(workspace, *troubled("all removed"))
    assert answer.code == 0, answer.err
    run = only_run(workspace)
    assert int(metric_rows(run)[0]["step"]) < 200 and last_steps(run) >= 1024
    again = train(workspace, f"resume={run}", "total_steps=1152")
    assert again.code == 0, again.err
    assert_tracked(run, store_of(workspace), "FINISHED")


# --- checkpoints -----------------------------------------------------------------------------------------------------


class Payload:
    """Touches a file when it is unpickled."""

    def __reduce__(self):
        return os.system, ("touch executed",)


def cut_in_half(path: Path) -> None:
    path.write_bytes(path.read_bytes()[: path.stat().st_size // 2])


def flip_a_bit(path: Path) -> None:
    content = bytearray(path.read_bytes())
    content[len(content) // 2] ^= 1
    path.write_bytes(content)


def of_another_network(path: Path) -> None:
    content = torch.load(path, weights_only=True)
    policy = content["module"]["policy"]
    content["module"]["policy"] = {name: torch.zeros(7) for name in policy}
    torch.save(content, path)


def malicious(path: Path) -> None:
    torch.save({"format": 2, "config": Payload()}, path)


def with_empty_state(path: Path) -> None:
    torch.save({"format": 2, "config": "", "module": {}, "best_return": None, "run_id": None}, path)


DAMAGES = {
    "truncated": (cut_in_half, "last.ckpt: is damaged or not a ppolab checkpoint"),
    "bit": (flip_a_bit, "last.ckpt: is damaged or not a ppolab checkpoint"),
    "malicious": (malicious, "last.ckpt: is damaged or not a ppolab checkpoint (UnpicklingError)"),
    "empty": (with_empty_state, "last.ckpt: does not hold what a ppolab checkpoint of format 2 holds"),
    "other": (of_another_network, "the checkpoint does not fit this run's configuration"),
}
FALLS_BACK = ("truncated", "bit", "empty")


@pytest.fixture(scope="module")
def damaged(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, dict[str, Answer]]:
    """Copies of one run, each with another damage to its last checkpoint, and resumed; some have no second one."""
    workspace = workspace_in(tmp_path_factory.mktemp("damaged"))
    whole = train(workspace, *troubled("nothing"), "total_steps=512", "logger=none")
    assert whole.code == 0, whole.err
    original = only_run(workspace)
    for name, (damage, _) in DAMAGES.items():
        shutil.copytree(original, workspace / name)
        damage(workspace / name / "checkpoints/last.ckpt")
        if name not in FALLS_BACK:
            (workspace / name / "checkpoints/last-1.ckpt").unlink()
    commands = {name: [f"resume={name}", "total_steps=640"] for name in DAMAGES}
    return workspace, train_together(workspace, **commands)


@pytest.mark.parametrize("name", FALLS_BACK)
def test_a_damaged_checkpoint_is_replaced_by_the_one_before_it(
    name: str, damaged: tuple[Path, dict[str, Answer]]
) -> None:
    workspace, answers = damaged
    assert answers[name].code == 0, answers[name].err
    told = answers[name].err.splitlines()[0]
    assert DAMAGES[name][1] in told
    assert f"{name}/checkpoints/last-1.ckpt" in told
    run = workspace / name
    assert last_steps(run) == int(metric_rows(run)[-1]["step"]) >= 640
    steps = [int(row["step"]) for row in metric_rows(run) if row["loss/value"]]
    assert steps == sorted(set(steps))


@pytest.mark.parametrize("name", ["malicious", "other"])
def test_a_foreign_checkpoint_is_refused_and_runs_no_code(name: str, damaged: tuple[Path, dict[str, Answer]]) -> None:
    workspace, answers = damaged
    assert_ends_with(answers[name], DAMAGES[name][1])
    assert not (workspace / "executed").exists()


def test_an_evaluation_refuses_a_malicious_checkpoint(damaged: tuple[Path, dict[str, Answer]]) -> None:
    workspace, _ = damaged
    answer = evaluate(workspace, "run=malicious/checkpoints/last.ckpt", "episodes=1")
    assert_one_line(answer, DAMAGES["malicious"][1], code=1)
    assert not (workspace / "executed").exists()


LARGE = ("env=cartpole", *SMALL, "checkpoint_interval=1", "model.hidden_sizes=[700,700]", "total_steps=100000")
"""Much of its time goes into checkpoints of 12 megabytes."""


def is_tracked(workspace: Path) -> bool:
    """Whether the store has answered with the id of the run."""
    return any(RunFolder(record.parent).run_id() for record in workspace.glob("outputs/*/*/run.json"))


def interrupted_in_a_checkpoint(number: signal.Signals, workspace: Path, *arguments: object) -> Answer:
    process = start_training(workspace, *arguments)
    end = time.monotonic() + 90
    under_way = f"outputs/*/*/checkpoints/.last.ckpt.{process.pid}"
    while not is_tracked(workspace):  # a store that is half made when its maker is killed is another matter
        assert process.poll() is None and time.monotonic() < end
        time.sleep(0.1)
    while True:
        while not (list(workspace.glob(under_way)) and list(workspace.glob("outputs/*/*/checkpoints/last.ckpt"))):
            assert process.poll() is None and time.monotonic() < end
        process.send_signal(signal.SIGSTOP)
        os.waitid(os.P_PID, process.pid, os.WSTOPPED | os.WEXITED | os.WNOWAIT)
        if list(workspace.glob(under_way)):  # it had not come to the file's end meanwhile
            break
        process.send_signal(signal.SIGCONT)
    process.send_signal(number)
    process.send_signal(signal.SIGCONT)
    return ended(process)


def test_a_signal_during_a_checkpoint_leaves_it_whole(tmp_path: Path) -> None:
    killed = interrupted_in_a_checkpoint(signal.SIGKILL, tmp_path, *LARGE)
    assert killed.code == -signal.SIGKILL
    run = only_run(tmp_path)
    folder = run / "checkpoints"
    assert list(folder.glob(".last.ckpt.*")), "it was killed while it wrote"
    before = last_steps(run)
    terminated = interrupted_in_a_checkpoint(signal.SIGTERM, tmp_path, f"resume={run}")
    assert_ends_with(terminated, "everything is saved; go on with", code=130)
    assert last_steps(run) == int(metric_rows(run)[-1]["step"]) > before
    assert load_checkpoint(folder / "last-1.ckpt").module["steps"] < last_steps(run)
    assert not list(folder.glob(".*")), "no half of a file is left"
    assert_tracked(run, store_of(tmp_path), "KILLED")


# --- other files -----------------------------------------------------------------------------------------------------


def test_damaged_records_of_other_runs_do_not_matter(damaged: tuple[Path, dict[str, Answer]]) -> None:
    workspace, _ = damaged
    runs = {"a": ("", "seed: 1\n"), "b": ("{}", "seed: [1\n"), "c": ("[1]", "no_such: 1\n"), "d": ("{", "")}
    for name, (record, config) in runs.items():
        folder = workspace / "outputs" / name
        shutil.copytree(workspace / "truncated", folder)
        (folder / "run.json").write_text(record)
        (folder / "config.yaml").write_text(config)
    answer = train(workspace, "env.id=nowhere:X-v0", *SMALL, "resume=auto", "logger=none")
    assert_one_line(answer, "the module 'nowhere' cannot be imported")  # after the runs were searched
    assert_one_line(train(workspace, "resume=outputs/b"), "config.yaml: cannot be read")
