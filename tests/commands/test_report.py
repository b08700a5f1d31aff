"""Reports over a real store: the command as a user types it, and what the choice of runs does to the tables."""

from __future__ import annotations

import csv
import json
import re
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray
from PIL import Image
from report_store import CLIPS, GRID, TASKS, Store, add_grid, add_odd, add_others
from rliable_parts import library, metrics

from commands import REPORT, Answer, assert_one_line, report, run_command
from ppolab.errors import ConfigError
from ppolab.records.tracking import StoreReader
from ppolab.reports.figures import labels
from ppolab.reports.make_report import make_report
from ppolab.reports.results import results_of
from ppolab.reports.scores import collect
from ppolab.reports.settings import ReportConfig, RunsConfig, in_full
from ppolab.reports.tables import write_csv


@pytest.fixture(scope="module")
def store(tmp_path_factory: pytest.TempPathFactory) -> Store:
    made = Store(tmp_path_factory.mktemp("reports"))
    add_grid(made)
    add_odd(made)
    add_others(made)
    return made


@pytest.fixture(scope="module")
def grid(store: Store) -> Answer:
    """The command, typed once."""
    return report(store.folder, "experiment=grid")


def rows(path: Path) -> list[dict[str, str]]:
    with path.open(newline="") as file:
        return list(csv.DictReader(file))


def folder_of(store: Store, name: str = "grid") -> Path:
    return store.folder / "outputs/reports" / name


def scaled_grid(clip: float) -> NDArray[np.float64]:
    """[runs, tasks], as the report scales scores."""
    columns = []
    for task in TASKS:
        lowest = min(GRID[task, other].min() for other in CLIPS)
        best = max(GRID[task, other].mean() for other in CLIPS)
        columns.append((GRID[task, clip] - lowest) / (best - lowest))
    return np.stack(columns, axis=1)


# --- the command -----------------------------------------------------------------------------------------------------


def test_command_tells_what_it_found_and_where_it_wrote(store: Store, grid: Answer) -> None:
    assert (grid.code, grid.err) == (0, "")
    assert "36 finished runs with `experiment=grid`: 3 tasks, 3 methods, 4 seeds of each." in grid.out
    assert "| clip=0.1 | 12 |" in grid.out
    assert "report        outputs/reports/grid/report.md" in grid.out
    assert "Not counted" not in grid.out
    names = {path.name for path in folder_of(store).iterdir()}
    assert names == {
        "report.md", "runs.csv", "aggregates.csv", "improvement.csv", "profiles.csv", "curves.csv",
        "aggregates.png", "improvement.png", "profiles.png", "curves.png",
    }  # fmt: skip


def test_every_run_is_listed_with_its_score(store: Store, grid: Answer) -> None:
    listed = rows(folder_of(store) / "runs.csv")
    assert len(listed) == 36
    for row in listed:
        clip = float(row["method"].removeprefix("clip="))
        at = TASKS.index(row["task"])
        assert float(row["score"]) == pytest.approx(GRID[row["task"], clip][int(row["seed"])])
        assert float(row["scaled"]) == pytest.approx(scaled_grid(clip)[int(row["seed"]), at])


def test_aggregates_over_tasks_are_those_of_rliable(store: Store, grid: Answer) -> None:
    table = {row["method"]: row for row in rows(folder_of(store) / "aggregates.csv") if row["task"] == "over tasks"}
    functions = {
        "iqm": metrics.aggregate_iqm, "median": metrics.aggregate_median, "mean": metrics.aggregate_mean,
        "gap": metrics.aggregate_optimality_gap,
    }  # fmt: skip
    for clip in CLIPS:
        row, matrix = table[f"clip={clip}"], scaled_grid(clip)
        np.random.seed(0)
        _, ends = library.get_interval_estimates(
            {"one": matrix}, lambda m: np.array([function(m) for function in functions.values()]), reps=2000
        )
        for (name, function), low, high in zip(functions.items(), *ends["one"], strict=True):
            assert float(row[name]) == pytest.approx(function(matrix), rel=1e-9, abs=1e-12)
            found = [float(row[f"{name}_low"]), float(row[f"{name}_high"])]
            assert found == pytest.approx([low, high], abs=0.09 * (high - low))
            assert float(row[f"{name}_low"]) <= float(row[name]) <= float(row[f"{name}_high"])


