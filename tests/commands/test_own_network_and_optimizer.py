"""A network and an optimizer of the user's own, as the documentation has them, from the folder of the command."""

from __future__ import annotations

import json
import re
from pathlib import Path

import pytest
import yaml
from resumed_runs import assert_equal

from commands import ROOT, TINY, assert_one_line, evaluate, train
from ppolab.envs import envpool_ids
from ppolab.records.checkpoint import load_checkpoint

SMALL = (
    "env=cartpole", *TINY, "logger=none", "logger.video=false", "anneal_lr=false", "epochs=2",
    "checkpoint_interval=100",
)  # fmt: skip
NETWORK = ("model.network=my_networks:Residual", "model.kwargs.width=16")
OPTIMIZER = ("optimizer.class=my_optimizers:Lion", "optimizer.betas=[0.9,0.95]", "optimizer.lr=1e-3")


@pytest.fixture
def workspace(tmp_path: Path) -> Path:
    page = (ROOT / "docs" / "extending.md").read_text()
    for name in ("my_networks.py", "my_optimizers.py", "my_image_networks.py"):
        (code,) = re.findall(rf"```python\n(# {re.escape(name)}\n.*?)```", page, re.DOTALL)
        (tmp_path / name).write_text(code)
    return tmp_path


def test_they_train_resume_exactly_and_are_evaluated(workspace: Path) -> None:
    answer = train(workspace, *SMALL, *NETWORK, *OPTIMIZER, "total_steps=512", "hydra.run.dir=whole")
    assert answer.code == 0, answer.err
    config = yaml.safe_load((workspace / "whole/config.yaml").read_text())
    assert (config["model"]["network"], config["model"]["kwargs"]) == ("my_networks:Residual", {"width": 16})
    assert config["optimizer"] == {"_target_": "my_optimizers:Lion", "lr": 0.001, "betas": [0.9, 0.95]}

    assert train(workspace, *SMALL, *NETWORK, *OPTIMIZER, "total_steps=256", "hydra.run.dir=parts").code == 0
    assert train(workspace, "resume=parts", "total_steps=512").code == 0
    ends = [load_checkpoint(workspace / run / "checkpoints/last.ckpt").module for run in ("whole", "parts")]
    assert_equal(*({**end, "seconds": 0} for end in ends))

    assert evaluate(workspace, "run=whole", "video=false", "episodes=3").code == 0
    (result,) = (json.loads(path.read_text()) for path in workspace.glob("whole/evaluations/*/result.json"))
    assert len(result["returns"]) == 3
    (workspace / "elsewhere").mkdir()
    assert_one_line(
        evaluate(workspace / "elsewhere", "run=../whole", "video=false"),
        "model.network=my_networks:Residual: the module 'my_networks' cannot be imported; install it",
    )


@pytest.mark.skipif(not envpool_ids.is_installed(), reason="EnvPool has no build for this platform")
def test_a_network_for_a_grid_trains_and_is_evaluated(workspace: Path) -> None:
    grid = ("env.id=MiniGrid-DoorKey-8x8-v0", *TINY, "logger=none", "env.kwargs.max_episode_steps=20")
    own = ("model.trunk=shared", "model.network=my_image_networks:GridAndDirection")
    answer = train(workspace, *grid, *own, "total_steps=256", "hydra.run.dir=run")
    assert answer.code == 0, answer.err
    policy = load_checkpoint(workspace / "run/checkpoints/last.ckpt").module["policy"]
    assert policy["actor.network.direction.weight"].shape == (64, 4)
    assert evaluate(workspace, "run=run", "video=false", "episodes=1").code == 0
    assert_one_line(
        train(workspace, *grid, "model.encoder.img=my_image_networks:Convolutions"),
        "model.encoder.img=my_image_networks:Convolutions: the observation has no image img; its images are image",
    )


@pytest.mark.parametrize(
    ("settings", "told"),
    [
        (("model.network=my_networks:Residul",), "has no Residul; did you mean 'Residual'?"),
        (("model.network=my_networks:Residual", "model.kwargs.depth=2"), "raised TypeError: "),
        (("optimizer.class=my_optimizers:Lion", "optimizer.rho=2"), "optimizer.rho=2: my_optimizers:Lion has no such"),
    ],
)
def test_a_mistake_is_one_line_and_leaves_no_folder(workspace: Path, settings: tuple[str, ...], told: str) -> None:
    assert_one_line(train(workspace, *SMALL, *settings, "hydra.run.dir=run"), told)
    assert not (workspace / "run").exists()
