"""The real commands before a run begins: some mistakes (the others are in tests/unit/cli), help, light imports."""

from __future__ import annotations

import json
import sys
from pathlib import Path

import pytest
import yaml
from in_process import call, process_state

from commands import ROOT, TINY, TRAIN, assert_one_line, evaluate, metric_rows, run_command, train, write_user_module
from ppolab.cli.commands import train_main
from ppolab.config.algorithms import ABOUT
from ppolab.config.schema import flattened
from ppolab.errors import spelled

HEAVY = ("torch", "pytorch_lightning", "mlflow", "envpool", "mujoco", "matplotlib", "optuna")


MISTAKES = {
    "mistyped key": ("clipp=0.1", "clipp", "'clip'"),
    "unknown environment": ("env.id=Hoper-v5", "env.id=Hoper-v5", "'Hopper-v5'"),
    "words": ("env.id=user_module:Words-v0", "env.id=user_module:Words-v0", "Text(1, 5", "supported"),
    "space of networks that it cannot use": (
        "-m search=network algorithm=trpo", "model.trunk=shared", "algorithm=trpo", "set model.trunk=separate",
    ),
    "study in which one algorithm does not read it": (
        "-m algorithm=choice(ppo_clip,trpo) clip=interval(0.1,0.2)", "clip=", "algorithm=trpo", "does not read",
    ),
}  # fmt: skip


@pytest.mark.parametrize("mistake", MISTAKES)
def test_mistake_is_answered_in_one_line_and_leaves_nothing(mistake: str, tmp_path: Path) -> None:
    write_user_module(tmp_path)
    arguments, *expected = MISTAKES[mistake]
    assert_one_line(train(tmp_path, *arguments.split()), *expected)
    left = {path.name for path in tmp_path.iterdir()} - {"user_module.py", "__pycache__"}
    assert left == set()


def test_evaluation_of_an_unknown_run(tmp_path: Path) -> None:
    assert_one_line(evaluate(tmp_path, "run=nowhere"), "run=nowhere", "no such run")
    assert list(tmp_path.iterdir()) == []


def test_a_folder_with_equals_sign_and_comma_is_evaluated_and_resumed(tmp_path: Path) -> None:
    folder, typed = "o/clip=0.1,seed=3", ("env=cartpole", *TINY, "total_steps=64", "logger=none", "clip=0.1")
    answer = train(tmp_path, *typed, f"hydra.run.dir={folder}")
    assert answer.code == 0, answer.err
    answer = evaluate(tmp_path, f"run={tmp_path / folder}", "episodes=2", "video=false")
    assert answer.code == 0, answer.err
    assert f"{folder}/checkpoints/best.ckpt after" in answer.out
    answer = train(tmp_path, f"resume={folder}", "total_steps=128")
    assert answer.code == 0, answer.err
    assert int(metric_rows(tmp_path / folder)[-1]["step"]) >= 128
    assert {path.name for path in tmp_path.iterdir()} == {"o"}


