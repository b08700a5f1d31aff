"""Exported policies: they act as the policy does, without ppolab, and a failed export leaves nothing."""

from __future__ import annotations

import json
import os
import re
import subprocess
import sys
from pathlib import Path
from typing import Any

import gymnasium
import numpy as np
import onnx
import onnxruntime
import probe_envs  # noqa: F401
import pytest
import torch
from in_process import call
from small_runs import run_small
from torch import nn

from commands import ROOT, assert_one_line
from ppolab.agents import export, export_check
from ppolab.agents.agent import Agent
from ppolab.agents.export import export_policy
from ppolab.agents.trained_policy import TrainedPolicy, load_policy
from ppolab.cli.commands import export_main
from ppolab.envs.action_masks import network_space
from ppolab.envs.spaces import first_action, parts_of, stacked
from ppolab.errors import ConfigError, ExportError
from ppolab.records.run_folder import FoundRun, RunFolder

PLAYER = ROOT / "docs/examples/play_onnx.py"
WITHOUT_PPOLAB = """
import runpy, sys
class Absent:
    def find_spec(self, name, path=None, target=None):
        if name.partition(".")[0] in ("ppolab", "torch"):
            raise ImportError(f"{name} must not be imported")
sys.meta_path.insert(0, Absent())
sys.argv = sys.argv[1:]
import probe_envs
runpy.run_path(sys.argv[0], run_name="__main__")
"""
TASKS: dict[str, dict[str, Any]] = {
    "Hopper": {"env": "hopper", "total_steps": 1024},
    "CartPole": {"env": "cartpole", "total_steps": 1024},
    "memory": {"env": "cartpole", "total_steps": 1024, "model.memory": "lstm", "model.memory_size": 8},
    "images and memory": {
        "env.id": "probe_envs:probe/Dot-v0", "+env.kwargs": {"mixed": True}, "total_steps": 512, "model.memory": "gru",
    },
    "Dict": {"env.id": "probe_envs:probe/Parts-v0", "total_steps": 2048},
    "images": {"env.id": "probe_envs:probe/Dot-v0", "+env.kwargs": {"mixed": True}, "total_steps": 512},
    "MultiDiscrete": {"env.id": "probe_envs:probe/Parts-v0", "+env.kwargs": {"flat": True}, "total_steps": 2048},
    "actions in parts": {"env.id": "probe_envs:probe/Orders-v0", "total_steps": 2048},
    "masks": {
        "env.id": "probe_envs:probe/Allowed-v0",
        "+env.kwargs": {"place": "observation", "sizes": [3, 4], "combined": True, "lowest": -1},
    },
    "masks and memory": {
        "env.id": "probe_envs:probe/Allowed-v0", "+env.kwargs": {"place": "observation", "sizes": [3, 4]},
        "model.memory": "gru",
    },
}  # fmt: skip

ROUNDING = {
    "memory": 1e-5,
    "images and memory": 1e-5,
    "masks": 0,
    "masks and memory": 1e-5,
    "images": 0.0,
    "Hopper": 1e-6,
    "CartPole": 0,
    "Dict": 0,
    "MultiDiscrete": 0,
    "actions in parts": 5e-6,
}
"""The greatest difference of an action; half of the range is 1 in Hopper, 5 in the amount of an order."""


@pytest.fixture(scope="module")
def trained(tmp_path_factory: pytest.TempPathFactory) -> dict[str, TrainedPolicy]:
    """A policy of each task, after a short training."""
    found = {}
    for name, settings in TASKS.items():
        folder = tmp_path_factory.mktemp(name)
        run_small(folder, **settings)
        found[name] = load_policy(FoundRun(RunFolder(folder), RunFolder(folder).checkpoint("best")))
    return found


