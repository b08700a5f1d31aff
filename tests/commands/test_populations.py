"""Population based training through the real command: lineage, records in MLflow, the picture, and going on."""

from __future__ import annotations

from pathlib import Path

import pytest
from populations import GENERATIONS, MEMBERS, POPULATION, segments
from studies import client, runs, trials

from commands import Answer, assert_one_line, metric_rows, run_folders, train
from ppolab.study.population_trials import segment_of

GIVEN = ("enqueue=[{clip: 0.07}]", "seed=3")


@pytest.fixture(scope="module")
def workspace(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("population")


@pytest.fixture(scope="module")
def population(workspace: Path) -> Answer:
    answer = train(workspace, *POPULATION, *GIVEN, timeout=600)
    assert answer.code == 0, answer.err
    return answer


def test_every_member_has_every_generation_once(workspace: Path, population: Answer) -> None:
    found = segments(workspace)
    assert sorted(found) == [(generation, member) for generation in range(GENERATIONS) for member in range(MEMBERS)]
    assert all(segment["state"] == "COMPLETE" for segment in found.values())
    assert found[0, 0]["settings"]["clip"] == 0.07
    for generation in range(1, GENERATIONS):
        copies = [member for member in range(MEMBERS) if found[generation, member]["copied_from"] is not None]
        assert len(copies) == 1, "a quarter of four"
        earlier = [found[generation - 1, member]["score"][0] for member in range(MEMBERS)]
        assert earlier[copies[0]] == min(earlier)
        assert earlier[found[generation, copies[0]]["copied_from"]] == max(earlier)
        for member in range(MEMBERS):
            changed = found[generation, member]["settings"] != found[generation - 1, member]["settings"]
            assert changed == (member in copies)


def test_segments_go_on_from_each_other(workspace: Path, population: Answer) -> None:
    by_number = {trial.number: trial for trial in trials(workspace)}
    for trial in by_number.values():
        segment = segment_of(trial)
        folder = workspace / trial.user_attrs["folders"][-1]
        config = (folder / "config.yaml").read_text()
        assert f"seed: {3 + segment.member}\n" in config
        assert f"clip: {trial.params['clip']!r}\n" in config
        steps = [int(row["step"]) for row in metric_rows(folder)]
        assert steps[-1] >= segment.until
        if segment.parent is not None:
            before = int(metric_rows(workspace / by_number[segment.parent].user_attrs["folders"][-1])[-1]["step"])
            assert before < steps[0] <= before + 64


def test_the_study_has_its_members_below_it_and_these_their_segments(workspace: Path, population: Answer) -> None:
    (study,) = runs(workspace, "tags.`ppolab.kind` = 'study'")
    members = runs(workspace, f"tags.`mlflow.parentRunId` = '{study.info.run_id}'")
    assert [run.info.run_name for run in members] == [f"member-{member:02d}" for member in range(MEMBERS)]
    assert {run.data.tags["ppolab.kind"] for run in members} == {"member"}
    stored = {(segment_of(t).member, segment_of(t).generation): t for t in trials(workspace)}
    copies = 0
    for member, run in enumerate(members):
        below = runs(workspace, f"tags.`mlflow.parentRunId` = '{run.info.run_id}'")
        assert [each.data.tags["generation"] for each in below] == [str(number) for number in range(GENERATIONS)]
        assert {each.info.status for each in (run, *below)} == {"FINISHED"}
        for generation, each in enumerate(below):
            segment = segment_of(stored[member, generation])
            copied = None if segment.copied_from is None else str(segment.copied_from)
            assert each.data.tags.get("copied_from") == copied
            assert each.data.tags["ppolab.kind"] == "segment"
            told = f"generation {generation}: copy of member {copied}"
            assert (told in run.data.tags["lineage"]) == (copied is not None)
            copies += copied is not None
        rates = client(workspace).get_metric_history(run.info.run_id, "setting/optimizer.lr")
        assert [point.value for point in rates] == [
            stored[member, generation].params["optimizer.lr"] for generation in range(GENERATIONS)
        ]
        assert len(client(workspace).get_metric_history(run.info.run_id, "eval/return")) == GENERATIONS
        assert run.data.metrics["eval/return"] == stored[member, GENERATIONS - 1].value
    assert copies == GENERATIONS - 1
    assert study.data.params["population"] == str(MEMBERS)
    artifacts = {item.path for item in client(workspace).list_artifacts(study.info.run_id, "plots")}
    assert artifacts == {"plots/lineage.png"}


def test_the_summary_names_the_best_of_the_last_generation(workspace: Path, population: Answer) -> None:
    last = [trial for trial in trials(workspace) if segment_of(trial).generation == GENERATIONS - 1]
    best = max(last, key=lambda trial: (trial.value, -segment_of(trial).member))
    member = segment_of(best).member
    assert f"best          {best.value:,.4g} (member {member} after 512 of 512 steps)" in population.out
    assert f"member-{member:02d}-generation-{GENERATIONS - 1:03d}" in population.out
    assert "train it" not in population.out


def test_the_same_command_again_changes_nothing(workspace: Path, population: Answer) -> None:
    before, folders, stored = segments(workspace), run_folders(workspace), len(runs(workspace))
    answer = train(workspace, *POPULATION, *GIVEN, timeout=600)
    assert answer.code == 0, answer.err
    assert segments(workspace) == before
    assert run_folders(workspace) == folders
    assert len(runs(workspace)) == stored, "members and study go on in their runs"


def test_another_interval_is_another_study(workspace: Path, population: Answer) -> None:
    other = [part.replace("interval=128", "interval=256") for part in POPULATION]
    assert_one_line(train(workspace, *other, *GIVEN), "study_name=s: exists with another scheduler.interval (128, not")
