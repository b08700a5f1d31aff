"""Presets, options and algorithms of the user's own, beside the command."""

from __future__ import annotations

import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
import yaml
from in_process import call

from commands import Answer, assert_one_line
from ppolab.cli.commands import evaluate_main, train_main
from ppolab.config import algorithms
from ppolab.config.files import config_folder, user_folder

PRESET = "# @package _global_\n# Fast.\ndefaults:\n  - override /env: cartpole\ntotal_steps: 5000\n"
FILES = {
    "conf/experiment/mine.yaml": PRESET,
    "conf/experiment/no_package.yaml": "total_steps: 5000\n",
    "conf/experiment/no_package_either.yaml": "defaults:\n  - override /env: cartpole\n",
    "conf/experiment/no_override.yaml": "# @package _global_\ndefaults:\n  - /env: cartpole\n",
    "conf/experiment/typo.yaml": "# @package _global_\ntotal_step: 5000\n",
    "conf/experiment/typo_below.yaml": "# @package _global_\nmodel:\n  activatio: tanh\n",
    "conf/experiment/text.yaml": "# @package _global_\nclip: abc\n",
    "conf/experiment/plain_default.yaml": "# @package _global_\ndefaults:\n  - env: cartpole\n",
    "conf/experiment/spo.yaml": "# @package _global_\ndefaults:\n  - override /algorithm: own_algorithms:spo\n"
    "algorithm:\n  width: 0.3\n",
    "conf/experiment/no_spo.yaml": "# @package _global_\ndefaults:\n  - override /algorithm: own_algorithms:spoo\n",
    "conf/experiment/no_yaml.yaml": "# @package _global_\nclip: [0.3\n",
    "conf/env/mine.yaml": "# A pole.\nid: CartPole-v1\n",
    "conf/env/typo.yaml": "id: CartPole-v1\nkwarg: {}\n",
    "conf/model/mlp.yaml": "hidden_sizes: [8]\n",
    "conf/model/small.yaml": "# Small.\ndefaults: [mlp]\nhidden_sizes: [8]\n",
    "conf/config.yaml": "of_another_program: 1\n",
    "conf/optimizer/adam.yaml": "of_another_program: 1\n",
    "sweeps/search/mine.yaml": "# @package _global_\n# Two.\nhydra:\n  sweeper:\n    params:\n      clip: 0.1,0.2\n",
    "own_algorithms.py": """
from ppolab.learning import Learner

def spo(context, *, width=0.2, mode="soft"):
    def surrogate(parameters, log_ratio, batch):
        ratio, advantages = log_ratio.exp(), batch.advantages
        return ratio * advantages - advantages.abs() / (2 * width) * (ratio - 1).square()

    return Learner(context, surrogate)

spo.ignores = ["clip"]
spo.ranges = {"width": "> 0"}
spo.metrics = ["policy/width"]

def number(context): return 3
def fails(context): raise ValueError("no luck")
""",
}


@pytest.fixture
def here(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    for name, text in FILES.items():
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / name).write_text(text)
    monkeypatch.setattr(algorithms, "_OWN", {})
    yield tmp_path
    sys.modules.pop("own_algorithms", None)


def train(here: Path, capsys: pytest.CaptureFixture[str], *arguments: str) -> Answer:
    return call(train_main, here, capsys, *arguments)


def composed(here: Path, capsys: pytest.CaptureFixture[str], *arguments: str) -> dict[str, object]:
    answer = train(here, capsys, "--cfg=job", *arguments)
    assert (answer.code, answer.err) == (0, "")
    content = yaml.safe_load(answer.out)
    assert isinstance(content, dict)
    return content


def test_files_beside_the_command_are_options(here: Path, capsys: pytest.CaptureFixture[str]) -> None:
    content = composed(here, capsys, "experiment=mine", "model=small")
    assert content["total_steps"] == 5000
    assert content["env"]["id"] == "CartPole-v1"  # type: ignore[index]
    assert content["model"]["hidden_sizes"] == [8]  # type: ignore[index]
    assert content["model"]["activation"] == "tanh"  # type: ignore[index]  # of the shipped mlp
    answer = train(here, capsys, "--cfg=hydra", "--package=hydra.sweeper", "search=mine")
    assert "clip: 0.1,0.2" in answer.out


def test_a_folder_of_another_program_changes_nothing(here: Path, capsys: pytest.CaptureFixture[str]) -> None:
    content = composed(here, capsys)
    assert content["optimizer"]["lr"] == 0.0006  # type: ignore[index]
    assert "of_another_program" not in content