def test_aggregates_per_task_are_in_the_units_of_the_score(store: Store, grid: Answer) -> None:
    table = [row for row in rows(folder_of(store) / "aggregates.csv") if row["task"] != "over tasks"]
    assert [(row["task"], row["method"]) for row in table] == [(t, f"clip={c}") for t in TASKS for c in CLIPS]
    for row in table:
        scores = GRID[row["task"], float(row["method"].removeprefix("clip="))]
        assert float(row["mean"]) == pytest.approx(scores.mean())
        assert float(row["median"]) == pytest.approx(np.median(scores))
        assert float(row["iqm"]) == pytest.approx(np.sort(scores)[1:3].mean())
        assert float(row["worst"]) == pytest.approx(scores.min())
        assert float(row["mean_low"]) < float(row["mean"]) < float(row["mean_high"])
        assert 0 <= float(row["gap"]) < 1


def test_improvement_is_that_of_rliable(store: Store, grid: Answer) -> None:
    table = rows(folder_of(store) / "improvement.csv")
    assert len(table) == 3 * 4  # pairs; over tasks, and on each
    for row in (row for row in table if row["task"] == "over tasks"):
        mine, theirs = (scaled_grid(float(row[key].removeprefix("clip="))) for key in ("method", "against"))
        assert float(row["probability"]) == pytest.approx(metrics.probability_of_improvement(mine, theirs))
        assert float(row["probability_low"]) < float(row["probability"]) < float(row["probability_high"])


def test_profiles_are_those_of_rliable(store: Store, grid: Answer) -> None:
    table = [row for row in rows(folder_of(store) / "profiles.csv") if row["task"] == "over tasks"]
    for clip in CLIPS:
        mine = [row for row in table if row["method"] == f"clip={clip}"]
        thresholds, fractions = np.array([[float(row["threshold"]), float(row["fraction"])] for row in mine]).T
        clear = [np.abs(scaled_grid(clip) - threshold).min() > 1e-9 for threshold in thresholds]  # of rounding
        expected = library.score_distributions(scaled_grid(clip), thresholds)
        np.testing.assert_allclose(fractions[clear], expected[clear], atol=1e-12)


def test_curves_are_means_over_seeds_on_one_grid(store: Store, grid: Answer) -> None:
    table = [row for row in rows(folder_of(store) / "curves.csv") if row["task"] == "Hopper-v5"]
    steps = {
        method: [float(row["step"]) for row in table if row["method"] == method] for method in ("clip=0.1", "clip=0.3")
    }
    assert steps["clip=0.1"] == steps["clip=0.3"]
    assert (len(steps["clip=0.1"]), steps["clip=0.1"][0], steps["clip=0.1"][-1]) == (200, 0, 20_000)
    for row in (row for row in table if row["method"] == "clip=0.2"):
        expected = 0.9 * GRID["Hopper-v5", 0.2].mean() * float(row["step"]) / 20_000
        assert float(row["mean"]) == pytest.approx(expected, abs=1e-6)
        assert float(row["low"]) <= float(row["mean"]) + 1e-9 <= float(row["high"]) + 2e-9


def test_markdown_has_whole_tables_and_pictures_that_are_there(store: Store, grid: Answer) -> None:
    text = (folder_of(store) / "report.md").read_text()
    headings = re.findall(r"^## (.*)$", text, re.MULTILINE)
    assert headings == [
        "Over tasks", "Probability of improvement", "Per task", "Performance profiles", "Learning curves",
    ]  # fmt: skip
    for table in re.findall(r"(?:^\|.*\n)+", text, re.MULTILINE):
        assert len({line.count("|") for line in table.splitlines()}) == 1
    pictures = re.findall(r"!\[.*\]\((.*)\)", text)
    assert len(pictures) == 4
    assert "nan" not in text
    assert re.search(r"\| Ant-v5 \| clip=0.1 \| 4 \| [\d,]+ \[[\d,]+, [\d,]+\] \|", text)


