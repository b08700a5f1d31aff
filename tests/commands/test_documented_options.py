"""The options of groups that the documentation tells a reader to write: presets, networks, optimizers."""

from __future__ import annotations

import re
from pathlib import Path

import yaml

from commands import ROOT, run_folders, train

EXAMPLE = re.compile(r"```yaml\n(.*?)```", re.DOTALL)
PLACE = re.compile(r"^# (conf/\S+\.yaml)$", re.MULTILINE)


def test_options_written_as_documented_are_found_with_config_dir(tmp_path: Path) -> None:
    written = set()
    for page in ("getting_started.md", "extending.md"):
        for code in EXAMPLE.findall((ROOT / "docs" / page).read_text()):
            (place,) = PLACE.findall(code)
            (tmp_path / place).parent.mkdir(parents=True, exist_ok=True)
            (tmp_path / place).write_text(code)
            written.add(place)
    assert written == {"conf/experiment/mine.yaml", "conf/model/wide.yaml", "conf/optimizer/nadam.yaml"}
    options = ("experiment=mine", "model=wide", "optimizer=nadam", "logger=none", "total_steps=1024", "eval_episodes=2")
    answer = train(tmp_path, "--config-dir", "conf", *options)
    assert answer.code == 0, answer.err
    (run,) = run_folders(tmp_path)
    config = yaml.safe_load((run / "config.yaml").read_text())
    assert (config["env"]["id"], config["num_envs"], config["rollout_steps"]) == ("CartPole-v1", 8, 128)
    assert config["model"]["hidden_sizes"] == [256, 256]
    assert config["optimizer"]["_target_"] == "torch.optim.NAdam"