def played(policy: TrainedPolicy, episodes: int) -> list[float]:
    """The returns of the policy itself, in the loop of the example."""
    agent, returns = Agent(policy), []
    with gymnasium.make(policy.config.env.id, **policy.config.env.kwargs) as env:
        for seed in range(episodes):
            observation, _ = env.reset(seed=seed)
            agent.reset()
            total, ended = 0.0, False
            while not ended:
                actions = agent.act(stacked([observation], env.observation_space))
                action = first_action(actions, env.action_space)
                observation, reward, terminated, truncated, _ = env.step(action)
                total, ended = total + float(reward), terminated or truncated
            returns.append(total)
    return returns


@pytest.mark.parametrize("task", TASKS)
def test_the_onnx_file_plays_the_same_episodes_without_ppolab(
    task: str, trained: dict[str, TrainedPolicy], tmp_path: Path
) -> None:
    path = tmp_path / "policy.onnx"
    result = Agent(trained[task]).export(path)
    assert result.observations == 1000
    assert result.greatest_difference <= ROUNDING[task]
    command = [sys.executable, "-c", WITHOUT_PPOLAB, str(PLAYER), str(path), "5"]
    variables = {**os.environ, "PYTHONPATH": str(ROOT / "tests/support")}
    done = subprocess.run(command, capture_output=True, text=True, check=False, env=variables)
    assert done.returncode == 0, done.stderr
    expected = played(trained[task], 5)
    seen = [float(line.rpartition(" ")[2]) for line in done.stdout.splitlines()]
    exact = ROUNDING[task] == 0  # else a simulator of floating numbers enlarges the rounding
    assert seen == (expected if exact else pytest.approx(expected, rel=1e-6))
    assert len(set(expected)) > 1


def test_inputs_batch_and_metadata_of_an_onnx_file(trained: dict[str, TrainedPolicy], tmp_path: Path) -> None:
    path = tmp_path / "policy.onnx"
    export_policy(trained["Dict"], "onnx", path)
    session = onnxruntime.InferenceSession(path, providers=["CPUExecutionProvider"])
    assert {found.name: (found.type, found.shape) for found in session.get_inputs()} == {
        "observation.pair.0": ("tensor(int64)", ["batch"]),
        "observation.pair.1": ("tensor(float)", ["batch", 1]),
        "observation.place.lamp": ("tensor(int8)", ["batch", 2]),
        "observation.place.x": ("tensor(float)", ["batch", 2]),
        "observation.shown": ("tensor(int64)", ["batch", 2]),
    }
    assert [(found.name, found.type, found.shape) for found in session.get_outputs()] == [
        ("action", "tensor(int64)", ["batch", 2])
    ]
    facts = session.get_modelmeta().custom_metadata_map
    assert (facts["environment"], facts["environment_kwargs"]) == ("probe_envs:probe/Parts-v0", "{}")
    assert (facts["checkpoint"], facts["steps"]) == ("best", str(trained["Dict"].steps))
    assert json.loads(facts["action_space"]) == {
        "type": "MultiDiscrete", "shape": [2], "dtype": "int64", "nvec": [3, 4], "start": [1, -2],
    }  # fmt: skip
    assert float(facts["greatest_difference"]) == 0
    assert json.loads(facts["observation_space"])["spaces"]["place"]["spaces"]["x"]["high"] == ["inf", "inf"]


def test_outputs_of_actions_in_parts_are_named_by_their_place(
    trained: dict[str, TrainedPolicy], tmp_path: Path
) -> None:
    path = tmp_path / "policy.onnx"
    export_policy(trained["actions in parts"], "onnx", path)
    session = onnxruntime.InferenceSession(path, providers=["CPUExecutionProvider"])
    assert {found.name: (found.type, found.shape) for found in session.get_outputs()} == {
        "action.how.0": ("tensor(float)", ["batch", 1]),
        "action.which": ("tensor(int64)", ["batch"]),
    }
    space = json.loads(session.get_modelmeta().custom_metadata_map["action_space"])
    assert space["spaces"]["which"] == {"type": "Discrete", "shape": [], "dtype": "int64", "n": 3, "start": 1}
    assert space["spaces"]["how"]["spaces"][0]["high"] == [10.0]