@pytest.mark.parametrize(
    ("argument", "answer"),
    [
        ("experiment=no_package", "conf/experiment/no_package.yaml: experiment: no such setting; a file for "
         "experiment= must begin with the line '# @package _global_'"),
        ("experiment=no_package_either", "experiment: a file for experiment= must begin with the line "
         "'# @package _global_'"),
        ("experiment=no_override", "env: a file chooses it a second time; under defaults:, write "
         "'override /env: cartpole'"),
        ("experiment=typo", "conf/experiment/typo.yaml: total_step: no such setting; did you mean 'total_steps'?"),
        ("experiment=typo_below", "conf/experiment/typo_below.yaml: model.activatio: no such setting; did you mean "
         "'model.activation'?"),
        ("experiment=text", "conf/experiment/text.yaml: clip=abc: must be a number"),
        ("experiment=plain_default", "under defaults:, write 'override /env: cartpole'"),
        ("experiment=no_yaml", "no_yaml.yaml, line 3: is no YAML: expected ',' or ']'"),
        ("env=typo", "conf/env/typo.yaml: env.kwarg: no such setting; did you mean 'env.kwargs'?"),
        ("experiment=min", "experiment=min: no such option; did you mean 'mine'?"),
        ("model=mlp", "model=mlp: conf/model/mlp.yaml has the name of an option of ppolab's; rename the file"),
    ],
)  # fmt: skip
def test_a_mistake_in_a_file_names_it(
    argument: str, answer: str, here: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert_one_line(train(here, capsys, argument), answer)


def test_help_tells_of_own_files(here: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert "\n  mine                              A pole.\n" in train(here, capsys, "--help", "env").out
    assert "\n  mine                              Two.\n" in train(here, capsys, "--help", "search").out
    assert "\nmodel.hidden_sizes=[8] " in train(here, capsys, "--help", "model=small").out


def test_a_clone_is_no_folder_of_the_users(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.chdir(config_folder("conf").parent)
    assert user_folder("conf") is None
    monkeypatch.chdir(tmp_path)
    assert user_folder("conf") is None
    (tmp_path / "conf").mkdir()
    assert user_folder("conf") == tmp_path / "conf"


# --- algorithms ------------------------------------------------------------------------------------------------------

SPO = "algorithm=own_algorithms:spo"
RUN = (
    "env=cartpole", "num_envs=4", "rollout_steps=16", "minibatch_size=32", "total_steps=128", "eval_episodes=2",
    "eval_interval=0", "logger=none", "compile=false", "hydra.run.dir=run", "logger.video=false",
)  # fmt: skip


def test_an_own_algorithm_trains_is_made_again_and_evaluated(here: Path, capsys: pytest.CaptureFixture[str]) -> None:
    answer = train(here, capsys, SPO, *RUN)
    assert answer.code == 0, answer.err
    config = yaml.safe_load((here / "run/config.yaml").read_text())
    assert config["algorithm"] == {
        "name": "own_algorithms:spo", "width": 0.2, "mode": "soft", "ignores": ["clip"], "metrics": ["policy/width"],
    }  # fmt: skip
    assert (here / "run/metrics.csv").read_text().splitlines()[0].endswith(",policy/width")
    assert train(here, capsys, "rerun=run", "hydra.run.dir=again").code == 0
    answer = call(evaluate_main, here, capsys, "run=run", "episodes=1", "video=false")
    assert answer.code == 0, answer.err


def test_a_preset_chooses_an_own_algorithm(here: Path, capsys: pytest.CaptureFixture[str]) -> None:
    content = composed(here, capsys, "experiment=spo")
    assert content["algorithm"]["name"] == "own_algorithms:spo"  # type: ignore[index]
    assert content["algorithm"]["width"] == 0.3  # type: ignore[index]
    assert content["algorithm"]["mode"] == "soft"  # type: ignore[index]


def test_a_module_that_was_changed_and_loaded_again_counts(here: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert composed(here, capsys, SPO)["algorithm"]["width"] == 0.2  # type: ignore[index]
    spo = sys.modules["own_algorithms"].spo
    spo.__kwdefaults__["width"] = 0.7
    assert composed(here, capsys, SPO)["algorithm"]["width"] == 0.7  # type: ignore[index]


def test_its_settings_count(here: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert train(here, capsys, SPO, *RUN).code == 0
    assert train(here, capsys, SPO, *RUN[:-2], "hydra.run.dir=other", "algorithm.width=0.01", RUN[-1]).code == 0
    assert losses(here / "run") != losses(here / "other")


def losses(folder: Path) -> list[str]:
    rows = [line.split(",") for line in (folder / "metrics.csv").read_text().splitlines()]
    return [row[rows[0].index("loss/policy")] for row in rows[1:]]


@pytest.mark.parametrize(
    ("arguments", "answer"),
    [
        ((SPO, "algorithm.width=-1"), "algorithm.width=-1.0: must be greater than 0"),
        ((SPO, "algorithm.widt=1"), "algorithm.widt: no such setting; did you mean 'algorithm.width'?"),
        ((SPO, "algorithm.mode=3"), "algorithm.mode=3: must be text"),
        ((SPO, "clip=0.1"), "clip=0.1: algorithm=own_algorithms:spo does not read clip"),
        (("algorithm=own_algorithms:spoo",), "has no spoo; did you mean 'spo'?"),
        (("experiment=no_spo",), "algorithm=own_algorithms:spoo: the module own_algorithms has no spoo"),
        (("algorithm=own_algorithm:spo",), "the module 'own_algorithm' cannot be imported"),
        (("algorithm=own_algorithms:number", *RUN), "must return an object with update, state, load_state"),
        (("algorithm=own_algorithms:fails", *RUN), "making it raised ValueError: no luck"),
    ],
)
def test_a_mistake_with_an_own_algorithm(
    arguments: tuple[str, ...], answer: str, here: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    given = train(here, capsys, *arguments)
    assert given.code == 2
    assert answer in given.err.splitlines()[-1]


def test_help_tells_of_an_own_algorithm(here: Path, capsys: pytest.CaptureFixture[str]) -> None:
    lines = train(here, capsys, "--help", SPO).out.splitlines()
    assert "algorithm.width=0.2                 (number, > 0)" in lines
    assert "does not read                       clip" in lines