def test_pictures_show_something(store: Store, grid: Answer) -> None:
    for picture in folder_of(store).glob("*.png"):
        image = Image.open(picture)
        assert image.width > 300 and image.height > 100
        assert picture.stat().st_size < 200_000
        colours = image.convert("RGB").getcolors(1 << 20)
        assert colours is not None and len(colours) > 20, picture.name


def test_report_is_a_run_of_its_own_in_the_store(store: Store, grid: Answer) -> None:
    (run_id,) = re.findall(r"in MLflow     run (\w+)", grid.out)
    run = store.client.get_run(run_id)
    assert (run.info.status, run.info.run_name, run.data.tags["report"]) == ("FINISHED", "report-grid", "grid")
    covered = {row["run_id"] for row in rows(folder_of(store) / "runs.csv")}
    assert set(run.data.tags["report.runs"].split()) == covered
    assert run.data.params["selection"] == "experiment=grid"
    kept = {Path(file.path).name for file in store.client.list_artifacts(run_id, "report")}
    assert kept == {path.name for path in folder_of(store).iterdir()}


def test_report_again_does_not_count_the_first(store: Store, grid: Answer, monkeypatch: pytest.MonkeyPatch) -> None:
    before = {path.name: path.read_bytes() for path in folder_of(store).glob("*.csv")}
    made(store, monkeypatch, "grid", bootstrap=2000)
    assert {path.name: path.read_bytes() for path in folder_of(store).glob("*.csv")} == before


WITHOUT = """
import json, sys
script, *arguments = sys.argv[1:]
sys.path.insert(0, script)
sys.argv = ["report.py", *arguments]
from ppolab.cli.commands import report
try:
    report()
finally:
    heavy = ("torch", "pytorch_lightning", "envpool", "mujoco", "optuna", "gymnasium", "pandas", "scipy")
    print("\\n" + json.dumps([name for name in heavy if name in sys.modules]))
"""


def test_report_imports_nothing_that_trains(store: Store) -> None:
    """With what is hard to type, too: a value that looks like a number, an apostrophe, a second equals sign."""
    typed = ("tags.git.commit=12e4", "tags.host=it's me", "baseline=clip=0.2", "compare=clip", "log_to_mlflow=false")
    answer = run_command(store.folder, (sys.executable, "-c", WITHOUT, REPORT.parent, *typed, "output=typed out"))
    assert (answer.code, answer.err) == (0, "")
    assert "36 finished runs with `tags.git.commit=12e4 tags.host=it's me`" in answer.out
    assert (store.folder / "typed out/report.md").is_file()
    assert not {"torch", "pytorch_lightning", "envpool", "mujoco", "optuna", "gymnasium"} & set(
        json.loads(answer.out.splitlines()[-1])
    )


# --- which runs count ------------------------------------------------------------------------------------------------


def settings_for(experiment: str | None = None, **changes: Any) -> ReportConfig:
    """The shipped settings with changes, and fewer resamples."""
    runs = RunsConfig(experiment, changes.pop("study", None), changes.pop("tags", {}))
    fields: dict[str, Any] = {
        "metric": "eval/return", "curve": "train/return", "normalize": "range", "confidence": 0.95, "bootstrap": 200,
        "seed": 0, "log_to_mlflow": False,
    }  # fmt: skip
    return ReportConfig(runs=runs, **(fields | changes))


def made(store: Store, monkeypatch: pytest.MonkeyPatch, experiment: str | None = None, **changes: Any) -> str:
    """The text of a report made in this process."""
    monkeypatch.chdir(store.folder)
    monkeypatch.delenv("MLFLOW_TRACKING_URI", raising=False)
    settings = settings_for(experiment, **changes)
    make_report(settings)
    return (settings.folder / "report.md").read_text()


