"""The commands as functions of Python: what they return and raise, and that they leave the caller alone."""

from __future__ import annotations

import ast
import logging
import random
import signal
import sys
import threading
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from in_process import process_state

import ppolab
from ppolab.config.schema import Config
from ppolab.errors import ConfigError, InterruptedRun, PpolabError

TINY = [
    "env=cartpole", "env.backend=gymnasium", "num_envs=2", "rollout_steps=16", "minibatch_size=16", "epochs=1",
    "total_steps=64", "eval_episodes=1", "logger=none", "model.hidden_sizes=[8]", "compile=false",
]  # fmt: skip


def whole_state() -> dict[str, Any]:
    """All that a call must leave as it was."""
    return process_state() | {
        "python": random.getstate(),
        "numpy": str(np.random.get_state()),
        "torch": torch.get_rng_state().tolist(),
        "threads": torch.get_num_threads(),
        "gradients": torch.is_grad_enabled(),
    }


def without_times(result: ppolab.RunResult) -> dict[str, float]:
    return {name: value for name, value in result.metrics.items() if not name.startswith("time/")}


def test_importing_ppolab_imports_nothing_else() -> None:
    body = ast.parse(Path(ppolab.__file__).read_text()).body
    imported = [ast.unparse(node) for node in body if isinstance(node, ast.Import | ast.ImportFrom)]
    assert imported == ["import importlib", "from typing import TYPE_CHECKING"]


def test_every_name_is_there_and_listed() -> None:
    for name in ppolab.__all__:
        assert getattr(ppolab, name).__name__ == name
        assert name in dir(ppolab)
    with pytest.raises(AttributeError, match="module 'ppolab' has no attribute 'predict'"):
        ppolab.predict  # noqa: B018


def test_a_run_is_trained_twice_alike_and_the_caller_is_left_alone() -> None:
    torch.set_num_threads(2)
    root = logging.getLogger()
    handler = logging.FileHandler("callers.log", mode="w")
    root.addHandler(handler)
    try:
        before = whole_state()
        first, second = (ppolab.train([*TINY, "seed=3"]) for _ in range(2))
        assert whole_state() == before
        root.warning("still open")
        assert "still open" in Path("callers.log").read_text()
    finally:
        torch.set_num_threads(1)
        root.removeHandler(handler)
        handler.close()
    assert first.folder.path != second.folder.path
    assert first.config.seed == 3
    assert without_times(first) == without_times(second)
    agent = first.agent("last")
    assert agent.folder == first.folder.path
    assert agent.act(np.zeros(4)) in (0, 1)
    assert agent.steps == first.steps == 92  # 64, and the rollout that fills the statistics
    assert ppolab.load(first.folder.path, "last").evaluate(2) == agent.evaluate(2)


def test_a_run_remembers_which_run_of_a_name_it_started_from() -> None:
    first = ppolab.train(TINY)
    second = ppolab.train([*TINY, "init_from=CartPole-v1-seed0"])
    assert second.config.init_from == str(first.folder.path.absolute())


@pytest.mark.parametrize(
    ("settings", "told"),
    [
        (["clip=2"], "clip=2.0: must lie strictly between 0 and 1"),
        (["clipp=0.1"], "clipp: no such setting; did you mean 'clip'?"),
        (["env=nope"], "env=nope: no such option"),
        (["env.id=CartPol-v1"], "no such registered environment; did you mean 'CartPole-v1'?"),
        (["resume=0123456789abcdef0123456789abcdef"], "there is no such run id under"),
        (["-m", "clip=0.1,0.2"], "-m: ppolab.train makes one run; call it for each of them"),
        (["hydra.mode=MULTIRUN"], "-m: ppolab.train makes one run; call it for each of them"),
        (["clip=0.1,0.2"], "several values make a sweep"),
        (["--cfg=job"], "--cfg=job: only shows something; leave it out, or type it after ppolab-train"),
        (["--help"], "--help: only shows something"),
        (["--version"], "--version: only shows something"),
        (["--seed=3"], "--seed=3: a setting is written without dashes; write seed=3"),
        ([3], "3: settings are texts, such as 'env=hopper'"),
        ("env=hopper", "env=hopper: settings are a list of texts; write ['env=hopper']"),
    ],
)
def test_a_mistake_is_raised_in_one_line_and_the_caller_is_left_alone(
    settings: Any, told: str, capsys: pytest.CaptureFixture[str]
) -> None:
    before = whole_state()
    with pytest.raises(ConfigError) as raised:
        ppolab.train(settings)
    assert told in str(raised.value)
    assert "\n" not in str(raised.value)
    assert whole_state() == before
    assert capsys.readouterr() == ("", "")
    assert not Path("outputs").exists()