def test_two_runs_in_one_process_are_alike_and_leave_it_as_it_was(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    run = ("env=cartpole", "env.backend=gymnasium", *TINY, "total_steps=64", "logger=none", "trainer.threads=1")
    before = process_state()
    for name in ("first", "second"):
        answer = call(train_main, tmp_path, capsys, *run, f"hydra.run.dir={name}")
        assert (answer.code, answer.err) == (0, "CartPole-v1 on gymnasium: 4 environments x 16 steps\n")
        assert "eval return" in answer.out
    assert process_state() == before
    rows = [
        [{key: value for key, value in row.items() if not key.startswith("time/")} for row in metric_rows(folder)]
        for folder in (tmp_path / "first", tmp_path / "second")
    ]
    assert rows[0] == rows[1] != []


ASK_FOR_MODULES = """
import json, sys
script, heavy, *arguments = sys.argv[1:]
sys.path.insert(0, script)
sys.argv = ["train.py", *arguments]
from ppolab.cli.commands import train
try:
    train()
finally:
    print("\\n" + json.dumps([name for name in heavy.split(",") if name in sys.modules]))
"""


@pytest.mark.parametrize(
    "argument",
    [
        "--help",
        "--cfg=job",
        "clipp=0.1",
        "minibatch_size=100",
        "resume=nowhere",
        "algorithm=trpo clip=0.1",
    ],
)
def test_answers_without_heavy_imports(argument: str, tmp_path: Path) -> None:
    command = (sys.executable, "-c", ASK_FOR_MODULES, TRAIN.parent, ",".join(HEAVY), *argument.split("="))
    if not argument.startswith("--"):
        command = (*command[:5], *argument.split())
    answer = run_command(tmp_path, command)
    assert json.loads(answer.out.splitlines()[-1]) == []


def test_an_unknown_environment_is_looked_for_in_envpool_and_nothing_else_is_imported(tmp_path: Path) -> None:
    heavy = ",".join(name for name in HEAVY if name not in ("envpool", "matplotlib"))  # EnvPool imports the other
    command = (sys.executable, "-c", ASK_FOR_MODULES, TRAIN.parent, heavy, "env.id=Pongg-v5")
    answer = run_command(tmp_path, command)
    assert "did you mean 'Pong-v5'?" in answer.err
    assert json.loads(answer.out.splitlines()[-1]) == []


@pytest.mark.parametrize("argument", ["--help", "clipp=0.1", "minibatch_size=100"])
def test_answers_without_numbers_and_environments(argument: str, tmp_path: Path) -> None:
    command = (sys.executable, "-c", ASK_FOR_MODULES, TRAIN.parent, "numpy,gymnasium", argument)
    assert json.loads(run_command(tmp_path, command).out.splitlines()[-1]) == []


AT_THE_FIRST_STEP = """
import os, sys
script, *unwanted = sys.argv[1:]
sys.path.insert(0, script)
sys.argv = ["train.py", *unwanted[1:]]
from ppolab.envs.envpool_backend import EnvPoolEnv

def report(*_):
    print(*(name for name in unwanted[0].split(",") if name in sys.modules))
    sys.stdout.flush()
    os._exit(0)

EnvPoolEnv.send = EnvPoolEnv.begin_calls = report
from ppolab.cli.commands import train
train()
"""
LATER = (
    "mlflow", "matplotlib", "scipy", "optuna", "mujoco", "imageio", "pygame", "pandas", "sklearn", "tensorboard",
    "torchvision", "envpool.jumanji", "torch._dynamo",
)  # fmt: skip
"""What a run needs after its first step, or never."""


@pytest.mark.parametrize("name", ["hopper", "cartpole"])
def test_first_step_waits_for_nothing_it_does_not_need(name: str, tmp_path: Path) -> None:
    pytest.importorskip("envpool")
    command = (sys.executable, "-c", AT_THE_FIRST_STEP, TRAIN.parent, ",".join(LATER), f"env={name}")
    answer = run_command(tmp_path, command)
    assert (answer.code, answer.out) == (0, "\n"), answer.err


@pytest.mark.parametrize("arguments", [(), ("env=ant", "optimizer=sgd")])
def test_help_has_the_groups_and_the_values_that_hydra_composes(arguments: tuple[str, ...], tmp_path: Path) -> None:
    page = train(tmp_path, "--help", "all", *arguments).out
    groups, _, settings = page.partition("== Groups: ")[2].partition("== Settings: ")
    assert groups in train(tmp_path, "--help", "--resolve", *arguments).out  # Hydra's own
    values = flattened(yaml.safe_load(train(tmp_path, "--cfg=job", *arguments).out))
    for key, value in values.items():
        text = f"[{','.join(map(str, value))}]" if isinstance(value, list) else spelled(value)
        fact = key.startswith("algorithm.") and key.split(".")[1] in ABOUT
        assert (f"\n{key}={text}" in settings) != fact, key


def test_help_with_another_flag_knows_a_folder_of_ones_own(tmp_path: Path) -> None:
    (tmp_path / "mine/env").mkdir(parents=True)
    (tmp_path / "mine/env/of_mine.yaml").write_text("id: CartPole-v1\n")
    answer = train(tmp_path, "--help", "--config-dir=mine", "env=of_mine")
    assert (answer.code, answer.err) == (0, "")
    assert "of_mine" in answer.out


def test_help_lists_groups_and_settings(tmp_path: Path) -> None:
    answer = train(tmp_path, "--help", "all")
    assert (answer.code, answer.err) == (0, "")
    for group in (path.name for path in (ROOT / "conf").iterdir() if path.is_dir() and path.name != "hydra"):
        assert f"\n{group}: " in answer.out
    assert "\nclip=0.2 " in answer.out
    assert "cartpole" in answer.out
    assert list(tmp_path.iterdir()) == []


def test_search_space_composes(tmp_path: Path) -> None:
    answer = train(tmp_path, "search=clip_grid", "--cfg", "hydra", "--package", "hydra.sweeper")
    assert (answer.code, answer.err) == (0, "")
    assert "clip: 0.1,0.2,0.3" in answer.out
