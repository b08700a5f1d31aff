"""Arguments as Hydra gets them."""

from __future__ import annotations

import pytest
from hydra.core.override_parser.overrides_parser import OverridesParser

from ppolab.cli.arguments import SWEEP_SETTINGS, as_text, refuse_code, rewrite
from ppolab.cli.foreign_names import FOREIGN_NAMES, OUR_NAMES
from ppolab.config.quoting import quoted
from ppolab.config.schema import Config, known_keys, option_keys
from ppolab.errors import ConfigError

REWRITTEN = {
    "n_trials=40": "hydra.sweeper.n_trials=40",
    "direction=maximize,minimize": "hydra.sweeper.direction=[maximize,minimize]",
    "direction=[maximize,minimize]": "hydra.sweeper.direction=[maximize,minimize]",
    "enqueue={clip:0.1}": "hydra.sweeper.enqueue=[{clip:0.1}]",
    "sampler.seed=3": "++hydra.sweeper.sampler.seed=3",
    "sampler=tpe": "sampler=tpe",
    "scheduler.interval=5000": "++hydra.sweeper.scheduler.interval=5000",
    "population=8": "hydra.sweeper.population=8",
    "env.kwargs.size=3": "++env.kwargs.size=3",
    "model.kwargs.width=3": "++model.kwargs.width=3",
    "model.encoder.eye=a:B": "++model.encoder.eye=a:B",
    "model.encoder=a:B": "model.encoder=a:B",
    "clip=0.1,0.2": "clip=0.1,0.2",
    "~env.kwargs": "~env.kwargs",
    "resume=auto": "resume='auto'",
    "resume=null": "resume=null",
    "resume=": "resume=",
    "resume='a b'": "resume='a b'",
    "hydra.run.dir=o/a=1,b": "hydra.run.dir='o/a=1,b'",
    "hydra.run.dir=o/${seed}": "hydra.run.dir=o/${seed}",
    "logger.experiment=学习": "logger.experiment='学习'",
    "logger.experiment=学习,plain": "logger.experiment='学习',plain",
    "logger.experiment=[学习, plain]": "logger.experiment=['学习', plain]",
    "logger.experiment='学习'": "logger.experiment='学习'",
}


@pytest.mark.parametrize("typed", REWRITTEN)
def test_rewriting(typed: str) -> None:
    arguments = (typed,)
    assert rewrite(arguments) == [REWRITTEN[typed]]
    assert arguments == (typed,)


OWN = "++optimizer._target_=a:B"


@pytest.mark.parametrize(
    ("typed", "expected"),
    [
        (["optimizer.class=a:B"], ["optimizer=own", OWN]),
        (["+optimizer.class=a:B", "seed=1"], ["optimizer=own", OWN, "seed=1"]),
        (
            ["optimizer.rho=2", "optimizer.lr=1", "optimizer.class=a:B"],
            ["optimizer=own", "++optimizer.rho=2", "optimizer.lr=1", OWN],
        ),
        (["optimizer=lion", "optimizer.class=a:B"], ["optimizer=lion", OWN]),
        (["resume=r", "optimizer.class=a:B"], ["resume='r'", OWN]),
        (["optimizer.rho=2"], ["optimizer.rho=2"]),
    ],
)
def test_an_optimizer_s_class_brings_its_file_and_takes_any_argument(typed: list[str], expected: list[str]) -> None:
    assert rewrite(typed) == expected


NAMES = (
    "o/clip=0.1,seed=3",
    "1e5",
    "it's",
    "a\\'b",
    "ends\\",
    "null-and-void",
    "[x]",
    "{x}",
    "(x)",
    "学习",
    "a b",
    "12",
)


@pytest.mark.parametrize("name", NAMES)
def test_a_path_arrives_as_it_was_typed(name: str) -> None:
    (override,) = OverridesParser.create().parse_overrides([as_text(f"run={name}")])
    value = override.value()
    assert str(value) == name
    (same,) = OverridesParser.create().parse_overrides([f"run={quoted(name)}"])
    assert str(same.value()) == name


def test_names_of_other_frameworks_lead_to_settings_that_exist() -> None:
    known = {*known_keys(Config), *option_keys(), *SWEEP_SETTINGS}
    assert set(FOREIGN_NAMES) <= known
    assert not set(OUR_NAMES) & set(known_keys(Config))
    assert len(OUR_NAMES) == sum(map(len, FOREIGN_NAMES.values())), "a name stands for one setting"
    assert OUR_NAMES["learning_rate"] == "optimizer.lr"


@pytest.mark.parametrize("flag", ["--experimental-rerun=x", "--exp", "--e=x", "hydra.searchpath=[pkg://evil]"])
def test_code_is_refused(flag: str) -> None:
    with pytest.raises(ConfigError, match="may run any code"):
        refuse_code(["env=cartpole", flag])


def test_a_setting_that_begins_like_a_flag_is_no_pickle() -> None:
    refuse_code(["--env=cartpole", "--eval_interval=3", "hydra.searchpath=[file://mine]"])
    with pytest.raises(ConfigError, match="reads a pickle"):
        refuse_code(["--env=cartpole", "--experimental-rerun=run.pickle"])
