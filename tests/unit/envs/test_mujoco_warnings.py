"""MuJoCo's warnings go to the log, not into a file of the current folder."""

from __future__ import annotations

import logging
from collections.abc import Iterator
from pathlib import Path

import mujoco
import pytest

from ppolab.config.schema import EnvConfig
from ppolab.envs import mujoco_warnings
from ppolab.envs.making import make_env


@pytest.fixture(autouse=True)
def _no_handler() -> Iterator[None]:
    mujoco_warnings._told.clear()
    before = mujoco.get_mju_user_warning()
    mujoco.set_mju_user_warning(None)
    yield
    mujoco.set_mju_user_warning(before)


def test_a_warning_is_logged_and_leaves_no_file(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.chdir(tmp_path)
    env = make_env(EnvConfig(id="HalfCheetah-v5"))
    env.close()
    with caplog.at_level(logging.INFO):
        for text in ("unstable at time 0.5", "unstable at time 1.5", "'settotalmass' is deprecated"):
            mujoco.get_mju_user_warning()(text)
    assert [record.getMessage() for record in caplog.records] == ["MuJoCo: unstable at time 0.5"]
    assert list(tmp_path.iterdir()) == []


def test_a_handler_of_the_user_stays() -> None:
    told: list[str] = []
    mujoco.set_mju_user_warning(told.append)
    make_env(EnvConfig(id="Hopper-v5")).close()
    mujoco.get_mju_user_warning()("odd")
    assert told == ["odd"]
