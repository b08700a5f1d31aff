"""Mistakes on the command line: each is answered in one line, and leaves nothing behind."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
from in_process import call

from commands import TINY, assert_one_line, write_user_module
from ppolab.cli.commands import evaluate_main, report_main, train_main
from ppolab.envs import envpool_ids

MISTAKES = {
    "mistyped key": ("clipp=0.1", "clipp", "'clip'"),
    "mistyped nested key": ("model.hidden_size=[8]", "model.hidden_size", "'model.hidden_sizes'"),
    "layers of two networks": ("model.hidden_sizes=[[64,64],[256]]", "sizes=[[64, 64], [256]]", "whole numbers"),
    "a number for a list": ("model.hidden_sizes=64", "model.hidden_sizes", "must be a list", "brackets"),
    "a number for two": ("optimizer.betas=0.9", "optimizer.betas=0.9", "two numbers"),
    "mistyped optimizer key": ("optimizer.lrr=1", "optimizer.lrr", "'optimizer.lr'"),
    "appended unknown key": ("+unknown=1", "unknown", "no such setting"),
    "appended mistyped key": ("+gama=1", "gama", "'gamma'"),
    "not a whole number": ("num_envs=4.5", "num_envs=4.5", "a whole number", "num_envs=4"),
    "text for a number": ("seed=abc", "seed=abc", "a whole number"),
    "text for an open number": ("optimizer.lr=fast", "optimizer.lr=fast", "must be a number"),
    "no value": ("seed", "seed", "key=value"),
    "unknown group option": ("env=hoper", "env=hoper", "'hopper'", "cartpole"),
    "unknown search space": ("-m search=clip_gird", "search=clip_gird", "'clip_grid'"),
    "search without -m": ("search=clip_grid", "search=clip_grid", "add -m"),
    "a sweep's setting without -m": ("clip=0.1 n_trials=3", "n_trials=3", "add -m"),
    "a population without -m": ("population=8", "population=8", "add -m"),
    "a sampler's setting without -m": ("sampler.n_startup_trials=3", "sampler.n_startup_trials=3", "add -m"),
    "unknown environment": ("env.id=Hoper-v5", "env.id=Hoper-v5", "'Hopper-v5'"),
    "environment of a missing module": ("env.id=no_module:Any-v0", "env.id=no_module:Any-v0", "'no_module'"),
    "environment missing in its module": (
        "env.id=user_module:Simpel-v0",
        "user_module:Simpel-v0",
        "'user_module:Simple-v0'",
    ),
    "words": ("env.id=user_module:Words-v0", "env.id=user_module:Words-v0", "Text(1, 5", "supported"),
    "a part of several that is none": ("env.id=user_module:Mixed-v0", "Mixed-v0", "order", "Text(1, 5", "supported"),
    "gigabytes of frames": (
        "env.frame_stack=1000000 num_envs=8 rollout_steps=1024",
        "env.frame_stack=1000000",
        "must be at most 100",
        "a rollout of 8192 steps would take 30.5 GiB for each number",
        "lower it, or set model.memory=gru",
    ),
    "no frame": ("env.frame_stack=0", "env.frame_stack=0", "greater than 0"),
    "image too small for the network": (
        "env.id=user_module:Picture-v0 model=nature_cnn",
        "model.encoder=nature",
        "36 rows and columns",
        "(20, 20, 3) is smaller",
        "use halving, or leave it out",
    ),
    "missing package": ("env.id=user_module:NeedsPackage-v0", "NeedsPackage-v0", "pip install 'gymnasium[box2d]'"),
    "wrong argument of an environment": (
        "env.id=user_module:Simple-v0 env.kwargs.size=3",
        "env.id=user_module:Simple-v0",
        "size",
    ),
    "not in EnvPool": ("env.id=user_module:Simple-v0 env.backend=envpool", "env.backend=envpool", "gymnasium"),
    "resume in a sweep": ("-m resume=auto seed=0,1", "resume=auto", "typed again"),
    "two schedules": ("adapt_lr=true", "adapt_lr=true", "set anneal_lr=false"),
    "squashed and not rescaled": (
        "env.squash_actions=true env.rescale_actions=false",
        "env.squash_actions=true",
        "set env.rescale_actions=true",
    ),
    "value epochs on a shared trunk": (
        "model.trunk=shared algorithm.value_epochs=5",
        "algorithm.value_epochs=5",
        "set model.trunk=separate",
    ),
    "whole value epochs, written with a point": (
        "algorithm.value_epochs=5.0",
        "algorithm.value_epochs=5.0",
        "a whole number, such as 5",
    ),
    "neither true nor false": ("normalize_values=maybe", "normalize_values=maybe", "must be true or false"),
    "nothing for a switch": ("env.squash_actions=null", "env.squash_actions=null", "must have a value"),
    "adapted where nothing adapts": ("algorithm=a2c adapt_lr=true", "adapt_lr=true", "a2c does not read adapt_lr"),
    "penalty that could only fall": (
        "algorithm=ppo_penalty algorithm.d_targ=0.1",
        "algorithm.d_targ=0.1",
        "target_kl=0.02",
        "set target_kl=null",
    ),
    "half a value epoch": ("algorithm.value_epochs=2.5", "algorithm.value_epochs=2.5", "a whole number"),
    "nothing to follow": ("adapt_lr=true anneal_lr=false target_kl=null", "adapt_lr=true", "target_kl=0.01"),
    "unknown backend": ("env.backend=envpol", "env.backend=envpol", "'envpool'"),
    "output folder below a file": ("hydra.run.dir=user_module.py/x", "user_module.py/x", "hydra.run.dir="),
    "two of Hydra's commands": ("-m --info", "Only one of --run, --multirun"),
    "no run to make again": ("rerun=nowhere", "rerun=nowhere", "no such run"),
    "no run to start from": ("init_from=nowhere", "init_from=nowhere", "no such run"),
    "made again and gone on with": ("rerun=a resume=b", "resume=b", "does not go with rerun=a", "leave out"),
    "gone on with and warm": ("resume=a init_from=b", "init_from=b", "does not go with resume=a", "leave out"),
    "made again and warm": ("rerun=a init_from=b", "init_from=b", "does not go with rerun=a", "leave out"),
    "made again in a sweep": ("-m rerun=a seed=0,1", "rerun=a", "leave out -m"),
    "no run to resume": ("resume=nowhere", "resume=nowhere", "no such run"),
    "batch too small": ("minibatch_size=4096", "minibatch_size=4096", "32 * 64 = 2048"),
    "minibatch does not divide": ("minibatch_size=100", "minibatch_size=100", "2048", "minibatch_size=128"),
    "less than one batch": ("total_steps=100", "total_steps=100", "2048"),
    "clip out of range": ("clip=1.5", "clip=1.5", "strictly between 0 and 1"),
    "clip not a number": ("clip=nan", "clip=nan", "strictly between 0 and 1"),
    "negative seed": ("seed=-1", "seed=-1", "0 or more"),
    "seed too large": ("seed=4294967296", "seed=4294967296", "at most 4294967295"),
    "foreign optimizer": ("optimizer._target_=os.system", "optimizer._target_=os.system", "torch.optim"),
    "objective not a metric": ("objective=eval/retrun", "objective=eval/retrun", "'eval/return'"),
    "unknown algorithm": ("algorithm=ppo_clp", "algorithm=ppo_clp", "'ppo_clip'", "trpo"),
    "what an algorithm is": (
        "algorithm=trpo algorithm.ignores=[] clip=0.1",
        "algorithm.ignores=[]",
        "no setting",
        "leave it out",
    ),
    "an algorithm by its name alone": ("algorithm.name=trpo", "algorithm.name=trpo", "choose it with algorithm=trpo"),
    "no algorithm": ("algorithm=null", "algorithm=null", "leave it out"),
    "no experiment": ("experiment=null env=cartpole", "experiment=null", "leave it out"),
    "several values without -m": ("env=hopper,walker2d", "env=hopper,walker2d", "add -m"),
    "without its group": ("algorithm=trpo max_kl=0.02", "max_kl", "'algorithm.max_kl'"),
    "below a group it is not of": ("algorithm.target_kl=0.01", "algorithm.target_kl", "'target_kl'"),
    "mistyped encoder": (
        "model.encoder=Nature",
        "model.encoder=Nature",
        "such as model.encoder=my_package:My",
        "'nature'",
    ),
    "mistyped encoder of an image": (
        "model.encoder.eye=impal",
        "model.encoder.eye=impal",
        "nature, impala",
        "'impala'",
    ),
    "two networks": (
        "model.network=a:B model.encoder=small",
        "model.encoder=small",
        "model.network=a:B takes its place",
    ),
    "no deviation": ("model.initial_log_std=-30", "model.initial_log_std=-30", "between -10 and 10"),
    "setting that the algorithm does not read": (
        "algorithm=trpo clip=0.1",
        "clip=0.1",
        "algorithm=trpo",
        "does not read",
        "leave it out",
    ),
    "the same, forced": ("algorithm=trpo ++clip=0.1", "clip=0.1", "algorithm=trpo", "does not read"),
    "grid over the same, forced": ("-m algorithm=trpo ++clip=0.1,0.2", "clip=0.1,0.2", "does not read"),
    "another's setting": ("algorithm=trpo algorithm.value_clip=0.1", "algorithm.value_clip", "algorithm=ppo_clip,"),
    "another's setting, appended": ("+algorithm.beta=2", "algorithm.beta", "algorithm=ppo_clip", "no such setting"),
    "network that the algorithm cannot use": (
        "algorithm=npg model.trunk=shared",
        "model.trunk=shared",
        "algorithm=npg",
        "set model.trunk=separate",
    ),
    "text for an algorithm's number": ("algorithm=trpo algorithm.damping=little", "damping=little", "must be a number"),
    "nothing for an algorithm's number": ("algorithm=trpo algorithm.damping=null", "damping=null", "must be a number"),
    "number of steps not whole": ("algorithm=trpo algorithm.cg_steps=2.5", "algorithm.cg_steps=2.5", "whole number"),
    "grid over what is not read": ("-m algorithm=trpo clip=0.1,0.2", "clip=0.1,0.2", "does not read"),
    "grid in which one algorithm does not read it": ("-m algorithm=ppo_clip,a2c epochs=3", "epochs=3", "algorithm=a2c"),
    "study of what is not read": (
        "-m algorithm=vpg target_kl=interval(0.01,0.1)",
        "target_kl=interval(0.01,0.1)",
        "algorithm=vpg",
    ),
    "space that varies what is not read": ("-m search=clip_lr algorithm=trpo", "clip=", "algorithm=trpo", "read"),
    "file store": ("logger.tracking_uri=./mlruns", "logger.tracking_uri=./mlruns", "sqlite:///"),
}


MISTAKES_OF_ENVPOOL = {
    "argument that EnvPool does not know": (
        "env.id=Pong-v5 env.kwargs.stack_number=2",
        "env.kwargs={'stack_number': 2}",
        "did you mean 'stack_num'?",
    ),
    "the same, near none": (
        "env.id=Pong-v5 env.kwargs.xyz=2",
        "env.kwargs={'xyz': 2}",
        "no argument xyz; leave it out",
    ),
    "file that is not shipped": ("env.id=Sudoku-v0", "env.id=Sudoku-v0", "choose another environment"),
    "files that must be named": ("env.id=VizdoomCustom-v1", "env.id=VizdoomCustom-v1", "cfg_path: /my/game.cfg"),
    "limit that is ignored": (
        "env.id=Maze-v0 env.kwargs.max_episode_steps=5",
        "env.kwargs={'max_episode_steps': 5}",
        "ignores max_episode_steps; leave it out",
    ),
}


@pytest.mark.skipif(not envpool_ids.is_installed(), reason="EnvPool has no build for this platform")
@pytest.mark.parametrize("mistake", MISTAKES_OF_ENVPOOL)
def test_mistake_in_a_task_of_envpool_is_answered_in_one_line(
    mistake: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    arguments, *expected = MISTAKES_OF_ENVPOOL[mistake]
    assert_one_line(call(train_main, tmp_path, capsys, *arguments.split()), *expected)
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("mistake", MISTAKES)
def test_mistake_is_answered_in_one_line_and_leaves_nothing(
    mistake: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    write_user_module(tmp_path)
    arguments, *expected = MISTAKES[mistake]
    assert_one_line(call(train_main, tmp_path, capsys, *arguments.split()), *expected)
    left = {path.name for path in tmp_path.iterdir()} - {"user_module.py", "__pycache__"}
    assert left == set()


HEAVY_MISTAKES = {
    "no such optimizer": ("optimizer._target_=torch.optim.Adan", "optimizer._target_=torch.optim.Adan", "'Adam'"),
    "no GPU": ("trainer=gpu", "trainer=gpu", "trainer=cpu"),
}


@pytest.mark.parametrize("mistake", HEAVY_MISTAKES)
def test_mistake_that_only_torch_can_see(mistake: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    if mistake == "no GPU" and torch.cuda.is_available():
        pytest.skip("there is a GPU")
    argument, *expected = HEAVY_MISTAKES[mistake]
    assert_one_line(call(train_main, tmp_path, capsys, "env=cartpole", argument), *expected)
    assert list(tmp_path.iterdir()) == []


def test_grid_with_a_mistake_stops_with_one_line(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    answer = call(train_main, tmp_path, capsys, "-m", "clip=2,3")
    assert answer.code == 2
    assert answer.err.splitlines()[-1].startswith("ppolab: clip=2")
    assert "Traceback" not in answer.err


EVALUATION_MISTAKES = {
    "no run named": ("episodes=1", "run"),
    "unknown run": ("run=nowhere", "run=nowhere", "no such run"),
    "no episodes": ("run=. episodes=0", "episodes=0"),
    "unknown checkpoint": ("run=. checkpoint=first", "checkpoint=first", "best"),
    "negative seed": ("run=. seed=-1", "seed=-1"),
    "mistyped key": ("run=. episode=1", "episode", "'episodes'"),
    "not a run folder": ("run=.", "run=.", "config.yaml"),
}


@pytest.mark.parametrize("mistake", EVALUATION_MISTAKES)
def test_evaluation_mistake_is_answered_in_one_line(
    mistake: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    arguments, *expected = EVALUATION_MISTAKES[mistake]
    assert_one_line(call(evaluate_main, tmp_path, capsys, *arguments.split()), *expected)
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize(
    ("part", "answer"),
    [
        ("clipp", "--help clipp: no such setting or group; did you mean 'clip'?; --help names all"),
        ("max_kl", "--help max_kl: is a setting of algorithm=npg,trpo; write --help algorithm=npg"),
    ],
)
def test_help_for_what_there_is_not(part: str, answer: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert_one_line(call(train_main, tmp_path, capsys, "--help", part), answer)


def test_help_for_a_mistyped_key(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert_one_line(call(train_main, tmp_path, capsys, "--help", "clipp=0.1"), "clipp", "'clip'")


@pytest.mark.parametrize("arguments", [("--cfg=job", "env.id=Later-v0"), ("--info=config", "env.id=Later-v0")])
def test_only_what_is_trained_must_exist(
    arguments: tuple[str, ...], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert call(train_main, tmp_path, capsys, *arguments).code == 0


def test_later_environment_counts(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    answer = call(train_main, tmp_path, capsys, "env.id=Hoper-v5", "++env.id=CartPoole-v1")
    assert_one_line(answer, "env.id=CartPoole-v1", "'CartPole-v1'")


def test_user_error_with_trace_on_request(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("HYDRA_FULL_ERROR", "1")
    answer = call(train_main, tmp_path, capsys, "clip=2", *TINY)
    assert answer.code == 2
    assert "Traceback" in answer.err
    assert answer.err.splitlines()[-1].startswith("ppolab: clip=2")


# --- habits of other programs ----------------------------------------------------------------------------------------

HABITS = {
    "--env hopper": "--env hopper: a setting is written without dashes; write env=hopper",
    "--env=cartpole": "--env=cartpole: a setting is written without dashes; write env=cartpole",
    "--seed 3": "--seed 3: a setting is written without dashes; write seed=3",
    "--total_steps=100": "--total_steps=100: a setting is written without dashes; write total_steps=100",
    "--total-steps 100": "--total-steps 100: a setting is written without dashes; write total_steps=100",
    "-seed 3": "-seed 3: a setting is written without dashes; write seed=3",
    "--n_envs=8": "--n_envs=8: a setting is written without dashes; write num_envs=8",
    "--seed": "--seed: a setting is written without dashes; write seed=VALUE",
    "--help=env": "--help=env: the part stands behind a space; write --help env",
    "model._target_=my_package:Net": "model._target_: no such setting; write model.network=my_package:Net",
    "--nowhere": "--nowhere: no such flag",
    "--cfg=jobs": "argument --cfg/-c: invalid choice: 'jobs'",
    "--resolve": "--resolve: goes with --cfg or --help",
    "--config-dir=nowhere": "--config-dir=nowhere: there is no such folder",
    "env=hopper, walker2d": "env=hopper, walker2d: a list has no spaces, or stands in quotes; "
    "write env=hopper,walker2d",
    "learning_rate=1e-3": "learning_rate: no such setting; write optimizer.lr=1e-3",
    "-m learning_rate=1e-3,1e-4": "learning_rate: no such setting; write optimizer.lr=1e-3,1e-4",
    "n_steps=128": "n_steps: no such setting; write rollout_steps=128",
    "n_steps=": "n_steps: no such setting; write rollout_steps=VALUE",
    "ent_coef=0.01": "ent_coef: no such setting; write entropy_coef=0.01",
    "timesteps=100000": "timesteps: no such setting; write total_steps=100000",
    "--learning_rate 1e-3": "--learning_rate 1e-3: a setting is written without dashes; write optimizer.lr=1e-3",
    "--env Hopper-v5": "--env Hopper-v5: a setting is written without dashes; write env=hopper",
    "env Hopper-v5": "env Hopper-v5: a setting is written key=value; write env=hopper",
    "env=LunarLander-v3": "env=LunarLander-v3: no such option; write env.id=LunarLander-v3",
    "env=my_package:My-v0": "env=my_package:My-v0: no such option; write env.id=my_package:My-v0",
    "hopper": "hopper: has no key; write env=hopper",
    "Hopper-v5": "Hopper-v5: has no key; write env=hopper",
    "trpo": "trpo: has no key; write algorithm=trpo",
    "algo=ppo": "algo: no such setting; write algorithm=ppo_clip",
    "algorithm=ppo": "algorithm=ppo: no such option; write algorithm=ppo_clip",
    "device=cuda": "device: no such setting; write trainer=gpu",
    "cuda=True": "cuda: no such setting; write trainer=gpu",
    "help": "help: is no setting; write --help for all of them, or --help PART, such as --help model",
    "list": "list: is no setting; write --help for all of them, or --help PART, such as --help model",
    "env=?": "env=?: no such option; there are acrobot, ant, beamrider,",
    "total_steps=1e5": "must be a whole number; write total_steps=100000",
    "clipp": "in quotes where the shell would take it apart; did you mean 'clip'?",
    "hydra.job.chdir=true": "hydra.job.chdir=true: outputs/ and the tracking store would be made anew",
    "-m seed=0,1 hydra.job.chdir=true": "hydra.job.chdir=true: outputs/ and the tracking store would be made anew",
    "logger.experiment=a=b": 'put the value into quotes, and these into quotes for the shell: "logger.experiment=',
    "resume=o/clip=0.1,seed=3": "resume=o/clip=0.1,seed=3: there is no such run id, run name, folder or checkpoint",
}


@pytest.mark.parametrize("typed", HABITS)
def test_habit_is_answered_with_what_to_type(typed: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    answer = call(train_main, tmp_path, capsys, *typed.split())
    assert_one_line(answer)
    assert HABITS[typed] in answer.err
    assert list(tmp_path.iterdir()) == []


EVALUATION_HABITS = {
    "run=models:/cart/1": "run=models:/cart/1: there is no tracking store at ",
    "": "run=RUN: is missing; RUN is a run folder, a checkpoint file, an MLflow run id or a run's name",
    "outputs/my_run": "outputs/my_run: has no key; write run=outputs/my_run",
    "--run outputs/my_run": "outputs/my_run: has no key; write run=outputs/my_run",
    "--run=outputs/my_run": "--run=outputs/my_run: a setting is written without dashes; write run=outputs/my_run",
    "--episodes 3": "--episodes 3: a setting is written without dashes; write episodes=3",
    "run=o/clip=0.1,seed=3": "run=o/clip=0.1,seed=3: there is no such run id, run name, folder or checkpoint",
    "render=human": "render=human: no window is opened; ppolab-evaluate run=RUN video=true films an episode, "
    "and in Python ppolab.load(RUN).make_env('human') opens one",
    "help": "help: is no setting; write --help",
}


@pytest.mark.parametrize("typed", ["ppolab", "list", "--experiment ppolab"])
def test_habits_in_a_report(typed: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    answer = call(report_main, tmp_path, capsys, *typed.split())
    assert_one_line(answer, "write --help" if typed == "list" else "write experiment=ppolab")


@pytest.mark.parametrize("typed", EVALUATION_HABITS)
def test_habit_in_an_evaluation(typed: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    answer = call(evaluate_main, tmp_path, capsys, *typed.split())
    assert_one_line(answer)
    assert EVALUATION_HABITS[typed] in answer.err


def test_a_folder_with_an_equals_sign_lacks_only_its_key(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (tmp_path / "clip=0.1,seed=3").mkdir()
    answer = call(evaluate_main, tmp_path, capsys, "clip=0.1,seed=3")
    assert_one_line(answer, "write run=clip=0.1,seed=3")


def test_a_folder_with_a_space_is_quoted(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    answer = call(evaluate_main, tmp_path, capsys, "my runs")
    assert_one_line(answer, "my runs: has no key; write 'run=my runs'")


def test_habit_in_a_report(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    answer = call(report_main, tmp_path, capsys, "--study", "s")
    assert_one_line(answer, "--study s: a setting is written without dashes; write study=s")