def test_what_a_sweep_leaves_behind(store: Store, monkeypatch: pytest.MonkeyPatch) -> None:
    text = made(store, monkeypatch, study="s")
    assert "4 finished runs with `study=s`: 1 task, 2 methods, 2 seeds of each." in text
    assert re.search(r"Not counted: 3 runs, not finished: .*seed0 \(\w{8}\) PRUNED, .* RUNNING, .* FAILED\.", text)
    assert re.search(r"Not counted: one run, without eval/return: CartPole-v1-seed3 \(\w{8}\)\.", text)
    assert re.search(r"Not counted: one run, older than another of the same task, method and seed: ", text)
    scores = {(row["method"], row["seed"]): float(row["score"]) for row in rows(folder_of(store, "s") / "runs.csv")}
    assert scores == {("clip=0.1", "0"): 10, ("clip=0.1", "1"): 20, ("clip=0.2", "0"): 40, ("clip=0.2", "4"): 50}


def test_runs_by_tag(store: Store, monkeypatch: pytest.MonkeyPatch) -> None:
    assert "36 finished runs with `tags.host=it's me`" in made(store, monkeypatch, tags={"host": "it's me"})
    with pytest.raises(ConfigError, match=r"^tags.host=her: the store has no such run"):
        made(store, monkeypatch, tags={"host": "her"})


def test_settings_that_differ_are_named_where_they_are_left_out(store: Store, monkeypatch: pytest.MonkeyPatch) -> None:
    text = made(store, monkeypatch, "same")
    assert "(though they differ in compile)" in text
    assert "1 method" in text and "| all runs | 1 | 2.000 |" in text
    assert "2 methods" in made(store, monkeypatch, "same", compare=["compile"])


def test_methods_are_what_compare_names(store: Store, monkeypatch: pytest.MonkeyPatch) -> None:
    text = made(store, monkeypatch, "grid", compare=["clip", "num_envs", "optimizer"], output="by_name")
    assert "| clip=0.1, num_envs=8 | 12 |" in text  # optimizer.lr differs between tasks only
    with pytest.raises(ConfigError, match=r"^compare=clipp: no run has such a parameter; did you mean 'clip'\?"):
        made(store, monkeypatch, "grid", compare=["clipp"])


def test_algorithms_are_told_by_what_each_has_and_reads(store: Store, monkeypatch: pytest.MonkeyPatch) -> None:
    text = made(store, monkeypatch, "family")
    names = {row["method"] for row in rows(folder_of(store, "family") / "runs.csv")}
    assert names == {
        "algorithm=ppo_clip, clip=0.1", "algorithm=ppo_clip, clip=0.2",
        "algorithm=ppo_penalty, algorithm.d_targ=0.01", "algorithm=ppo_penalty, algorithm.d_targ=null",
        "algorithm=trpo",
    }  # fmt: skip
    assert "Methods of different algorithms or optimizers also differ in num_envs." in text
    text = made(store, monkeypatch, "family", compare=["algorithm.name", "target_kl"], output="by_target")
    assert "| algorithm=trpo, target_kl=0.02 | 1 |" in text
    assert "also differ in" not in text


def test_labels_are_short_and_no_two_are_the_same() -> None:
    assert labels(["algorithm=a, algorithm.beta=1", "clip=0.1"]) == ["algorithm=a, beta=1", "clip=0.1"]
    assert labels(["model.lr=1", "optimizer.lr=1"]) == ["model.lr=1", "optimizer.lr=1"]
    long = labels([f"{'x' * 80}={number}" for number in range(3)])
    assert long[0] == "x" * 59 + "…"
    assert len(set(long)) == 3


def test_others_against_the_baseline(store: Store, monkeypatch: pytest.MonkeyPatch) -> None:
    made(store, monkeypatch, "grid", baseline="clip=0.2", output="baseline")
    pairs = [(row["method"], row["against"]) for row in rows(store.folder / "baseline/improvement.csv")]
    assert pairs == [("clip=0.1", "clip=0.2"), ("clip=0.3", "clip=0.2")] * 4
    with pytest.raises(
        ConfigError, match=r"^baseline=clip=2: is no method; did you mean 'clip=0.2'\?; there are clip="
    ):
        made(store, monkeypatch, "grid", baseline="clip=2")


