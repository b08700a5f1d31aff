"""Studies through the real command: trials, resume, tracking, seeds, pruning, objectives."""

from __future__ import annotations

import json
import shlex
import shutil
from collections import Counter
from pathlib import Path

import pytest
from optuna.trial import TrialState
from studies import STUDY, client, runs, trials

from commands import TINY, TRAIN, Answer, metric_rows, run_folders, train

FIXTURES = Path(__file__).parents[1] / "fixtures"


@pytest.fixture(scope="module")
def workspace(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("study")


@pytest.fixture(scope="module")
def study(workspace: Path) -> Answer:
    """Four trials, of which the first is given."""
    answer = train(workspace, *STUDY, "n_trials=4", "enqueue={clip:0.2}", "sampler=random", "seed=5")
    assert answer.code == 0, answer.err
    return answer


@pytest.fixture(scope="module")
def resumed(workspace: Path, study: Answer) -> Answer:
    """The same command with a higher total."""
    answer = train(workspace, *STUDY, "n_trials=6", "enqueue=[{clip:0.2}]", "sampler=random", "seed=5")
    assert answer.code == 0, answer.err
    return answer


def test_a_study_tells_its_trials_and_its_best(study: Answer) -> None:
    lines = study.out.splitlines()
    assert sum(line.startswith("trial ") and " complete " in line for line in lines) == 4
    assert any("complete" in line and "eval/return" in line and "clip=0.2" in line for line in lines)
    assert any(line.startswith(f"train it      python {TRAIN} ") and "clip=" in line for line in lines)
    assert "optuna-dashboard outputs/studies/s.journal" in study.out


def test_the_printed_command_trains_the_best_trial_again(workspace: Path, study: Answer, tmp_path: Path) -> None:
    line = next(line for line in study.out.splitlines() if line.startswith("train it"))
    words = shlex.split(line.removeprefix("train it"))
    assert words[:2] == ["python", str(TRAIN)]
    alone = train(tmp_path, *words[2:], "logger=none")
    assert alone.code == 0, alone.err
    (folder,) = run_folders(tmp_path)
    best = max(trial.value for trial in trials(workspace)[:4] if trial.value is not None)
    returns = [row["eval/return"] for row in metric_rows(folder) if row["eval/return"]]
    assert float(returns[-1]) == best


def test_a_study_goes_on_to_its_total(workspace: Path, resumed: Answer) -> None:
    ended = trials(workspace)
    assert [trial.number for trial in ended] == list(range(6))
    assert all(trial.state == TrialState.COMPLETE for trial in ended)
    assert ended[0].params == {"clip": 0.2}
    assert len({trial.params["clip"] for trial in ended}) == 6
    assert sum(line.startswith("trial ") and " complete " in line for line in resumed.out.splitlines()) == 2


def test_every_trial_has_a_folder_with_its_run(workspace: Path, resumed: Answer) -> None:
    folders = run_folders(workspace)
    assert [folder.name for folder in folders] == [f"trial-{number:04d}" for number in range(6)]
    for trial, folder in zip(trials(workspace), folders, strict=True):
        assert f"clip: {trial.params['clip']!r}" in (folder / "config.yaml").read_text()
        assert trial.user_attrs["folders"] == [str(folder)]
        assert float(metric_rows(folder)[-1]["eval/return"]) == trial.value
        assert not (folder / "video.mp4").exists()


def test_the_study_is_a_run_with_its_trials_below(workspace: Path, resumed: Answer) -> None:
    (parent,) = runs(workspace, "attributes.run_name = 's'")
    children = runs(workspace, f"tags.`mlflow.parentRunId` = '{parent.info.run_id}'")
    assert [run.info.run_name for run in children] == [f"trial-{number:04d}" for number in range(6)]
    assert {run.info.status for run in (parent, *children)} == {"FINISHED"}
    ended = trials(workspace)
    best = max(ended, key=lambda trial: trial.value)
    assert parent.data.metrics["best/eval/return"] == best.value
    assert float(parent.data.tags["best.clip"]) == ended[int(parent.data.tags["best.trial"])].params["clip"]
    assert [run.data.metrics["eval/return"] for run in children] == [trial.value for trial in ended]
    assert {item.path for item in client(workspace).list_artifacts(parent.info.run_id, "plots")} == {
        f"plots/{name}.{kind}" for name in ("optimization_history", "slice") for kind in ("png", "html")
    }


def test_sorting_by_the_objective(workspace: Path, resumed: Answer) -> None:
    store = client(workspace)
    experiments = [experiment.experiment_id for experiment in store.search_experiments()]
    listed = store.search_runs(experiments, "tags.study = 's'", order_by=["metrics.`eval/return` DESC"])
    values = [run.data.metrics["eval/return"] for run in listed if "eval/return" in run.data.metrics]
    assert len(values) == 6
    assert values == sorted(values, reverse=True)


def test_another_space_is_refused(workspace: Path, resumed: Answer) -> None:
    other = [part.replace("0.3)", "0.4)") for part in STUDY]
    answer = train(workspace, *other, "n_trials=6")
    assert answer.code == 2
    assert answer.err.startswith("ppolab: study_name=s: exists with another search space")
    assert answer.err.count("\n") == 1


# --- seeds, pruning, objectives --------------------------------------------------------------------------------------


def test_seeds_of_a_trial(tmp_path: Path) -> None:
    answer = train(tmp_path, *STUDY, "n_trials=2", "seeds_per_trial=3", "seed=10")
    assert answer.code == 0, answer.err
    (parent,) = runs(tmp_path, "attributes.run_name = 's'")
    children = runs(tmp_path, f"tags.`mlflow.parentRunId` = '{parent.info.run_id}'")
    assert [run.info.run_name for run in children] == ["trial-0000", "trial-0001"]
    for child, trial in zip(children, trials(tmp_path), strict=True):
        grandchildren = runs(tmp_path, f"tags.`mlflow.parentRunId` = '{child.info.run_id}'")
        assert [run.data.params["seed"] for run in grandchildren] == ["10", "11", "12"]
        values = [run.data.metrics["eval/return"] for run in grandchildren]
        assert trial.user_attrs["eval/return each seed"] == values
        assert trial.value == child.data.metrics["eval/return"]
        assert min(values) <= trial.value <= max(values)


def test_a_pruned_run_is_marked_and_keeps_its_checkpoint(tmp_path: Path) -> None:
    pruning = ("pruner=median", "pruner.n_startup_trials=1", "pruner.n_warmup_steps=0", "eval_interval=64")
    answer = train(
        tmp_path, "-m", "env=cartpole", "optimizer.lr=1e-2,1e-9", "study_name=s", "workers=1", "n_trials=2",
        "enqueue=[{optimizer.lr:1e-9},{optimizer.lr:1e-2}]", *pruning, *TINY, "total_steps=2048", "eval_episodes=8",
    )  # fmt: skip
    assert answer.code == 0, answer.err
    states = [trial.state for trial in trials(tmp_path)]
    assert states == [TrialState.COMPLETE, TrialState.PRUNED], answer.out
    pruned = trials(tmp_path)[1]
    assert 0 < max(pruned.intermediate_values) < 2048
    (run,) = runs(tmp_path, "attributes.run_name = 'trial-0001'")
    assert (run.info.status, run.data.tags["ended"]) == ("KILLED", "pruned")
    assert (tmp_path / pruned.user_attrs["folders"][0] / "checkpoints/last.ckpt").is_file()


def test_runs_are_pruned_by_evaluations_that_others_have_too(tmp_path: Path) -> None:
    """Episodes, and so evaluations, end at other steps in every run; a learning rate of 1e-8 learns nothing."""
    learning = "{optimizer.lr:1e-3}"
    answer = train(
        tmp_path, "-m", "env=cartpole", "optimizer.lr=choice(1e-3,1e-8)", "study_name=s", "workers=1", "n_trials=4",
        f"enqueue=[{learning},{learning},{{optimizer.lr:1e-8}},{learning}]", "pruner=median",
        "pruner.n_startup_trials=2", "total_steps=20000", "eval_interval=4000", "eval_episodes=4", "logger=none",
        "trainer.threads=1", "clip=0.2,0.21", "sampler=random",
    )  # fmt: skip
    assert answer.code == 0, answer.err
    ended = trials(tmp_path)
    assert [trial.state.name for trial in ended][:3] == ["COMPLETE", "COMPLETE", "PRUNED"], answer.out
    points = Counter(step for trial in ended for step in trial.intermediate_values)
    assert set(points) == {4000, 8000, 12_000, 16_000}
    assert min(points.values()) > 1, "every evaluation can be compared with another"
    rows = [row for folder in run_folders(tmp_path) for row in metric_rows(folder) if row["eval/return"]]
    assert len({row["step"] for row in rows}) > len(points) + 4, "the evaluations came at steps of their own"
    line = next(line for line in answer.out.splitlines() if line.startswith("trial 2    pruned"))
    assert f"eval/return {ended[2].value:,.4g}" in line
    assert ended[2].value == max(ended[2].intermediate_values.items())[1]


def test_a_study_of_an_earlier_version_goes_on(tmp_path: Path) -> None:
    """Made by ppolab 0.1.0 with the same command and n_trials=3."""
    shutil.copytree(FIXTURES / "study_0_1_0", tmp_path / "outputs/studies")
    before = trials(tmp_path)
    command = (*STUDY[:4], "workers=1", *TINY, "total_steps=256", "eval_interval=64", "pruner=median")
    answer = train(tmp_path, *command, "sampler=random", "seed=5", "trainer.threads=1", "n_trials=4", "logger=none")
    assert answer.code == 0, answer.err
    after = trials(tmp_path)
    assert [(trial.number, trial.params, trial.value) for trial in after[:3]] == [
        (trial.number, trial.params, trial.value) for trial in before
    ]
    assert [trial.state for trial in after] == [TrialState.COMPLETE] * 4
    assert set(after[3].intermediate_values) == {64, 128, 192}


def test_two_objectives(tmp_path: Path) -> None:
    answer = train(
        tmp_path, "-m", "search=return_vs_time", "env=cartpole", "study_name=s", "n_trials=3", *TINY,
        "total_steps=256", "minibatch_size=32,64", "direction=maximize,minimize",
    )  # fmt: skip
    assert answer.code == 0, answer.err
    assert all(len(trial.values) == 2 and trial.values[1] > 0 for trial in trials(tmp_path))
    assert (tmp_path / "outputs/studies/s/plots/pareto_front.png").is_file()


def test_condition_of_the_users_own(tmp_path: Path) -> None:
    (tmp_path / "my_space.py").write_text(
        "def width(trial, values):\n"
        "    if values['model.activation'] == 'relu':\n"
        "        return {'model.hidden_sizes': f\"[{trial.suggest_int('width', 4, 9)}]\"}\n"
    )
    answer = train(
        tmp_path, "-m", "env=cartpole", "model.activation=tanh,relu", "hydra.sweeper.condition=my_space.width",
        "sampler=random", "study_name=s", "n_trials=6", *TINY, "total_steps=128",
    )  # fmt: skip
    assert answer.code == 0, answer.err
    for trial, folder in zip(trials(tmp_path), run_folders(tmp_path), strict=True):
        config = (folder / "config.yaml").read_text()
        wide = trial.params["model.activation"] == "relu"
        assert ("width" in trial.params) == wide
        assert (f"- {trial.params.get('width')}\n" in config) == wide


def test_every_search_space_runs(tmp_path: Path) -> None:
    """With the environment and sizes of a test, whose batch every choice of a minibatch divides."""
    sizes = ("num_envs=16", "total_steps=2048", "eval_episodes=1", "logger=none", "n_trials=1")
    folder = Path(__file__).parents[2] / "sweeps/search"
    for path in sorted(folder.glob("*.yaml")):
        if path.stem == "clip_grid":
            continue
        larger = ("num_envs=512", "total_steps=32768") if path.stem == "gpu" else ()
        task = "pendulum" if path.stem == "recipe_near" else "cartpole"  # noise lasts with continuous actions only
        answer = train(tmp_path, "-m", f"search={path.stem}", f"env={task}", *sizes, *larger, "pruner=none")
        assert answer.code == 0, (path.stem, answer.err)
        assert "train it" in answer.out
        assert "search=" not in answer.out
        assert ("eval_interval=20000" in answer.out) == (path.stem == "your_own")
        name = f"{path.stem}-{task}"
        states = [trial.state for trial in trials(tmp_path, name)]
        assert states[0] == TrialState.COMPLETE
        assert set(states[1:]) <= {TrialState.WAITING}, "further guesses of the space wait for another trial"


def test_an_id_names_its_study(tmp_path: Path) -> None:
    answer = train(tmp_path, "-m", "search=clip_lr", "env.id=Acrobot-v1", *TINY, "total_steps=128", "n_trials=1")
    assert answer.code == 0, answer.err
    assert len(trials(tmp_path, "clip_lr-Acrobot-v1")) == 1


def test_values_are_kept_exactly(workspace: Path, resumed: Answer) -> None:
    journal = [json.loads(line) for line in (workspace / "outputs/studies/s.journal").read_text().splitlines()]
    assert journal
    values = [trial.params["clip"] for trial in trials(workspace)]
    written = [(folder / ".hydra/overrides.yaml").read_text() for folder in run_folders(workspace)]
    assert all(f"clip={value!r}" in text for value, text in zip(values, written, strict=True))