@pytest.mark.parametrize("task", ["Hopper", "Dict", "actions in parts"])
def test_a_torch_export_plays_and_says_what_it_is(task: str, trained: dict[str, TrainedPolicy], tmp_path: Path) -> None:
    path = tmp_path / "policy.pt2"
    assert export_policy(trained[task], "torch_export", path).greatest_difference <= ROUNDING[task]
    extra = {"metadata.json": ""}
    module = torch.export.load(path, extra_files=extra).module()
    assert json.loads(extra["metadata.json"])["environment"] == trained[task].config.env.id
    space = trained[task].observation_space
    space.seed(3)
    for size in (1, 7):
        batch = stacked([space.sample() for _ in range(size)], space)
        actions = module(export.as_tensors(batch))
        both = (parts_of(each, trained[task].action_space) for each in (actions, Agent(trained[task]).act(batch)))
        for seen, expected in zip(*both, strict=True):
            assert np.allclose(seen.numpy(), expected, rtol=0, atol=5e-6)


def test_a_torch_export_takes_an_observed_mask_as_the_page_says(
    trained: dict[str, TrainedPolicy], tmp_path: Path
) -> None:
    (code,) = re.findall(r"```python\n(import numpy.*?)```", (ROOT / "docs/export.md").read_text(), re.DOTALL)
    path = tmp_path / "policy.pt2"
    export_policy(trained["masks"], "torch_export", path)
    space = trained["masks"].observation_space
    space.seed(3)
    batch = stacked([space.sample() for _ in range(7)], space)
    batch["action_mask"][:, 0] = 1  # something is allowed
    with gymnasium.make(trained["masks"].config.env.id, **trained["masks"].config.env.kwargs) as env:
        names = {"env": env, "batch": dict(reversed(batch.items()))}
        exec(code.replace('"policy.pt2"', repr(str(path))), names)
    assert np.array_equal(names["actions"].numpy(), Agent(trained["masks"]).act(batch))


def test_a_torch_export_takes_the_keys_in_the_order_of_the_environment() -> None:
    box = gymnasium.spaces.Box(0, 1, (2,))
    observed = gymnasium.spaces.Dict([("z", box), ("action_mask", gymnasium.spaces.MultiBinary(3)), ("a", box)])
    seen = network_space(observed, gymnasium.spaces.Discrete(3))
    assert isinstance(seen, gymnasium.spaces.Dict) and list(seen.spaces) == ["a", "z"]
    ordered = export._in_order_of(seen, observed)
    assert isinstance(ordered, gymnasium.spaces.Dict) and list(ordered.spaces) == ["z", "a"]