def test_scores_as_they_are(store: Store, monkeypatch: pytest.MonkeyPatch) -> None:
    made(store, monkeypatch, "grid", normalize="none", metric="train/return", output="raw")
    table = {row["method"]: row for row in rows(store.folder / "raw/aggregates.csv") if row["task"] == "over tasks"}
    matrix = 0.9 * np.stack([GRID[task, 0.1] for task in TASKS], axis=1)
    assert float(table["clip=0.1"]["iqm"]) == pytest.approx(metrics.aggregate_iqm(matrix))


def test_tasks_with_different_numbers_of_runs(store: Store, monkeypatch: pytest.MonkeyPatch) -> None:
    text = made(store, monkeypatch, "uneven")
    assert "Over tasks without Pusher-v5, where some method has no run." in text
    assert "Tasks differ in their number of runs" in text
    assert "no interval is given" in text
    over = {
        row["method"]: row for row in rows(folder_of(store, "uneven") / "aggregates.csv") if row["task"] == "over tasks"
    }
    assert {method: row["runs"] for method, row in over.items()} == {"clip=0.1": "6", "clip=0.2": "4"}
    assert over["clip=0.1"]["iqm_low"] and not over["clip=0.2"]["iqm_low"]
    curve = [row for row in rows(folder_of(store, "uneven") / "curves.csv") if row["task"] == "Ant-v5"]
    assert max(float(row["step"]) for row in curve) == 1000  # as far as the shortest run


def test_no_task_in_common(store: Store, monkeypatch: pytest.MonkeyPatch) -> None:
    text = made(store, monkeypatch, "apart")
    assert "No task has runs of every method" in text
    assert "## Over tasks" not in text
    assert "| Ant-v5 | clip=0.2 | clip=0.1 | 1.000 |" in text
    assert not (folder_of(store, "apart") / "aggregates.png").exists()


def test_arguments_of_an_environment_tell_tasks_apart(store: Store, monkeypatch: pytest.MonkeyPatch) -> None:
    text = made(store, monkeypatch, "arguments")
    assert "2 tasks, 1 method" in text
    assert "| My-v0 (difficulty=1) | all runs |" in text


def test_many_methods_are_all_listed_and_the_best_drawn(store: Store, monkeypatch: pytest.MonkeyPatch) -> None:
    text = made(store, monkeypatch, "many")
    assert "Only 12 methods are drawn and compared: those of the highest mean." in text
    assert "The 36 further pairs are in improvement.csv." in text
    assert text.count("| Ant-v5 | clip=") == 14
    assert {row["method"] for row in rows(folder_of(store, "many") / "curves.csv")} == {
        f"clip={trial / 100}" for trial in range(2, 14)
    }


@pytest.mark.parametrize(
    ("experiment", "message"),
    [
        ("grd", r"^experiment=grd: the store has none of that name; did you mean 'grid'\?; there are .*, odd"),
        ("nan", r"^metric=eval/return: is nan in run Ant-v5-seed0 \(\w{8}\); a score must be finite"),
        ("infinite", r"^metric=eval/return: is .* in run Ant-v5-seed0 \(\w{8}\); a score must be finite"),
        ("running", r"^experiment=running: of one run none has finished"),
        ("unmeasured", r"^metric=eval/return: none of the 1 finished runs has logged it"),
    ],
)
def test_runs_that_make_no_report(experiment: str, message: str, store: Store, monkeypatch: pytest.MonkeyPatch) -> None:
    with pytest.raises(ConfigError, match=message) as problem:
        made(store, monkeypatch, experiment)
    assert "\n" not in str(problem.value)
    assert not folder_of(store, experiment).exists()


def numbers(store: Store, folder: Path, **changes: Any) -> dict[str, bytes]:
    """The CSV files of a report on the grid."""
    settings, reader = settings_for("grid", **changes), StoreReader(store.uri)
    found = collect(settings, reader)
    results = results_of(found, settings, lambda run: reader.history(run.run.run_id, settings.curve))
    return {path.name: path.read_bytes() for path in write_csv(folder, found, results)}


