"""The programs that benchmarks start to train with ppolab itself: they look into its modules, which change."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path
from typing import Any

PEERS = Path(__file__).resolve().parents[2] / "benchmarks" / "peers"
SETTINGS = ("num_envs=4", "rollout_steps=32", "minibatch_size=64", "eval_episodes=2", "logger=none", "progress=off")


def written(tmp_path: Path, program: str, *arguments: str) -> dict[str, Any]:
    """Return what a program writes to its file."""
    out = tmp_path / "out.json"
    done = subprocess.run(
        [sys.executable, str(PEERS / program), "--out", str(out), *arguments], cwd=tmp_path, capture_output=True,
        text=True, timeout=120, check=False,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    found: dict[str, Any] = json.loads(out.read_text())
    return found


def test_returns_against_the_clock(tmp_path: Path) -> None:
    found = written(tmp_path, "ppolab_return.py", "env=cartpole", "total_steps=1024", *SETTINGS)
    clocks = [point["clock"] for point in found["points"]]
    assert len(clocks) > 4 and clocks == sorted(clocks)
    assert found["first_step"] < clocks[0] < found["ended"]
    assert all(8 <= point["return"] <= 500 for point in found["points"])
    assert "ppolab" in found["versions"]


def test_steady_speed(tmp_path: Path) -> None:
    asked = ("--env", "CartPole-v1", "--seed", "0", "--steps", "1024", "--warmup", "500", "target_kl=null")
    found = written(tmp_path, "ppolab_speed.py", *asked, *SETTINGS)
    marks = found["marks"]
    assert [mark["gradient_steps"] for mark in marks] == list(range(20, 20 * len(marks) + 1, 20))  # two an epoch
    assert 500 < found["measured_steps"] < found["steps"] == marks[-1]["steps"]
    assert found["measured_gradient_steps"] == 20 * found["measured_iterations"] > 0
    assert found["measured_seconds"] > 0 and found["torch_threads"] == 1
