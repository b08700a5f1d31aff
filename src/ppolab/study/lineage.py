"""Draw a population: the score of every member over its steps, and who went on as a copy of whom."""

from __future__ import annotations

import textwrap
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import optuna
from optuna.distributions import CategoricalDistribution, FloatDistribution, IntDistribution
from optuna.trial import FrozenTrial, TrialState

from ppolab.study.population_trials import segment_of
from ppolab.study.settings import StudySettings

if TYPE_CHECKING:
    from matplotlib.axes import Axes

MOST_PANELS = 4
"""Settings by which members are coloured, each in a panel of its own."""
PANEL_INCHES = (8.0, 3.6)
TITLE_CHARACTERS = 90
"""As many as a line of a picture of this width has room for."""


def draw_lineage(study: optuna.Study, settings: StudySettings, path: Path) -> Path:
    """Draw one panel per setting that is varied, coloured by its value; return the file."""
    from matplotlib.figure import Figure  # not pyplot: no global state, no window system

    trials = study.get_trials(deepcopy=False, states=[TrialState.COMPLETE])
    keys = list(dict.fromkeys(key for trial in trials for key in trial.params))[:MOST_PANELS]
    figure = Figure(figsize=(PANEL_INCHES[0], PANEL_INCHES[1] * len(keys)), dpi=100, layout="constrained")
    panels = figure.subplots(len(keys), 1, sharex=True, squeeze=False)[:, 0]
    for key, axes in zip(keys, panels, strict=True):
        _panel(axes, key, trials)
        axes.set_ylabel(settings.objectives[0])
    panels[-1].set_xlabel("environment steps of a member")
    title = "\n".join(textwrap.wrap(settings.name, TITLE_CHARACTERS))
    figure.suptitle(f"{title}\na dotted line joins a member to the one that it goes on as a copy of", fontsize=10)
    figure.savefig(path)
    return path


def _panel(axes: Axes, key: str, trials: Sequence[FrozenTrial]) -> None:
    from matplotlib import colormaps
    from matplotlib.cm import ScalarMappable

    scale = _scale(key, trials)
    colours = ScalarMappable(scale.norm, colormaps["viridis"])
    by_number = {trial.number: trial for trial in trials}
    by_place = {(segment_of(trial).generation, segment_of(trial).member): trial for trial in trials}
    for trial in trials:
        segment = segment_of(trial)
        colour = colours.to_rgba(np.array([scale.of(trial.params[key])]))[0]
        parent = None if segment.parent is None else by_number.get(segment.parent)
        if parent is not None:
            axes.plot(*_line(parent, trial), color=colour, linewidth=1.4, marker=".", markersize=4)
        else:
            axes.plot(segment.until, trial.values[0], color=colour, marker="o", markersize=4)
        before = by_place.get((segment.generation - 1, segment.member))
        if segment.copied_from is not None and parent is not None:
            if before is not None:
                axes.plot(*_line(before, parent), color="0.5", linewidth=0.8, linestyle=":")
                axes.plot(*_point(before), color="tab:red", marker="x", markersize=5, linestyle="none")
            axes.plot(*_point(parent), color="tab:red", marker="o", markersize=6, fillstyle="none", linestyle="none")
    ticks = None if scale.choices is None else range(len(scale.choices))
    bar = axes.figure.colorbar(colours, ax=axes, label=key.lstrip("+"), ticks=ticks)
    if scale.choices is not None:
        bar.set_ticklabels(list(scale.choices))
    axes.grid(alpha=0.3)


def _point(trial: FrozenTrial) -> tuple[float, float]:
    return float(segment_of(trial).until), float(trial.values[0])


def _line(first: FrozenTrial, last: FrozenTrial) -> tuple[tuple[float, float], tuple[float, float]]:
    (x, y), (x_last, y_last) = _point(first), _point(last)
    return (x, x_last), (y, y_last)


@dataclass(frozen=True)
class _Scale:
    """Turn the values of a setting into colours.

    Attributes:
        norm: of Matplotlib. choices: of a setting that has some, whose numbers stand for them; None: it is a number.
    """

    norm: Any
    choices: Sequence[str] | None

    def of(self, value: Any) -> float:
        """Return the number that `norm` takes."""
        return float(value) if self.choices is None else float(self.choices.index(value))


def _scale(key: str, trials: Sequence[FrozenTrial]) -> _Scale:
    from matplotlib.colors import LogNorm, Normalize

    found = next(trial.distributions[key] for trial in trials if key in trial.distributions)
    if isinstance(found, CategoricalDistribution):
        choices = [str(choice) for choice in found.choices]
        return _Scale(Normalize(0.0, max(1.0, len(choices) - 1.0)), choices)
    assert isinstance(found, FloatDistribution | IntDistribution)
    norm = LogNorm if found.log else Normalize
    return _Scale(norm(found.low, found.high), None)
