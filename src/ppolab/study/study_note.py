"""Describe a study to people who come upon its page: what is searched, what is best so far, and what to do with it."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from pathlib import Path

import optuna
from optuna.trial import FrozenTrial, TrialState

from ppolab.records.wording import command_with, next_command
from ppolab.study.claims import settings_of
from ppolab.study.population_trials import FOLDERS, segment_of
from ppolab.study.search_space import SearchSpace, overrides
from ppolab.study.settings import StudySettings

SHOWN = 5
"""Trials of a Pareto front that are listed."""


def study_note(study: optuna.Study, settings: StudySettings, space: SearchSpace) -> str:
    """Return the description in Markdown."""
    trials = study.get_trials(deepcopy=False)
    counts = Counter(trial.state.name.lower() for trial in trials if trial.state.is_finished())
    counted = ", ".join(f"{count} {state}" for state, count in sorted(counts.items())) or "none has ended yet"
    best = best_trials(study, settings)
    searched = "\n".join(f"- `{key}`: {text}" for key, text in space.in_words().items())
    aims = ", ".join(f"{way} {name}" for name, way in zip(settings.objectives, settings.directions, strict=False))
    seeds = f", {settings.seeds_per_trial} seeds per trial" if settings.seeds_per_trial > 1 else ""
    parts = [
        f"Study **{settings.name}**: {counted}.{''.join(_of_best(trial, settings) for trial in best)}",
        *(_what_to_do_with(trial, settings) for trial in best[:1]),
        f"Pictures are among the artifacts, in `plots`. The filter `tags.study = '{settings.name}'` lists the trials.",
        f"Searched to {aims}, by {_means(settings)}{seeds}:",
        searched,
    ]
    return "\n\n".join(parts) + "\n"


def best_trials(study: optuna.Study, settings: StudySettings) -> list[FrozenTrial]:
    """Return the best trial, or up to SHOWN where there are several objectives; none before one is complete.

    Of a population it is the best of the latest generation: an earlier one was judged at fewer steps.
    """
    complete = [trial for trial in study.get_trials(deepcopy=False) if trial.state == TrialState.COMPLETE]
    if not complete:
        return []
    if settings.population is not None:
        latest = max(segment_of(trial).generation for trial in complete)
        choose = max if settings.directions[0] == "maximize" else min
        return [choose((t for t in complete if segment_of(t).generation == latest), key=lambda t: t.values[0])]
    return study.best_trials[: SHOWN if len(settings.directions) > 1 else 1]


def command_of(trial: FrozenTrial, fixed: Sequence[str]) -> str:
    """Return the command that trains with the settings of a trial, and with those that all trials share."""
    return command_with("train", (*fixed, *overrides(settings_of(trial))))


def run_of(trial: FrozenTrial) -> str:
    """Return the folder of the run of a trial that is one run, from here where it lies below."""
    folder, here = Path(trial.user_attrs[FOLDERS][-1]), Path.cwd()
    return str(folder.relative_to(here) if folder.is_relative_to(here) else folder)


def called(trial: FrozenTrial, settings: StudySettings) -> str:
    """Return what a trial is called: its number, or which part of which member it is."""
    if settings.population is None:
        return f"trial {trial.number}"
    segment = segment_of(trial)
    return f"member {segment.member} after {segment.until:,} of {settings.population.total_steps:,} steps"


def _what_to_do_with(trial: FrozenTrial, settings: StudySettings) -> str:
    if settings.population is not None:
        return f"Evaluate it: `{next_command('evaluate', 'run', run_of(trial))}`"
    return f"Train it: `{command_of(trial, settings.fixed)}`"


def _means(settings: StudySettings) -> str:
    population = settings.population
    if population is None:
        return settings.sampler
    return f"population based training with {population.size} members, compared every {population.interval:,} steps"


def _of_best(trial: FrozenTrial, settings: StudySettings) -> str:
    values = ", ".join(f"{name} {value:,.4g}" for name, value in zip(settings.objectives, trial.values, strict=False))
    return f" Best: **{values}** ({called(trial, settings)})."