def test_a_password_is_in_no_message() -> None:
    with pytest.raises(PpolabError) as raised:
        ppolab.train([*TINY, "logger=mlflow", "logger.tracking_uri=ftp://me:hunter2@lab"])
    assert "hunter2" not in str(raised.value) and "ftp://" in str(raised.value)


def test_a_run_may_be_trained_in_another_thread() -> None:
    results: list[Any] = []
    before = whole_state()

    def work() -> None:
        try:
            results.append(ppolab.train(TINY))
        except BaseException as error:
            results.append(error)

    thread = threading.Thread(target=work)
    thread.start()
    thread.join()
    assert isinstance(results[0], ppolab.RunResult), results
    assert whole_state() == before


PRESSING = """
import signal
from pytorch_lightning import Callback

class Once(Callback):
    times = 1

    def on_train_batch_start(self, *_):
        for _ in range(self.times):
            signal.raise_signal(signal.SIGINT)

class Twice(Once):
    times = 2
"""


@pytest.mark.parametrize(("callback", "error"), [("Once", InterruptedRun), ("Twice", KeyboardInterrupt)])
def test_ctrl_c_raises_and_the_run_can_go_on(
    callback: str, error: type[BaseException], monkeypatch: pytest.MonkeyPatch
) -> None:
    Path("pressing.py").write_text(PRESSING)
    monkeypatch.delitem(sys.modules, "pressing", raising=False)
    before = whole_state()
    many = "total_steps=1000"
    with pytest.raises(error) as raised:
        ppolab.train([*TINY, many, f"callbacks=[pressing:{callback}]", "hydra.run.dir=run"])
    assert whole_state() == before
    assert signal.getsignal(signal.SIGINT) is signal.default_int_handler
    if error is InterruptedRun:
        assert "of 1,000 steps, everything is saved; go on with: " in str(raised.value)
        assert ppolab.train(["resume=run", "total_steps=1100", "callbacks=[]"]).new_steps > 1000
    else:
        assert not list(Path("run/checkpoints").glob("*"))


def test_composing_gives_the_checked_configuration_of_a_run() -> None:
    before = whole_state()
    config = ppolab.compose(["env=hopper", "clip=0.1", "optimizer.lr=1e-3"])
    assert isinstance(config, Config)
    assert (config.env.id, config.clip, config.optimizer["lr"]) == ("Hopper-v5", 0.1, 0.001)
    assert whole_state() == before
    with pytest.raises(ConfigError, match="algorithm=trpo does not read"):
        ppolab.compose(["algorithm=trpo", "clip=0.1"])
    assert not Path("outputs").exists()


def test_composing_a_run_that_goes_on_gives_what_it_had_stored() -> None:
    result = ppolab.train([*TINY, "gamma=0.9"])
    config = ppolab.compose([f"resume={result.folder.path}", "total_steps=200"])
    assert (config.gamma, config.total_steps, config.num_envs) == (0.9, 200, 2)


@pytest.mark.parametrize(
    ("arguments", "told"),
    [
        (("nothing",), "run=nothing: there is no such run id"),
        (("nothing", "newest"), "checkpoint=newest: must be one of best, last"),
    ],
)
def test_a_run_that_cannot_be_loaded_is_told_in_one_line(arguments: tuple[str, ...], told: str) -> None:
    before = whole_state()
    with pytest.raises(ConfigError, match=told):
        ppolab.load(*arguments)
    assert whole_state() == before


def test_loading_leaves_the_caller_alone() -> None:
    result = ppolab.train(TINY)
    before = whole_state()
    ppolab.load(result.folder.path)
    assert whole_state() == before


def test_a_report_without_a_store_is_told_in_one_line() -> None:
    before = whole_state()
    with pytest.raises(ConfigError, match="there is no such store; train first"):
        ppolab.report(["experiment=ppolab"])
    with pytest.raises(ConfigError, match=r"^--help: only shows something; .* type it after ppolab-report"):
        ppolab.report(["--help"])
    assert whole_state() == before