def test_the_command_writes_into_the_folder_of_the_run(
    trained: dict[str, TrainedPolicy], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    run = trained["CartPole"].run.folder.path
    answer = call(export_main, tmp_path, capsys, f"run={run}", "checkpoint=last")
    assert (answer.code, answer.err) == (0, "")
    assert "compared      1,000 observations; greatest difference of an action 0\n" in answer.out
    told = [line.partition(" ")[0] for line in answer.out.splitlines()]
    assert told[:2] == ["writing", "comparing"], "what takes long is told when it begins"
    facts = {entry.key: entry.value for entry in onnx.load(run / "export/policy.onnx").metadata_props}
    assert facts["checkpoint"] == "last"


# --- what goes wrong -------------------------------------------------------------------------------------------------


def test_an_export_that_acts_otherwise_is_refused_and_leaves_nothing(
    trained: dict[str, TrainedPolicy], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    original = export.PolicyModule.forward
    monkeypatch.setattr(export.PolicyModule, "forward", lambda self, observation: original(self, observation * 1.01))
    with pytest.raises(ExportError, match=r"acts otherwise than the policy: \d+ of 3 numbers differ"):
        export_policy(trained["Hopper"], "torch_export", tmp_path / "policy.pt2")
    assert not list(tmp_path.iterdir())


def test_whole_numbers_may_differ_in_a_tie_only() -> None:
    space = gymnasium.spaces.Discrete(2)
    expected = np.zeros(1000, dtype=np.int64)
    for wrong, refused in ((2, False), (3, True)):
        seen = expected.copy()
        seen[:wrong] = 1
        if refused:
            with pytest.raises(ExportError, match="3 of 1000 numbers differ, by up to 1"):
                export_check._difference(expected, seen, space)
        else:
            assert export_check._difference(expected, seen, space) == 1


class OfNoFormat(nn.Module):
    """Ends in an operator that ONNX does not have."""

    def forward(self, values: torch.Tensor) -> torch.Tensor:
        return torch.special.bessel_j0(values)


class Branches(nn.Module):
    """Takes a path that depends on its input."""

    def forward(self, values: torch.Tensor) -> torch.Tensor:
        return values if values.sum() > 0 else -values


@pytest.mark.parametrize(
    ("layer", "told"),
    [
        (OfNoFormat(), r"^ONNX cannot hold the network: there is no operator for \w+\.bessel_j0"),
        (Branches(), r"^torch\.export cannot hold the network: "),
    ],
)
def test_what_a_format_cannot_hold_is_named(
    layer: nn.Module, told: str, trained: dict[str, TrainedPolicy], tmp_path: Path
) -> None:
    policy = load_policy(trained["CartPole"].run)
    policy.policy.actor.append(layer)
    with pytest.raises(ExportError, match=told) as caught:
        export_policy(policy, "onnx", tmp_path / "policy.onnx")
    assert "\n" not in str(caught.value)
    assert not list(tmp_path.iterdir())


def test_a_path_that_cannot_be_written(trained: dict[str, TrainedPolicy], tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    with pytest.raises(ConfigError, match=r"^path=.*: cannot be written: .*; choose another path$"):
        export_policy(trained["CartPole"], "onnx", tmp_path / "file" / "policy.onnx")


@pytest.mark.parametrize(
    ("arguments", "told"),
    [
        ((), "run=RUN: is missing"),
        (("run=nowhere",), "run=nowhere: there is no such run id, run name, folder or checkpoint"),
        (("run=.", "fromat=onnx"), "fromat: no such setting; did you mean 'format'?"),
        (("run=.", "format=tf"), "format=tf: must be one of onnx, torch_export, mlflow"),
        (("run={run}", "format=mlflow"), "format=mlflow: needs the registered model's name; add name=NAME"),
        (("run={run}", "name=pole"), "name=pole: only goes with format=mlflow"),
        (("run={run}", "path=."), "path=.: is a folder; name a file in it, such as policy.onnx"),
        (("run={run}", "format=mlflow", "name=a/b"), "name=a/b: must be a name without / and :"),
    ],
)
def test_mistakes_are_answered_in_one_line(
    arguments: tuple[str, ...],
    told: str,
    trained: dict[str, TrainedPolicy],
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
) -> None:
    run = trained["CartPole"].run.folder.path
    assert_one_line(call(export_main, tmp_path, capsys, *(part.format(run=run) for part in arguments)), told)


def test_packages_that_are_not_installed(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("importlib.util.find_spec", lambda name: None)
    answer = call(export_main, tmp_path, capsys, "run=nowhere")
    told = "format=onnx: onnx and onnxscript and onnxruntime are not installed; pip install 'ppolab[onnx]'"
    assert_one_line(answer, told)


def test_a_long_comparison_tells_how_far_it_is(
    trained: dict[str, TrainedPolicy], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(export_check, "TOLD_SECONDS", 0.0)
    told: list[str] = []
    export_policy(trained["CartPole"], "onnx", tmp_path / "policy.onnx", told.append)
    assert told[0] == f"writing       {tmp_path / 'policy.onnx'}"
    assert told[1] == "comparing     on 1,000 observations of CartPole-v1"
    shares = [int(line.split()[1].removesuffix("%")) for line in told[2:]]
    assert shares == sorted(shares) and shares[0] == 0 and shares[-1] == 100
