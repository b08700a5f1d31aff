"""The parts of the benchmark programs that measure nothing: parsing, accounting, tables, what is still to run."""

from __future__ import annotations

import argparse
import importlib.util
import json
import math
import subprocess
import sys
import time
from dataclasses import replace
from pathlib import Path
from types import ModuleType
from typing import Any

import numpy as np
import psutil
import pytest
import torch
from gymnasium import spaces

BENCHMARKS = Path(__file__).parents[2] / "benchmarks"
for folder in (BENCHMARKS, BENCHMARKS / "peers"):  # last: a file there has the name of a module of the library
    if str(folder) not in sys.path:
        sys.path.append(str(folder))

import agent_speed  # noqa: E402
import checkout_run  # noqa: E402
import environments  # noqa: E402
import environments_report  # noqa: E402
import gpu  # noqa: E402
import gpu_bench  # noqa: E402
import image_profile  # noqa: E402
import image_speed  # noqa: E402
import memory_held  # noqa: E402
import memory_speed  # noqa: E402
import options  # noqa: E402
import paper_table1  # noqa: E402
import pbt  # noqa: E402
import processes  # noqa: E402
import profile_report  # noqa: E402
import profile_timeline  # noqa: E402
import scaling  # noqa: E402
import scaling_report  # noqa: E402
import throughput  # noqa: E402
import throughput_report  # noqa: E402
import time_to_return  # noqa: E402
import time_to_return_report  # noqa: E402
from curve import Curve  # noqa: E402
from helpers import make_config  # noqa: E402
from processes import ChildFailed, run_child, run_training  # noqa: E402
from result_tables import append, append_rows, line, markdown, read_rows  # noqa: E402
from selftime import MissingName, SelfTime, between, owner_of  # noqa: E402
from stopwatch import Stopwatch, optimizer_steps  # noqa: E402

from ppolab.config.schema import flattened  # noqa: E402

# --- processes and tables --------------------------------------------------------------------------------------------


def test_a_program_of_a_checkout_runs_with_its_own_package_and_says_why_it_failed(tmp_path: Path) -> None:
    (tmp_path / "src").mkdir()
    told = "open('told', 'w').write(f\"{sys.argv[1:]} {os.environ['PYTHONPATH']} {os.environ['GIVEN']}\")"
    (tmp_path / "src" / "train.py").write_text(f"import os, sys\n{told}\nif 'bad' in sys.argv: sys.exit('no bad')\n")
    assert checkout_run.run_program(tmp_path, "train.py", tmp_path, ["a", "b"], {"GIVEN": "7"}) > 1
    assert (tmp_path / "told").read_text() == f"['a', 'b'] {tmp_path / 'src'} 7"
    with pytest.raises(SystemExit, match=r"train\.py bad: exit code 1\nno bad"):
        checkout_run.run_program(tmp_path, "train.py", tmp_path, ["bad"], {"GIVEN": "7"})


TREE = """
import subprocess, sys
size, *below = sys.argv[1].split("/")
held = bytearray(b"x") * (int(size) << 20)
rest = "/".join(below[1:])
for each in below[0].split(",") if below else []:
    word = f"{each}/{rest}" if rest else each
    child = subprocess.Popen([sys.executable, __file__, word], stdin=subprocess.PIPE, stdout=subprocess.PIPE)
    child.stdout.readline()
    globals()[f"child {each}"] = child
print("ready", flush=True)
sys.stdin.read()
"""
"""A process that holds so many MB, and below it further ones: 20/10/60,5 is one of 20, one of 10 in it, two in that."""


@pytest.mark.skipif(not Path("/proc/self/smaps").is_file(), reason="Linux tells the proportional set size")
def test_workers_are_the_largest_children_of_the_process_that_has_most(tmp_path: Path) -> None:
    sizes = (60, 40, 5)
    script = tmp_path / "tree.py"
    script.write_text(TREE)
    command = [sys.executable, str(script), f"20/10/{','.join(map(str, sizes))}"]
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE) as process:
        assert process.stdout is not None and process.stdout.readline() == b"ready\n"
        looked_at = psutil.Process(process.pid)
        alone, both = memory_held.held_below(looked_at, 0), memory_held.held_below(looked_at, 2)
        too_many = memory_held.held_below(looked_at, 4)
    assert alone is not None and both is not None and too_many is None
    assert alone.processes == both.processes == 5
    assert 20 < alone.training_mb < 40
    assert 100 < both.training_mb < 130
    assert 135 < both.all_mb < 200


def test_a_child_leaves_a_record_and_is_measured(tmp_path: Path) -> None:
    program = "import json, os; json.dump({'value': os.environ['GIVEN']}, open('result.json', 'w'))"
    holder = "import time; held = b'x' * 60_000_000; time.sleep(0.3)"
    program += f"; import subprocess, sys; subprocess.run([sys.executable, '-c', {holder!r}])"
    child = run_child([sys.executable, "-c", program], tmp_path, {"GIVEN": "7"})
    assert child.record == {"value": "7"}
    assert child.seconds > 0
    assert 1 < child.peak_mb < 4000  # a fork begins with the size of this process
    if Path("/proc/self/status").is_file():
        assert child.own_mb is not None
        assert 60 < child.own_mb < 200, "what a process of its own holds"


@pytest.mark.parametrize(
    ("program", "reason"),
    [("raise SystemExit('no such thing')", "exit code 1: no such thing"), ("print('hello')", "exit code 0: hello")],
)
def test_a_child_that_fails_or_leaves_nothing_says_why_in_one_line(tmp_path: Path, program: str, reason: str) -> None:
    with pytest.raises(ChildFailed) as raised:
        run_child([sys.executable, "-c", program], tmp_path)
    assert raised.value.reason == reason


