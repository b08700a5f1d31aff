"""The list of metrics is what a training really logs."""

from __future__ import annotations

import re
from pathlib import Path

from helpers import make_config

from ppolab.config.algorithms import algorithm_names, metrics_of
from ppolab.config.files import comments_in, option_file
from ppolab.config.metrics import METRIC_WORDS, METRICS, metric_names, run_metrics
from ppolab.records.metrics_file import read_metrics
from ppolab.records.run_folder import RunFolder
from ppolab.training.run import run


def test_a_run_logs_every_metric_and_no_other(tmp_path: Path) -> None:
    config = make_config(
        "env=pendulum", "logger=none", "algorithm=ppo_penalty", "env.backend=gymnasium", "num_envs=4",
        "rollout_steps=100", "minibatch_size=100", "total_steps=1200", "epochs=1", "model.hidden_sizes=[8]",
        "compile=false", "env.num_threads=1", "eval_episodes=1", "optimizer.fused=false",
    )  # fmt: skip
    run(config, tmp_path)
    logged = {name for row in read_metrics(RunFolder(tmp_path).metrics) for name in row} - {"step"}
    assert logged == set(run_metrics(config)) == {*METRICS, "policy/beta"}


def test_every_metric_has_words_and_a_place() -> None:
    assert all(words and "\n" not in words for words in METRIC_WORDS.values())
    assert all(re.fullmatch(r"\w+/\w+", name) for name in metric_names())
    for name in algorithm_names():
        assert set(metrics_of(name)) <= set(comments_in(option_file("algorithm", name)))


def test_metrics_of_schedules_are_among_the_names() -> None:
    config = make_config("algorithm.clip_schedule=linear", "entropy_schedule=linear", "entropy_coef=0.01")
    assert {"policy/clip", "policy/entropy_coef"} <= set(run_metrics(config)) <= set(metric_names())
    assert len(set(metric_names())) == len(metric_names())
