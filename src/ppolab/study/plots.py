"""Draw Optuna's own plots of a study, each as a picture and as an interactive page."""

from __future__ import annotations

import logging
import warnings
from collections.abc import Callable
from pathlib import Path
from typing import Any

import optuna
from optuna.trial import TrialState

from ppolab.study.settings import StudySettings

log = logging.getLogger(__name__)

ENOUGH_FOR_IMPORTANCE = 4
"""So many finished trials are needed to tell the importance of parameters."""
INCHES_PER_PARAMETER = 2.0


def draw(study: optuna.Study, settings: StudySettings, folder: Path) -> list[Path]:
    """Write NAME.png and NAME.html for every plot that the study has enough trials for; return the files."""
    trials = study.get_trials(deepcopy=False, states=[TrialState.COMPLETE])
    if not trials:
        return []
    folder.mkdir(parents=True, exist_ok=True)
    several = len({key for trial in trials for key in trial.params}) > 1
    logging.getLogger("matplotlib.category").setLevel(logging.WARNING)  # it remarks on every choice among numbers
    names = _names(len(settings.directions), len(trials), several)
    files: list[Path] = []
    for name in names:
        try:
            with warnings.catch_warnings():
                warnings.simplefilter("ignore")  # Optuna's plots are experimental, and say so at every call
                files += _drawn(study, settings, name, folder)
        except Exception as error:  # a plot that the trials do not suit must not end a sweep
            log.warning("no plot of %s: %s", name, str(error).splitlines()[0] if str(error) else type(error).__name__)
    return files


def _names(objectives: int, trials: int, several: bool) -> list[str]:
    if objectives > 1:
        return ["pareto_front"]
    names = ["optimization_history", "slice"]
    if several:
        names.append("parallel_coordinate")
    if several and trials >= ENOUGH_FOR_IMPORTANCE:
        names.append("param_importances")
    return names


def _drawn(study: optuna.Study, settings: StudySettings, name: str, folder: Path) -> list[Path]:
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