@pytest.mark.parametrize(
    ("change", "files"),
    [
        ({"metric": "train/return"}, {"runs.csv", "aggregates.csv"}),
        ({"curve": "eval/return"}, {"curves.csv"}),
        ({"confidence": 0.5}, {"aggregates.csv", "improvement.csv", "profiles.csv", "curves.csv"}),
        ({"bootstrap": 50}, {"aggregates.csv", "improvement.csv", "profiles.csv", "curves.csv"}),
        ({"seed": 1}, {"aggregates.csv", "improvement.csv", "profiles.csv", "curves.csv"}),
        ({"normalize": "none"}, {"runs.csv", "aggregates.csv", "profiles.csv"}),
        ({"compare": ["num_envs"]}, {"runs.csv", "aggregates.csv", "improvement.csv", "profiles.csv", "curves.csv"}),
        ({"baseline": "clip=0.3"}, {"improvement.csv"}),
    ],
)
def test_settings_change_what_they_are_about(
    change: dict[str, Any], files: set[str], store: Store, tmp_path: Path
) -> None:
    usual, changed = numbers(store, tmp_path), numbers(store, tmp_path, **change)
    assert files <= {name for name in usual if usual[name] != changed[name]}


@pytest.mark.parametrize("way", ["setting", "variable"])
def test_store_elsewhere(way: str, store: Store, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("MLFLOW_TRACKING_URI", store.uri if way == "variable" else "http://127.0.0.1:9")
    settings = settings_for(study="s", tracking_uri=store.uri if way == "setting" else None)
    assert "4 finished runs with `study=s`" in make_report(settings).text
    assert {path.name for path in tmp_path.iterdir()} == {"outputs"}


def test_history_is_by_step_and_takes_what_came_last(store: Store) -> None:
    run = store.add("history", 1.0, env__id="Ant-v5", seed=0, steps=())
    for time, step, value in ((1, 10, 1.0), (2, 20, 2.0), (3, 10, 3.0)):
        store.client.log_metric(run, "m", value, time, step)
    assert StoreReader(store.uri).history(run, "m") == [(10, 3.0), (20, 2.0)]


# --- mistakes --------------------------------------------------------------------------------------------------------

MISTAKES = {
    "mistyped key": ("metrik=eval/return", "metrik", "'metric'"),
    "unknown metric": ("metric=eval/retrun", "metric=eval/retrun", "'eval/return'"),
    "unknown curve": ("curve=loss", "curve=loss", "train/return"),
    "unknown scale": ("normalize=rang", "normalize=rang", "'range'"),
    "confidence in per cent": ("confidence=95", "confidence=95", "between 0 and 1"),
    "no resamples": ("bootstrap=0", "bootstrap=0", "greater than 0"),
    "not a whole number": ("bootstrap=many", "bootstrap=many", "a whole number"),
    "file store": ("tracking_uri=./mlruns", "tracking_uri=./mlruns", "sqlite:///"),
    "no store": ("experiment=ppolab", "mlflow.db", "there is no such store", "tracking_uri="),
}


@pytest.mark.parametrize("mistake", MISTAKES)
def test_mistake_is_answered_in_one_line_and_leaves_nothing(mistake: str, tmp_path: Path) -> None:
    arguments, *expected = MISTAKES[mistake]
    assert_one_line(report(tmp_path, *arguments.split()), *expected)
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize(
    ("typed", "meant"),
    [
        ("experiment=ppolab", "runs.experiment='ppolab'"),
        ("study=a b's", r"runs.study='a b\'s'"),
        ("study=null", "runs.study=null"),
        ("tags.git.commit=12e4", "++runs.tags.git.commit='12e4'"),
        ("tags={host: me}", "runs.tags={host: me}"),
        ("compare=clip,optimizer", "compare=[clip,optimizer]"),
        ("compare=[clip]", "compare=[clip]"),
        ("baseline=clip=0.2", "baseline='clip=0.2'"),
        ("metric=eval/return", "metric=eval/return"),
        ("--help", "--help"),
        ("hydra.verbose=true", "hydra.verbose=true"),
    ],
)
def test_short_forms(typed: str, meant: str) -> None:
    assert in_full(typed) == meant
