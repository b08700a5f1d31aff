"""Who waits for whom in an iteration: one iteration of profile.py as a picture, and what it shows in numbers."""

from __future__ import annotations

import functools
import statistics
import time
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from matplotlib.figure import Figure
from numpy.typing import NDArray

ASKED, ANSWERED, SENT = range(3)
"""Columns of what the collecting loop times, see `ppolab.training.native_loop.TIMES`."""
CLOSE_STEPS = 6
"""Steps of a rollout that the second part of the picture shows."""


@dataclass(frozen=True)
class Iteration:
    """An iteration in seconds of one clock.

    Attributes:
        spans: (part, begin, end) of the main thread.
        loop: [T+1, groups, 3] when a group was asked for a step, had answered, and was sent the next actions. None
            where Python collected.
    """

    begin: float
    end: float
    spans: tuple[tuple[str, float, float], ...]
    loop: NDArray[np.float64] | None

    @property
    def simulating(self) -> list[list[tuple[float, float]]]:
        """By group, when it simulated: from the actions to the answer."""
        assert self.loop is not None
        return [
            list(zip(self.loop[:-1, group, SENT].tolist(), self.loop[1:, group, ANSWERED].tolist(), strict=True))
            for group in range(self.loop.shape[1])
        ]

    @property
    def acting(self) -> list[list[tuple[float, float]]]:
        """By group, when it was acted for: from the answer to the next actions."""
        assert self.loop is not None
        return [
            list(zip(self.loop[1:-1, group, ANSWERED].tolist(), self.loop[1:-1, group, SENT].tolist(), strict=True))
            for group in range(self.loop.shape[1])
        ]


class Recorder:
    """Keep the iterations of a run as they come."""

    def __init__(self) -> None:
        self.iterations: list[Iteration] = []
        self._begin = time.perf_counter()
        self._spans: list[tuple[str, float, float]] = []
        self._loop: NDArray[np.float64] | None = None

    def install(self) -> None:
        """Let the collecting loop keep its times from now on."""
        from ppolab.training.native_loop import NativeLoop

        run = NativeLoop.run

        @functools.wraps(run)
        def timed(loop: NativeLoop, steps: Any, *args: Any, **kwargs: Any) -> Any:
            times = np.zeros((len(steps.rewards) + 1, len(loop.groups), 3))
            began = time.perf_counter()
            result = run(loop, steps, *args, **kwargs, times=times)
            self._loop = began + times
            return result

        NativeLoop.run = timed  # type: ignore[method-assign]

    def spent(self, part: str, begin: float, end: float) -> None:
        """Take in what the main thread did."""
        self._spans.append((part, begin, end))

    def ended(self) -> None:
        """End an iteration; the next one begins."""
        now = time.perf_counter()
        self.iterations.append(Iteration(self._begin, now, tuple(self._spans), self._loop))
        self._begin, self._spans, self._loop = now, [], None


def median_iteration(iterations: Sequence[Iteration], without: Collection[str]) -> Iteration:
    """The one whose duration is the middle; of those `without` some parts, if there are any."""
    plain = [each for each in iterations if not {part for part, *_ in each.spans} & set(without)] or iterations
    return sorted(plain, key=lambda each: each.end - each.begin)[len(plain) // 2]


def together(groups: Sequence[Sequence[tuple[float, float]]]) -> list[float]:
    """Seconds from the first begin to the last end in which 0, 1, 2, ... of the groups were busy."""
    events = sorted((at, change) for spans in groups for begin, end in spans for at, change in ((begin, 1), (end, -1)))
    seconds = [0.0] * (len(groups) + 1)
    busy, since = 0, events[0][0]
    for at, change in events:
        seconds[busy] += at - since
        busy, since = busy + change, at
    return seconds


def lines(iterations: Sequence[Iteration]) -> list[str]:
    """What the rollouts of these iterations show; nothing where Python collected."""
    looped = [each for each in iterations if each.loop is not None]
    if not looped:
        return []
    simulating = statistics.median(_microseconds(each.simulating) for each in looped)
    acting = statistics.median(_microseconds(each.acting) for each in looped)
    shares = np.array([together(each.simulating) for each in looped]).sum(axis=0)
    shares /= shares.sum()
    told = ", ".join(f"{count} of the groups {share:.1%}" for count, share in reversed(list(enumerate(shares))))
    return [
        f"A step of a group: {simulating:,.1f} us from its actions to its results, then {acting:,.1f} us to the next "
        "actions (medians)  ",
        f"Of a rollout's time, so many simulate: {told}  ",
    ]


def _microseconds(groups: Sequence[Sequence[tuple[float, float]]]) -> float:
    return 1e6 * statistics.median(end - begin for spans in groups for begin, end in spans)


def draw(env: str, iteration: Iteration, colors: Mapping[str, str], target: Path) -> None:
    """The iteration, and a few steps of its rollout."""
    if iteration.loop is None:
        return
    figure = Figure(figsize=(9, 4.6), dpi=110, layout="constrained")
    whole, close = figure.subplots(2, 1)
    began, ended = iteration.loop[0, 0, SENT], iteration.loop[-1, :, ANSWERED].max()
    middle, width = (began + ended) / 2, CLOSE_STEPS * (ended - began) / len(iteration.loop)
    for axes, (begin, end), title in (
        (whole, (iteration.begin, iteration.end), f"{env}: an iteration of median length"),
        (close, (middle, middle + width), f"about {CLOSE_STEPS} steps of its rollout"),
    ):
        _lanes(axes, iteration, begin, end, colors)
        axes.set_title(title, fontsize=9, loc="left")
    close.set_xlabel("milliseconds")
    bars = dict(zip(*reversed(whole.get_legend_handles_labels()), strict=True))
    figure.legend(bars.values(), bars.keys(), loc="outside lower center", ncols=6, fontsize=8, frameon=False)
    figure.savefig(target)


def _lanes(axes: Any, iteration: Iteration, begin: float, end: float, colors: Mapping[str, str]) -> None:
    names = []
    for group, (simulating, acting) in enumerate(zip(iteration.simulating, iteration.acting, strict=True)):
        names.append(f"group {group + 1}")
        _bars(axes, group, simulating, begin, end, "lightgray", "group: simulates")
        _bars(axes, group, acting, begin, end, "black", "group: is acted for")
    names.append("main thread")
    for part, color in colors.items():
        spans = [(start, stop) for name, start, stop in iteration.spans if name == part]
        _bars(axes, len(names) - 1, spans, begin, end, color, part)
    axes.set_yticks(range(len(names)), names)
    axes.invert_yaxis()
    axes.set_xlim(0, 1e3 * (end - begin))
    axes.spines[["top", "right", "left"]].set_visible(False)


def _bars(
    axes: Any, lane: int, spans: Sequence[tuple[float, float]], begin: float, end: float, color: str, label: str
) -> None:
    inside = [(1e3 * (max(a, begin) - begin), 1e3 * (min(b, end) - max(a, begin))) for a, b in spans]
    inside = [bar for bar in inside if bar[1] > 0]
    if not inside:
        return
    axes.broken_barh(inside, (lane - 0.35, 0.7), color=color, label=label, linewidth=0)