def test_a_child_that_takes_too_long_is_ended(tmp_path: Path) -> None:
    with pytest.raises(ChildFailed) as raised:
        run_child([sys.executable, "-c", "import time; time.sleep(60)"], tmp_path, patience=0.2)
    assert raised.value.reason.startswith("exit code -9: given up after ")


def test_a_speed_script_is_told_what_to_train_and_where_to_leave_its_record(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    script = tmp_path / "script.py"
    script.write_text("import json, sys\nopen(sys.argv[10], 'w').write(json.dumps(sys.argv))")
    monkeypatch.setattr(processes, "peer_script", lambda name: str(script.with_name(name)))
    told: Any = run_training((sys.executable, "script.py"), "Any-v0", (300, 100), ["--more"], seed=3).record
    assert told[1:9] == ["--env", "Any-v0", "--seed", "3", "--steps", "300", "--warmup", "100"]
    assert (told[9], told[11:]) == ("--out", ["--more"])


def test_rows_come_back_from_a_file_as_they_were_stored(tmp_path: Path) -> None:
    rows = [run_of("ppolab", 0, 61.5), run_of("sb3-zoo", 1, None)]
    for row in rows:
        append_rows(tmp_path / "runs.csv", type(row), [row])
    assert read_rows(tmp_path / "runs.csv", time_to_return_report.Row) == rows
    assert read_rows(tmp_path / "none.csv", time_to_return_report.Row) == []


def test_a_bar_in_a_cell_does_not_split_it() -> None:
    assert line(["a|b", "c"]) == "| a/b | c |"
    assert markdown(["x", "y"], [["1", "2"]])[1] == "| --- | ---: |"


# --- stopwatch -------------------------------------------------------------------------------------------------------


def test_gradient_steps_are_the_optimizers_own_count() -> None:
    parameter = torch.nn.Parameter(torch.zeros(3))
    optimizer = torch.optim.Adam([parameter])
    assert optimizer_steps(optimizer) == 0
    for _ in range(3):
        parameter.grad = torch.ones(3)
        optimizer.step()
    assert optimizer_steps(optimizer) == 3


def test_an_optimizer_that_does_not_count_is_refused() -> None:
    parameter = torch.nn.Parameter(torch.zeros(3))
    optimizer = torch.optim.SGD([parameter], lr=0.1, momentum=0.9)
    parameter.grad = torch.ones(3)
    optimizer.step()
    with pytest.raises(SystemExit, match="keeps no count"):
        optimizer_steps(optimizer)


def test_the_measured_span_starts_at_the_first_mark_beyond_the_warm_up(tmp_path: Path) -> None:
    stopwatch = Stopwatch()
    for steps in (100, 200, 300):
        stopwatch.mark(steps, gradient_steps=steps // 10)
    stopwatch.write(tmp_path / "result.json", 150, {})
    record = json.loads((tmp_path / "result.json").read_text())
    assert (record["measured_steps"], record["measured_gradient_steps"], record["steps"]) == (100, 10, 300)
    assert record["measured_iterations"] == 1
    with pytest.raises(SystemExit, match="nothing is left"):
        stopwatch.write(tmp_path / "result.json", 1000, {})


# --- throughput ------------------------------------------------------------------------------------------------------


def test_peers_are_parsed() -> None:
    parsed = throughput.peer("sheeprlasync8")
    assert (parsed.framework, parsed.num_envs, parsed.name) == ("sheeprl", 8, "sheeprlasync8")
    assert throughput.peer("dummy1").framework == "sb3"
    for wrong in ("dummy3", "dummy0", "dummy", "other8"):
        with pytest.raises(argparse.ArgumentTypeError, match="divisor of 2048"):
            throughput.peer(wrong)


def speed_row(side: str, peer: str, repeat: int, speed: float, **more: Any) -> throughput_report.Row:
    row = throughput_report.Row(
        "Hopper-v5", "pair", repeat, side, peer, 8, 1, 1, steps_per_second=speed, gradient_steps_per_1000=156.0, cores=2
    )
    return replace(row, **more)


def speed_rows() -> list[throughput_report.Row]:
    rows = [speed_row("simulator", "", 0, 8000.0, kind="ceiling")]
    for repeat, ours in enumerate((4000.0, 5000.0, 6000.0)):
        rows += [speed_row("ppolab", "dummy8", repeat, ours), speed_row("sb3", "dummy8", repeat, 1000.0)]
    return rows


def test_ratios_are_taken_pair_by_pair_and_failed_peers_stand_in_the_table() -> None:
    failed = speed_row("sheeprl", "sheeprl8", 0, 0.0, problem="exit code 1: no module")
    text = throughput_report.report([*speed_rows(), failed], "command")
    assert "| ppolab / dummy8 | 5.00 | 4.00 | 6.00 | 3 |" in text
    assert (
        "| Hopper-v5 | 5,000 | 62% | dummy8 | 1,000 | 5.0 (4.0 to 6.0) | failed: exit code 1: no module | - | - |"
        in text
    )
    assert "| sheeprl sheeprl8 | failed: exit code 1: no module |" in text
    assert "Not the same work" not in text


def test_a_repeat_whose_other_side_failed_is_no_pair() -> None:
    rows = speed_rows()
    rows[-1] = replace(rows[-1], problem="crashed", steps_per_second=0.0)
    assert throughput_report.pair_ratios(rows, "dummy8") == [4.0, 5.0]


def test_the_report_says_when_a_side_made_fewer_gradient_steps() -> None:
    rows = [replace(row, gradient_steps_per_1000=78.0) if row.side == "sb3" else row for row in speed_rows()]
    assert "Not the same work: stable-baselines3 dummy8 made 78.0" in throughput_report.report(rows, "")


def test_nothing_measured_is_a_report_too() -> None:
    unavailable = speed_row("sb3", "dummy8", 0, 0.0, problem="pip could not install it")
    assert "failed: pip could not install it" in throughput_report.report([unavailable], "")


# --- time to return --------------------------------------------------------------------------------------------------


def points(*returns: float, episodes: int = 100) -> list[dict[str, Any]]:
    return [
        {"clock": 1000.0 + index, "steps": 2048 * (index + 1), "return": value, "episodes": episodes}
        for index, value in enumerate(returns)
    ]


def test_the_threshold_is_passed_where_a_full_window_first_reaches_it() -> None:
    early = points(500.0, episodes=99)
    found = time_to_return.first_crossing([*early, *points(100.0, 475.0, 300.0, 500.0)], 475.0)
    assert found is not None
    assert (found["return"], found["steps"]) == (475.0, 4096)
    assert time_to_return.first_crossing(points(100.0, 474.9), 475.0) is None
    assert time_to_return.first_crossing([], 475.0) is None


def test_a_curve_has_points_once_episodes_have_ended(tmp_path: Path) -> None:
    curve = Curve()
    curve.start()
    curve.add(10, [])
    curve.add(20, [1.0, 2.0])
    curve.write(tmp_path / "curve.json", {})
    record = json.loads((tmp_path / "curve.json").read_text())
    assert [(point["steps"], point["return"], point["episodes"]) for point in record["points"]] == [(20, 1.5, 2)]
    assert record["first_step"] <= record["points"][0]["clock"] <= record["ended"]


def run_of(side: str, seed: int, seconds: float | None, **more: Any) -> time_to_return_report.Row:
    row = time_to_return_report.Row(
        env="Hopper-v5", side=side, seed=seed, threshold=2000.0, cap=1_000_000, reached=seconds is not None,
        seconds=seconds, seconds_from_first_step=None if seconds is None else seconds - 5,
        steps=None if seconds is None else 400_000, best_return=1900.0, last_return=1800.0, ran_steps=1_000_000,
        ran_seconds=900.0, launch_seconds=5.0, jobs=2, load_before=0.1, command="command", versions="torch=2",
    )  # fmt: skip
    return replace(row, **more)


def test_what_was_not_reached_counts_as_infinite_and_bounds_the_ratio() -> None:
    ours = [run_of("ppolab", seed, seconds) for seed, seconds in enumerate((90.0, 100.0, 120.0))]
    theirs = [run_of("sb3-default", seed, seconds) for seed, seconds in enumerate((500.0, None, None))]
    text = time_to_return_report.markdown([*ours, *theirs])
    assert "| Hopper-v5 | 2,000 | 100 | stable-baselines3, defaults | not reached | > 9.0 |" in text
    assert "1 of 3 | not reached" in text
    assert "1: not in 900 (best 1,900)" in text


def test_the_ratio_is_to_the_better_setting_of_the_peer() -> None:
    runs = [("ppolab", 100.0), ("sb3-default", 400.0), ("sb3-zoo", 250.0)]
    text = time_to_return_report.markdown([run_of(side, 0, seconds) for side, seconds in runs])
    assert "| Hopper-v5 | 2,000 | 100 | stable-baselines3, tuned settings of its zoo | 250 | 2.5 |" in text


def test_runs_that_are_there_are_not_missing_and_other_ones_are_refused(tmp_path: Path) -> None:
    jobs = [time_to_return.Job("Hopper-v5", "ppolab", seed, 2000.0, 1_000_000) for seed in (0, 1)]
    assert time_to_return.missing_jobs(jobs, [run_of("ppolab", 0, 90.0)], tmp_path) == jobs[1:]
    with pytest.raises(SystemExit, match="--out"):
        time_to_return.missing_jobs(jobs, [run_of("ppolab", 0, 90.0, cap=50_000)], tmp_path)


def test_curves_are_drawn(tmp_path: Path) -> None:
    curve = [
        {
            "env": "Hopper-v5",
            "side": "ppolab",
            "seed": 0,
            "seconds": 10.0 * index,
            "steps": index,
            "train_return": index,
        }
        for index in range(3)
    ]
    append(tmp_path / "curves.csv", curve[0], curve)
    time_to_return_report.draw([run_of("ppolab", 0, 90.0)], tmp_path / "curves.csv", tmp_path / "curves.png")
    assert (tmp_path / "curves.png").stat().st_size > 1000


# --- profile ---------------------------------------------------------------------------------------------------------


class Clock:
    """Goes on by what it is told."""

    def __init__(self) -> None:
        self.now = 0.0

    def __call__(self) -> float:
        return self.now


def test_every_moment_belongs_to_the_innermost_part() -> None:
    clock = Clock()
    timer = SelfTime("rest", clock=clock)

    def inner() -> None:
        clock.now += 3

    def outer() -> None:
        clock.now += 1
        measured_inner()
        clock.now += 1

    measured_inner, measured_outer = timer.measured(inner, "inner"), timer.measured(outer, "outer")
    before = timer.seconds()
    measured_outer()
    clock.now += 10
    assert between(before, timer.seconds()) == {"rest": 10.0, "outer": 2.0, "inner": 3.0}


def test_a_part_admits_only_what_may_begin_inside_it_and_survives_errors() -> None:
    clock = Clock()
    timer = SelfTime("rest", {"evaluation": ()}, clock)

    def failing() -> None:
        clock.now += 2
        raise ValueError

    def evaluation() -> None:
        clock.now += 1
        with pytest.raises(ValueError):
            policy()

    policy = timer.measured(failing, "policy")
    timer.measured(evaluation, "evaluation")()
    clock.now += 5
    assert timer.seconds() == {"rest": 5.0, "evaluation": 3.0}


def test_names_are_found_where_they_are_looked_up_and_a_missing_one_is_named() -> None:
    assert owner_of("ppolab.training.module.OnPolicyModule.training_step")[1] == "training_step"
    assert owner_of("json.dumps")[0] is json
    for missing in (
        "json.dump_all",
        "ppolab.training.module.Nothing.here",
        "ppolab.training.module.OnPolicyModule.no_such",
        "no_such_module.function",
    ):
        with pytest.raises(MissingName, match=missing):
            owner_of(missing)


def loaded(name: str) -> ModuleType:
    """benchmarks/profile.py under another name than the library's module has."""
    spec = importlib.util.spec_from_file_location(name, BENCHMARKS / "profile.py")
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def test_every_function_that_the_profile_measures_exists() -> None:
    for name, _ in loaded("benchmark_profile").PARTS:
        owner, attribute = owner_of(name)[:2]
        assert callable(getattr(owner, attribute))


def test_profile_does_not_stand_in_the_way_of_the_librarys_module() -> None:
    program = "import cProfile, profile; cProfile.run('1 + 1'); print(profile.Profile.__name__)"
    done = subprocess.run([sys.executable, "-c", program], cwd=BENCHMARKS, capture_output=True, text=True, check=True)
    assert done.stdout.endswith("Profile\n")


def test_the_profiles_parts_sum_to_the_whole(tmp_path: Path) -> None:
    usual = {"simulation": 6.0, "update": 3.7, "logging": 0.1, "Lightning": 0.2}
    each = (usual, {**usual, "evaluation": 5.0}, {**usual, "simulation": 12.0, "update": 1.7})
    parts = ("simulation", "update", "logging", "Lightning")
    profile = profile_report.Profile("Hopper-v5", 20_480, each, parts, ("Lightning", "logging"), 0.5)
    assert profile.whole == pytest.approx(34.0)
    text = profile_report.markdown(profile, "command", "versions")
    assert "| simulation | 8,000.00 | 70.6% | 6,000.00 |" in text
    assert "Lightning + logging: 2.65% (within the 5% allowed); of the medians 3.00%" in text
    assert "evaluation 5.00 s" in text
    profile_report.draw(profile, tmp_path / "profile.png")
    profile_report.store(profile, tmp_path / "profile.csv")
    assert (tmp_path / "profile.png").stat().st_size > 1000
    assert "simulation,3,20480,24.0,True" in (tmp_path / "profile.csv").read_text()


def test_the_timeline_tells_who_is_busy(tmp_path: Path) -> None:
    loop = np.zeros((4, 2, 3))  # asked, answered, sent, by step and group
    loop[:, 0, 1], loop[:, 0, 2] = [0.0, 3.0, 6.0, 9.0], [0.0, 4.0, 7.0, 0.0]
    loop[:, 1, 1], loop[:, 1, 2] = [0.0, 5.0, 7.0, 8.0], [1.0, 5.0, 7.0, 0.0]
    spans = (("collecting loop", 0.0, 9.0), ("update", 9.0, 12.0))
    iteration = profile_timeline.Iteration(0.0, 12.0, spans, loop)
    assert iteration.simulating == [[(0.0, 3.0), (4.0, 6.0), (7.0, 9.0)], [(1.0, 5.0), (5.0, 7.0), (7.0, 8.0)]]
    assert iteration.acting == [[(3.0, 4.0), (6.0, 7.0)], [(5.0, 5.0), (7.0, 7.0)]]
    assert profile_timeline.together(iteration.simulating) == [0.0, 4.0, 5.0]
    text = "\n".join(profile_timeline.lines([iteration]))
    assert "2,000,000.0 us from its actions to its results, then 500,000.0 us" in text
    assert "2 of the groups 55.6%, 1 of the groups 44.4%, 0 of the groups 0.0%" in text
    assert profile_timeline.lines([replace(iteration, loop=None)]) == []
    evaluated = replace(iteration, end=30.0, spans=(*spans, ("evaluation", 12.0, 30.0)))
    assert profile_timeline.median_iteration([evaluated, iteration, evaluated], ["evaluation"]) is iteration
    profile_timeline.draw("Hopper-v5", iteration, profile_report.colors(["update"]), tmp_path / "timeline.png")
    assert (tmp_path / "timeline.png").stat().st_size > 1000


# --- scaling ---------------------------------------------------------------------------------------------------------


def scaling_row(name: str, value: str, repeat: int, speed: float, **more: Any) -> scaling_report.Row:
    row = scaling_report.Row(
        name=name, env="Hopper-v5", value=value, repeat=repeat, copy=0, copies=1, measured_steps=2048,
        measured_seconds=1.0, steps_per_second=speed, measured_gradient_steps=320, cpu_seconds_per_million=300.0,
        peak_mb=600.0, load_before=0.0, cores=2, settings="", command="command", versions="torch=2",
    )  # fmt: skip
    return replace(row, **more)


def test_points_keep_the_batch_and_leave_something_to_measure() -> None:
    for point in scaling.envs_points():
        counts = dict(setting.split("=") for setting in point.settings)
        assert int(counts["num_envs"]) * int(counts["rollout_steps"]) == 2048
    for name, points_of in scaling.POINTS.items():
        values = [point.value for point in points_of()]
        assert len(set(values)) == len(values), name
        assert all(point.warmup < point.steps for point in points_of())
    assert [point.value for point in scaling.envs_points()][-1] == "512"


def test_medians_over_rounds() -> None:
    rows = [scaling_row("width", "64", repeat, speed) for repeat, speed in enumerate((10.0, 30.0, 20.0))]
    text = scaling_report.markdown({"width": rows, "envs": []})
    assert "| 64 | 20 | 10 | 30 | 320 | 300 | 600 |" in text
    assert "medians of 3 rounds" in text


def test_runs_side_by_side_are_added_within_their_round() -> None:
    alone = [scaling_row("pair", "one", repeat, 100.0) for repeat in range(3)]
    both = [scaling_row("pair", "two", repeat, 80.0, copy=copy, copies=2) for repeat in range(3) for copy in (0, 1)]
    text = scaling_report.markdown({"pair": [*alone, *both]})
    assert "| two | 160 | 160 | 160 | 1.60 | 80 | 600 |" in text
    assert math.isclose(scaling_report.round_totals(both)[0], 160.0)


def test_processor_and_gpu_stand_side_by_side() -> None:
    speeds = {"64 64 cpu": (90.0, 110.0), "64 64 gpu": (50.0, 50.0), "1024 512 cpu": (10.0,), "1024 512 gpu": (400.0,)}
    rows = [
        scaling_row("device", value, repeat, speed) for value, two in speeds.items() for repeat, speed in enumerate(two)
    ]
    text = scaling_report.markdown({"device": rows})
    assert "| 64 | 64 | 100 | 50 | 0.50 |" in text and "| 1,024 | 512 | 10 | 400 | 40.00 |" in text


def test_paths_are_compared_by_their_processor_time_within_each_round() -> None:
    times = {"all": (50.0, 100.0, 60.0), "other": (100.0, 150.0, 180.0)}
    rows = [
        scaling_row("path", value, repeat, 10.0, cpu_seconds_per_million=seconds)
        for value, three in times.items()
        for repeat, seconds in enumerate(three)
    ]
    assert "| other | 10 | 150 | 2.0 (1.5 to 3.0) |" in scaling_report.markdown({"path": rows})


# --- the paper's Table 1 ---------------------------------------------------------------------------------------------


def test_scores_are_scaled_between_random_actions_and_the_best_setting() -> None:
    best = {"clip 0.2": {0: 90.0, 1: 110.0}, "clip 0.1": {0: 50.0, 1: 70.0}, "no clipping": {0: 0.0, 1: 0.0}}
    others = {name: {0: 100.0, 1: 100.0} for name in paper_table1.PAPER if name not in best}
    doubled = {name: {seed: 2 * score for seed, score in seeds.items()} for name, seeds in (best | others).items()}
    places = paper_table1.averages(
        {"A-v0": best | others, "B-v0": doubled}, {"A-v0": 20.0, "B-v0": 40.0}, ["A-v0", "B-v0"]
    )
    found = {place.setting: place for place in places}
    assert list(found) == list(paper_table1.PAPER)
    assert (found["clip 0.2"].average, found["clip 0.1"].average) == pytest.approx((1.0, 0.5))
    assert found["no clipping"].average == pytest.approx(-0.25)
    assert found["clip 0.1"].low < 0.5 < found["clip 0.1"].high
    assert found["fixed 1"].low == found["fixed 1"].high == 1.0


@pytest.mark.parametrize(
    "name", [path.stem for path in (BENCHMARKS.parent / "conf/experiment/table1").glob("*_*.yaml")]
)
def test_every_setting_of_table_1_is_told_from_its_parameters(name: str) -> None:
    config = make_config(f"experiment=table1/{name}")
    parameters = {key: str(value) for key, value in flattened(config).items()}
    assert paper_table1.setting_of(parameters) == name.replace("_", " ")
    assert (config.optimizer["lr"], config.optimizer["betas"], config.gamma) == (3e-4, [0.9, 0.999], 0.99)


def table_run(setting: str, seed: int, score: float, steps: int = 1000) -> paper_table1.Run:
    return paper_table1.Run("Reacher-v5", setting, seed, steps, score, f"{setting}-{seed}-{score}")


def test_of_a_run_that_was_made_again_the_newest_counts() -> None:
    runs = [table_run("clip 0.2", 0, -9.0), table_run("clip 0.2", 1, -8.0), table_run("clip 0.2", 0, -7.0)]
    assert paper_table1.grouped(runs) == {"Reacher-v5": {"clip 0.2": {0: -7.0, 1: -8.0}}}


def test_the_store_s_newest_run_comes_last(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    parameters = {"env.id": "Reacher-v5", "algorithm.name": "ppo_clip", "clip": "0.2", "seed": "0", "total_steps": "9"}
    stored = [argparse.Namespace(run_id=name, status="FINISHED", parameters=parameters, metrics={"train/return": score})
              for name, score in (("newer", -4.0), ("older", -5.0))]  # fmt: skip
    reader = argparse.Namespace(experiments=lambda: ["paper_table1"], runs=lambda *_: stored)
    monkeypatch.setattr(paper_table1, "StoreReader", lambda _: reader)
    runs = paper_table1.collect(tmp_path / "runs.csv", "sqlite:///x.db")
    assert paper_table1.grouped(runs) == {"Reacher-v5": {"clip 0.2": {0: -4.0}}}
    again = paper_table1.collect(tmp_path / "runs.csv", "sqlite:///x.db")
    assert again == runs


def test_without_a_store_the_table_is_made_of_the_runs_that_were_kept(tmp_path: Path) -> None:
    kept = table_run("clip 0.2", 0, -4.0)
    append_rows(tmp_path / "runs.csv", type(kept), [kept])
    assert paper_table1.collect(tmp_path / "runs.csv", f"sqlite:///{tmp_path / 'none.db'}") == [kept]
    with pytest.raises(SystemExit, match="has no finished run"):
        paper_table1.collect(tmp_path / "none.csv", f"sqlite:///{tmp_path / 'none.db'}")


def test_what_cannot_be_compared_is_said() -> None:
    scores = {"Reacher-v5": {name: {0: -50.0} for name in paper_table1.PAPER}}
    text = paper_table1.report(scores, {"Reacher-v5": -43.0}, {4096: 33, 14000: 1})
    assert "**Runs of different lengths are compared here**: 33 of 4,096, 1 of 14,000 environment steps." in text
    assert "On Reacher-v5 no setting is better than random actions" in text
    assert "| setting | average |" not in text
    text = paper_table1.report(scores, {"Reacher-v5": -60.0}, {4096: 33})
    assert "Every run has 4,096 environment steps." in text
    assert "| clip 0.2 | 1.00 |" in text


def test_a_run_that_is_none_of_table_1_is_refused() -> None:
    with pytest.raises(SystemExit, match=r"holds a run with clip 0\.25, which Table 1 does not have"):
        paper_table1.setting_of({"algorithm.name": "ppo_clip", "clip": "0.25"})


# --- what settings are worth -----------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", [name for name in options.OPTIONS if name != "default"])
def test_every_option_is_another_value_of_what_it_is_named_after(name: str) -> None:
    default, other = (flattened(make_config(*overrides)) for overrides in ((), options.OPTIONS[name]))
    changed = {key for key in default.keys() | other.keys() if default.get(key) != other.get(key)}
    assert any(key.split(".")[-1] == name for key in changed)
    assert len(changed - {"anneal_lr", "optimizer._target_"}) <= 1 or name == "anneal_lr"


def test_options_are_compared_seed_by_seed() -> None:
    def row(option: str, seed: int, score: float) -> options.Row:
        return options.Row(option, "hopper", "Hopper-v5", seed, 1000, score, 2 * score, 1.0, "python ...", "torch 2")

    rows = [row("default", 0, 100.0), row("default", 1, 200.0), row("lr", 0, 130.0), row("lr", 1, 250.0)]
    text = options.report([*rows, row("lr", 2, 0.0)])
    assert "| default |  | 2 | 150 ± 71 |  | 300 |" in text
    assert "| lr | `optimizer.lr=3e-4` | 3 | 127 ± 125 | 40 ± 10 | 253 |" in text
    assert "betas" not in text


def test_what_is_in_the_table_of_options_is_not_run_again(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    row = options.Row("lr", "hopper", "Hopper-v5", 0, 1000, 1.0, 2.0, 1.0, "python ...", "torch 2")
    append_rows(tmp_path / "runs.csv", type(row), [row])
    options.run_all(argparse.Namespace(out=tmp_path, seeds=[0], env=["hopper"], option=["lr"], jobs=1))
    assert "1 of 1 runs are in" in capsys.readouterr().out


# --- the speed of an agent -------------------------------------------------------------------------------------------


def test_the_speed_of_an_agent_is_measured(capsys: pytest.CaptureFixture[str]) -> None:
    settings = ("env=cartpole", "model.hidden_sizes=[8]", "compile=false")
    assert agent_speed.main(["--stretches", "3", "--calls", "2", "--settings", *settings]) == 0
    first, header, *rows = capsys.readouterr().out.splitlines()
    assert first == "<Agent CartPole-v1, 0 steps, no checkpoint, computed in PyTorch>"
    assert header.split() == ["microseconds", "median", "least"]
    assert [row[:34].strip() for row in rows] == [
        "one observation", "one observation, sampled", "1,024 observations", "1,024 observations, sampled",
    ]  # fmt: skip
    assert all(0 < float(row.split()[-1]) <= float(row.split()[-2]) for row in rows)


def test_an_agent_that_is_too_slow_is_told() -> None:
    timings = [
        agent_speed.Timing(what, median, 1.0) for what, median in (("a", 30.5), ("b", 99), ("c", 300), ("d", 999))
    ]
    assert agent_speed.problems(timings) == ["a: 30.5 us, not 30"]
    assert agent_speed.problems([timings[0], *timings[1:2], agent_speed.Timing("c", 301.0, 1.0), timings[3]])[1:] == [
        "c: 301.0 us, not 300"
    ]


# --- environments ----------------------------------------------------------------------------------------------------


def seen(name: str, family: str, speed: float | None = None, reason: str = "") -> environments.Row:
    return environments.Row(name, family, "float32 4", "2 choices", 100, speed, reason)


def test_the_page_of_environments_counts_families_and_joins_what_looks_the_same(tmp_path: Path) -> None:
    rows = [
        seen("A-v1", "b.c", 10.0),
        seen("B-v1", "b.c", 30.0),
        seen("C-v1", "b.c", 20.0),
        seen("D-v1", "e", reason="no"),
    ]
    environments_report.write_report(rows, tmp_path / "page.md")
    text = (tmp_path / "page.md").read_text()
    assert "4 ids, of which 3 train." in text
    assert "| [b.c](#bc) | 3 | 3 | 20 |" in text
    assert "| [e](#e) | 1 | 0 |  |" in text
    assert "| `A-v1` `B-v1` `C-v1` | float32 4 | 2 choices |  | 100 | trains |" in text
    assert "| `D-v1` | float32 4 | 2 choices |  | 100 | no |" in text


def test_the_page_of_environments_tells_where_masks_are(tmp_path: Path) -> None:
    mask = "Dict of action_mask MultiBinary((3, 4)), seen float32 4"
    rows = [
        replace(seen("A-v1", "jumanji"), observation="Dict of action_mask bool 4"), seen("B-v1", "pgx"),
        replace(seen("C-v1", "jumanji"), observation=mask, action="3x4 choices"),
        replace(seen("D-v1", "jumanji"), observation=mask, action="4x4x4 choices"),
    ]  # fmt: skip
    environments_report.write_report(rows, tmp_path / "page.md")
    text = (tmp_path / "page.md").read_text()
    assert "| `A-v1` | Dict of action_mask bool 4 | 2 choices | observation | 100 | trains |" in text
    assert "| `B-v1` | float32 4 | 2 choices | info | 100 | trains |" in text
    assert f"| `C-v1` | {mask} | 3x4 choices | observation, over combinations | 100 | trains |" in text
    assert f"| `D-v1` | {mask} | 4x4x4 choices | observation | 100 | trains |" in text


def test_spaces_are_told_in_few_words() -> None:
    parts = spaces.Dict(eye=spaces.Box(0, 255, (2, 3), np.uint8), two=spaces.Tuple([spaces.Discrete(3)]))
    assert environments.described(parts) == "Dict of eye uint8 2x3, two Tuple of 3 choices"
    assert environments.described(spaces.MultiDiscrete([2, 5])) == "2x5 choices"
    assert environments.described(spaces.Box(0, 1, ())) == "float32 number"


def test_an_environment_is_tried_in_a_process_of_its_own(monkeypatch: pytest.MonkeyPatch) -> None:
    ended: list[int] = []

    class Crashing:
        pid, exitcode = 7, -11

        def __init__(self, target: Any, args: tuple[str, str]) -> None:
            assert target is environments._try and args[0] == "Any-v0"
            self.folder = Path(args[1])

        def start(self) -> None:
            (self.folder / environments.SAID).write_text("line\nlast words\n")

        def join(self, seconds: float | None = None) -> None:
            assert seconds in (environments.PATIENCE, None)

    monkeypatch.setattr(environments.FORKS, "Process", Crashing)
    monkeypatch.setattr(environments.os, "killpg", lambda pid, _: ended.append(pid))
    row = environments.row_of("Any-v0", "toy")
    assert ended == [7]  # with what it has started
    assert row == environments.Row(
        "Any-v0", "toy", "", "", None, None, "the process that tried it ended: exit code -11: last words"
    )


# --- images ----------------------------------------------------------------------------------------------------------


def test_the_table_of_images_compares_what_had_the_same_settings() -> None:
    def measured(side: str, speed: float, memory: float, num_envs: int = 8) -> image_speed.Row:
        return image_speed.Row(side, num_envs, 3, speed, memory, 60, 2, 0.1, "torch=1")

    rows = [
        measured("sb3", 500.0, 900.0), measured("ppolab", 1000.0, 600.0), measured("ppolab", 1400.0, 610.0),
        measured("sb3", 620.0, 900.0), measured("ppolab", 1200.0, 700.0), measured("cleanrl", 700.0, 1.0, num_envs=32),
    ]  # fmt: skip
    assert image_speed.table(rows)[2:] == [
        "| 8 | 3 | ppolab | 3 | 1,200 | 1.00 | 610 | 1.00 |",
        "| 8 | 3 | sb3 | 2 | 560 | 0.47 | 900 | 1.48 |",
        "| 32 | 3 | cleanrl | 1 | 700 |  | 1 |  |",
    ]


def test_the_profile_of_images_adds_up_what_multiplies() -> None:
    in_pytorch = [("aten::mm", 3000.0), ("aten::convolution_backward", 5000.0), ("aten::relu", 2000.0)]
    assert image_profile.table(in_pytorch, share=0.5)[2:] == [
        "| aten::convolution_backward | 5.0 | 50.0% |",
        "| aten::mm | 3.0 | 30.0% |",
        "| aten::relu | 2.0 | 20.0% |",
        "| products of matrices and convolutions | 8.0 | 80.0% |",
        "| all of the update | 10.0 | 100.0% |",
    ]
    in_native = [("aten::mm", 2000.0), ("_Convolutions", 4000.0), ("_ConvolutionsBackward", 4000.0)]
    assert image_profile.table(in_native, share=0.75)[5:] == [
        "| products in the C++ code, of its own time | 6.0 | 75.0% |",
        "| products of matrices and convolutions | 8.0 | 80.0% |",
        "| all of the update | 10.0 | 100.0% |",
    ]


# --- memory ----------------------------------------------------------------------------------------------------------


def remembering_row(task: str, side: str, speed: float, gradient_steps: int = 720) -> memory_speed.Row:
    return memory_speed.Row(task, side, speed, 18_000, 9, gradient_steps, 400.0, 500.0, 1, 0.1, "torch=1")


def test_speeds_with_memory_are_compared_with_the_faster_peer_and_with_no_memory() -> None:
    measured = [
        ("hopper", "ppolab, gru", 3000.0), ("cartpole", "RecurrentPPO, 2 threads", 150.0),
        ("cartpole", "ppolab, gru", 2000.0), ("cartpole", "ppolab, gru", 4000.0), ("cartpole", "ppolab, gru", 2400.0),
        ("cartpole", "ppolab, no memory", 6000.0), ("cartpole", "RecurrentPPO, 1 thread", 300.0),
    ]  # fmt: skip
    rows = [remembering_row(*each) for each in measured]
    assert memory_speed.table(rows)[2:] == [
        "| CartPole without velocities | ppolab, gru | 3 | 2,400 | 8.0 | 2.50 | 400 | 80 | 500 |",
        "| CartPole without velocities | ppolab, no memory | 1 | 6,000 | 20.0 | 1.00 | 400 | 80 | 500 |",
        "| CartPole without velocities | RecurrentPPO, 1 thread | 1 | 300 | 1.0 | 20.00 | 400 | 80 | 500 |",
        "| CartPole without velocities | RecurrentPPO, 2 threads | 1 | 150 | 0.5 | 40.00 | 400 | 80 | 500 |",
        "| Hopper-v5 | ppolab, gru | 1 | 3,000 |  |  | 400 | 80 | 500 |",
    ]


def test_sides_that_made_fewer_gradient_steps_are_told() -> None:
    rows = [remembering_row("hopper", "ppolab, gru", 1.0), remembering_row("hopper", "ppolab, lstm", 1.0)]
    assert memory_speed.differing_work(rows) is None
    rows.append(remembering_row("hopper", "RecurrentPPO, 1 thread", 1.0, gradient_steps=630))
    assert memory_speed.differing_work(rows) == "not the same work: 70 or 80 gradient steps per iteration"


def test_settings_of_the_sides_differ_in_the_memory_alone() -> None:
    without, *others = (
        flattened(make_config(*memory_speed.OURS, f"model.memory={side.memory}"))
        for side in sorted(memory_speed.SIDES.values(), key=lambda side: side.memory != "none")
        if not side.threads
    )
    assert (without["target_kl"], without["sequence_length"], without["rollout_steps"]) == (None, 128, 128)
    for other in others:
        assert {key for key in without if without[key] != other[key]} == {"model.memory"}


# --- one GPU ----------------------------------------------------------------------------------------------------------


def test_all_parts_of_the_gpu_have_a_limit_and_take_less_than_six_minutes() -> None:
    assert set(gpu.LIMITS) == set(gpu.PARTS)
    assert sum(gpu.LIMITS.values()) < 360
    assert sum(limit for _, limit in gpu.RETURNS.values()) < gpu.LIMITS["returns"]


@pytest.mark.parametrize("hangs", [False, True])
def test_a_part_that_fails_or_hangs_does_not_end_the_others(
    hangs: bool, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    asked = []

    def run(command: list[str], limit: float) -> int:
        asked.append((command[command.index("--inside") + 1], limit))
        if asked[-1][0] == "simulator" and hangs:
            raise subprocess.TimeoutExpired(command, limit)
        return int(asked[-1][0] == "simulator")

    monkeypatch.setattr(gpu, "run_in_group", run)
    monkeypatch.setattr(sys, "argv", ["gpu.py", "--table", str(tmp_path / "gpu.csv")])
    with pytest.raises(SystemExit, match=r"these parts failed: simulator$"):
        gpu.main()
    assert asked == list(gpu.LIMITS.items())
    assert ("was ended after" if hangs else "failed with exit code 1") in capsys.readouterr().out


def test_a_part_that_hangs_takes_its_trainings_with_it(tmp_path: Path) -> None:
    """A training that went on would slow down the parts that follow."""
    begun, went_on = tmp_path / "begun", tmp_path / "went_on"
    training = f"import pathlib, time; pathlib.Path({str(begun)!r}).touch(); time.sleep(4)"
    training += f"; pathlib.Path({str(went_on)!r}).touch()"
    part = f"import subprocess, sys; subprocess.Popen([sys.executable, '-c', {training!r}]).wait()"
    with pytest.raises(subprocess.TimeoutExpired):
        gpu.run_in_group([sys.executable, "-c", part], 2.5)
    assert begun.exists()
    time.sleep(3)
    assert not went_on.exists()
    assert gpu.run_in_group([sys.executable, "-c", "raise SystemExit(3)"], 60) == 3


def test_rows_of_the_gpu_are_stored_one_by_one(tmp_path: Path) -> None:
    bench = gpu_bench.Bench(torch.device("cpu"), gpu_bench.TINY, tmp_path / "gpu.csv")
    bench.add("simulator", "steps", 1234.5678, "steps/s", "Hopper-v5", 4)
    bench.add("images", "fp32", 2.0, "ms")
    rows = read_rows(bench.table, gpu_bench.Row)
    assert rows[0] == gpu_bench.Row("simulator", "steps", "Hopper-v5", 4, 1234.57, "steps/s", "cpu")
    assert list(gpu.table(rows))[2:] == [
        "| simulator | Hopper-v5 | 4 | steps | 1,234.57 | steps/s | cpu |", "| images |  |  | fp32 | 2.0 | ms | cpu |"
    ]  # fmt: skip


def test_calls_are_timed_until_there_are_enough() -> None:
    bench = gpu_bench.Bench(torch.device("cpu"), replace(gpu_bench.TINY, seconds=10.0, steps=20), Path())
    calls = []
    taken, seconds, launching = gpu_bench.timed(bench, lambda: calls.append(None))
    assert (taken, len(calls)) == (20, 23) and 0 < launching <= seconds < 10


def test_a_gradient_step_is_its_share_of_an_update() -> None:
    rows = [{"time/update": update, "policy/epochs": "4"} for update in ("9", "1.6", "1.6")]
    settings = ["env=hopper", "num_envs=4", "rollout_steps=16", "minibatch_size=32"]
    bench = gpu_bench.Bench(torch.device("cpu"), replace(gpu_bench.TINY, training=()), Path())
    assert gpu.gradient_seconds(rows, settings, bench) == pytest.approx(0.2)
    assert gpu.median_of(rows, "time/update") == 1.6


# --- populations -----------------------------------------------------------------------------------------------------


def test_searches_are_compared_repeat_by_repeat() -> None:
    def row(side: str, repeat: int, evaluated: float) -> pbt.Row:
        return pbt.Row(side, repeat, 8, 100, 800, 1.0, evaluated, evaluated, 0)

    rows = [row(pbt.PBT, 0, -150.0), row(pbt.RANDOM, 0, -200.0), row(pbt.RANDOM, 1, -100.0), row(pbt.PBT, 1, -140.0)]
    told = pbt.report([*rows, row(pbt.PBT, 2, 0.0)])
    assert told[2:] == [
        "| 0 | -150.0 | -200.0 |", "| 1 | -140.0 | -100.0 |", "| median | -145.0 | -150.0 |",
        "population based training is better in 1 of 2 repeats",
    ]  # fmt: skip


def test_both_searches_have_the_same_space_and_steps() -> None:
    arguments = argparse.Namespace(members=8, interval=100, steps=1000, workers=2, judged_by=20)
    commands = {side: pbt.command_of(side, 3, arguments) for side in (pbt.PBT, pbt.RANDOM)}
    shared = set(commands[pbt.PBT]) & set(commands[pbt.RANDOM])
    assert {*pbt.SPACE, *pbt.TASK, "total_steps=1000", "seed=300", "eval_episodes=20"} <= shared
    assert set(commands[pbt.PBT]) - shared == {"scheduler=pbt", "population=8", "scheduler.interval=100"}
    assert set(commands[pbt.RANDOM]) - shared == {"sampler=random", "n_trials=8", "eval_interval=0"}
