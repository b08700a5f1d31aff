"""Draw the plots of a study: Optuna's own as pictures and as interactive pages, and the lineage of a population."""

from __future__ import annotations

import contextlib
import importlib
import logging
import warnings
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import optuna
from optuna.trial import TrialState

from ppolab.study.lineage import draw_lineage
from ppolab.study.settings import StudySettings

ENOUGH_FOR_IMPORTANCE = 4
"""So many finished trials are needed to tell the importance of parameters."""
INCHES_PER_PARAMETER = 2.0
LINEAGE = "lineage"
"""The plot of a population, which is not Optuna's."""
BY_COST = (LINEAGE, "slice", "parallel_coordinate", "optimization_history", "param_importances", "pareto_front")
"""Plots; of Optuna's, those first that take longest to draw."""


def plot_names(study: optuna.Study, settings: StudySettings) -> list[str]:
    """Return the plots that the study has enough trials for, as Optuna names them."""
    trials = study.get_trials(deepcopy=False, states=[TrialState.COMPLETE])
    if not trials:
        return []
    if settings.population is not None:
        return [LINEAGE]
    if len(settings.directions) > 1:
        return ["pareto_front"]
    names = ["optimization_history", "slice"]
    if len({key for trial in trials for key in trial.params}) > 1:
        names.append("parallel_coordinate")
        if len(trials) >= ENOUGH_FOR_IMPORTANCE:
            names.append("param_importances")
    return names


def plots_of(number: int, count: int) -> tuple[str, ...]:
    """Return the plots for process `number` of `count`: dear ones first, so that all take about as long."""
    return BY_COST[number::count]


def load_plotting(names: Sequence[str]) -> None:
    """Import what plots need, which takes as long as to draw them."""
    modules = ["matplotlib.figure"] if LINEAGE in names else ["optuna.visualization", "matplotlib.pyplot"]
    if "param_importances" in names:
        modules.append("sklearn.ensemble")
    for name in modules:
        with contextlib.suppress(ImportError):  # a plot that needs it says so
            importlib.import_module(name)


def draw(
    study: optuna.Study, settings: StudySettings, folder: Path, names: Sequence[str]
) -> tuple[list[Path], list[str]]:
    """Write every plot of `names`; return the files, and why plots are missing.

    These are NAME.png, and NAME.html of Optuna's plots.
    """
    folder.mkdir(parents=True, exist_ok=True)
    logging.getLogger("matplotlib.category").setLevel(logging.WARNING)  # it remarks on every choice among numbers
    files: list[Path] = []
    problems: list[str] = []
    for name in names:
        try:
            with warnings.catch_warnings():
                warnings.simplefilter("ignore")  # Optuna's plots are experimental, and say so at every call
                files += _drawn(study, settings, name, folder)
        except Exception as error:  # a plot that the trials do not suit must not end a sweep
            reason = str(error).splitlines()[0] if str(error) else type(error).__name__
            problems.append(f"no plot of {name}: {reason}")
    return files, problems


def _drawn(study: optuna.Study, settings: StudySettings, name: str, folder: Path) -> list[Path]:
    if name == LINEAGE:
        return [draw_lineage(study, settings, folder / f"{LINEAGE}.png")]
    from optuna import visualization  # with Plotly, a second

    function: Callable[..., Any] = getattr(visualization, f"plot_{name}")
    picture: Callable[..., Any] = getattr(visualization.matplotlib, f"plot_{name}")
    if name == "pareto_front":
        options: dict[str, Any] = {"target_names": list(settings.objectives)}
    else:
        options = {"target_name": settings.objectives[0]}
    page, png = folder / f"{name}.html", folder / f"{name}.png"
    function(study, **options).write_html(page, include_plotlyjs=True)
    varied = len({key for trial in study.get_trials(deepcopy=False) for key in trial.params})
    width = INCHES_PER_PARAMETER * varied if name in ("slice", "parallel_coordinate") else 0.0
    _save(picture(study, **options), name, width, png)
    return [png, page]


def _save(axes: Any, name: str, width: float, path: Path) -> None:
    """Save what Optuna drew with pyplot, one pair of axes or an array of them; `width` in inches, at least 8."""
    from matplotlib import pyplot

    first = axes.flat[0] if hasattr(axes, "flat") else axes
    figure = first.get_figure()
    figure.set_size_inches(max(8.0, width), 5.0)
    for pair in figure.axes:
        if name == "slice":
            pair.tick_params(axis="x", rotation=45)  # choices have long names
        pair.grid(visible=pair is first and width == 0.0)  # of several axes on one spot each would draw its own lines
    figure.savefig(path, dpi=80, bbox_inches="tight")
    pyplot.close(figure)
