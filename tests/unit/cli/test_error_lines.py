"""One line for every kind of error."""

from __future__ import annotations

import pytest
from hydra import compose, initialize_config_dir
from hydra.errors import MissingConfigException, OverrideParseException

from ppolab.cli.error_lines import answer_to, hydra_problem
from ppolab.config.files import config_folder
from ppolab.config.schema import register_schemas
from ppolab.errors import ConfigError, EnvError, InterruptedRun


def test_a_missing_file_is_told_by_what_the_error_carries() -> None:
    error = MissingConfigException("in words of a later version", "env/hoper", ["ant", "hopper"])
    assert hydra_problem(error) == "env=hoper: no such option; did you mean 'hopper'?; there are ant, hopper"
    unknown = MissingConfigException("", "experiment/nowhere/clip", ("atari",))
    assert hydra_problem(unknown) == "experiment=nowhere/clip: no such option; there are atari"


def test_a_missing_file_of_a_folder_of_options_is_told_by_what_lies_there() -> None:
    error = MissingConfigException("", "experiment/tuned/antt", ("atari", "minigrid"))
    told = hydra_problem(error)
    assert told.startswith(
        "experiment=tuned/antt: no such option; did you mean 'tuned/ant'?; there are tuned/ant, tuned/"
    )
    assert "atari" not in told


@pytest.mark.parametrize(
    ("group", "setting"), [("model", "model.network"), ("optimizer", "optimizer.class"), ("env", "env.id")]
)
def test_code_of_the_user_s_in_place_of_a_file_is_led_to_its_setting(group: str, setting: str) -> None:
    error = MissingConfigException("", f"{group}/my_package:Mine", ["shipped"])
    assert hydra_problem(error) == (
        f"{group}=my_package:Mine: no such option; one of your own is named as {setting}=my_package:Mine"
    )


def test_a_class_of_python_is_led_to_the_setting_that_takes_it() -> None:
    error = MissingConfigException("", "optimizer/torch.optim.NAdam", ["adam"])
    assert hydra_problem(error).endswith("one of your own is named as optimizer.class=torch.optim:NAdam")


def test_an_unreadable_setting_is_told_by_what_the_error_carries() -> None:
    assert hydra_problem(OverrideParseException("seed", "")).startswith("seed: cannot be read; write key=value")
    line = hydra_problem(OverrideParseException("run_name=it's=1", ""))
    assert line.endswith("\"run_name='it\\'s=1'\"")


def test_keys_in_quotes_are_told_how_the_command_line_wants_them() -> None:
    as_in_yaml = 'enqueue=[{"clip": 0.1, "model.hidden_sizes": "[64,64]"}]'
    expected = "between braces keys stand without quotes: \"enqueue=[{clip: 0.1, model.hidden_sizes: '[64,64]'}]\""
    assert hydra_problem(OverrideParseException(as_in_yaml, "")) == f"{as_in_yaml}: cannot be read; {expected}"


FROM_HYDRA = {
    "clipp=0.1": "clipp: no such setting; did you mean 'clip'?",
    "foo.bar=1": "foo.bar: no such setting; --help lists them",
    "model.hidden_size=[8]": "model.hidden_size: no such setting; did you mean 'model.hidden_sizes'?",
    "episodes=3": "episodes: no such setting here; it is one of ppolab-evaluate",
    "run=r": "run: no such setting here; it is one of ppolab-evaluate, ppolab-export",
    "logger.registr=x": "logger.registr: no such setting; did you mean 'logger.register'?",
    "logger.tags=x": "logger.tags: no such setting; did you mean 'logger'?",
    "batch_size=64": "batch_size: no such setting; did you mean 'minibatch_size'?",
    "seed=abc": "seed=abc: must be a whole number",
    "env.kwargs=3": "env.kwargs: must be a mapping; write env.kwargs.NAME=VALUE",
    "seed=null": "seed=null: must have a value; leave it out for its default",
    "model.memory=null": "model.memory=null: must have a value, one of none, gru, lstm",
    "seed=1,2": "seed=1,2: several values make a sweep; add -m, or put a list into brackets",
}


@pytest.mark.parametrize("override", FROM_HYDRA)
def test_what_hydra_raises(override: str) -> None:
    register_schemas()
    with (
        initialize_config_dir(str(config_folder("conf")), version_base="1.3"),
        pytest.raises(Exception) as raised,  # Hydra's and OmegaConf's families
    ):
        compose("config", [override])
    assert hydra_problem(raised.value) == FROM_HYDRA[override]


ANSWERS: dict[str, tuple[Exception, tuple[str, int] | None]] = {
    "input": (ConfigError("a"), ("a", 2)),
    "environment": (EnvError("b"), ("b", 1)),
    "interrupt": (InterruptedRun("c"), ("c", 130)),
    "unforeseen": (KeyError("d"), None),
}


@pytest.mark.parametrize("name", ANSWERS)
def test_exit_codes(name: str) -> None:
    error, answer = ANSWERS[name]
    assert answer_to(error) == answer


@pytest.mark.parametrize("error", [MemoryError(), RuntimeError("[enforce fail at x] . can't allocate memory: 8 bytes")])
def test_out_of_memory(error: Exception) -> None:
    answer = answer_to(error)
    assert answer is not None
    assert answer[0].startswith("out of memory: ") and "lower num_envs" in answer[0] and answer[1] == 1


def test_a_file_that_cannot_be_written() -> None:
    answer = answer_to(PermissionError(13, "Permission denied", "/locked/x"))
    assert answer == ("/locked/x: Permission denied; choose another with hydra.run.dir=FOLDER", 2)
