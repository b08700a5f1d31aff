"""Hold the settings of one call of src/report.py, and check them as far as no store is needed."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from ppolab.config.checks import check_values
from ppolab.config.metrics import INFO_METRICS, stored_metric_names
from ppolab.config.rules import NOT_NEGATIVE, OPEN_UNIT, POSITIVE
from ppolab.config.schema import flattened
from ppolab.config.setting import setting
from ppolab.errors import ConfigError, nearest
from ppolab.records.run_folder import OUTPUTS


@dataclass
class RunsConfig:
    """Select runs; all conditions must hold."""

    experiment: str | None = setting("the runs of one MLflow experiment", None)
    study: str | None = setting("the runs of one study", None)
    tags: dict[str, Any] = setting("the runs with these MLflow tags; tags.host=NAME", {})


@dataclass
class ReportConfig:
    """Hold the settings of one call of src/report.py. conf/report.yaml has the defaults."""

    runs: RunsConfig = setting(
        'which runs; on the command line without "runs.", all must hold, and without any the report is on every run'
    )
    tracking_uri: str | None = setting("null: MLFLOW_TRACKING_URI, else the file outputs/mlflow.db", None)
    metric: str = setting("its last value is a run's score")
    curve: str = setting("the metric of the learning curves")
    compare: list[str] | None = setting(
        "the parameters that make up a method, as [clip,optimizer]; null: all in which runs on one task differ", None
    )
    baseline: str | None = setting(
        "the method, such as clip=0.2, that the others are held against; null: every pair", None
    )
    normalize: str = setting(
        "over tasks; range: 0 is the lowest score on a task, 1 the highest mean of a method; none: scores as they are",
        choices=("range", "none"),
    )
    confidence: float = setting("share of the intervals that hold the true value", rule=OPEN_UNIT)
    bootstrap: int = setting("resamples that an interval is made from", rule=POSITIVE)
    seed: int = setting("of the resampling", rule=NOT_NEGATIVE)
    output: str | None = setting("a folder; null: outputs/reports/NAME", None)
    log_to_mlflow: bool = setting("keep the report in the store as well, as a run of its own")

    @property
    def tags(self) -> dict[str, str]:
        """Return the tags that a run must have; those of a study carry its name."""
        of_study = {} if self.runs.study is None else {"study": self.runs.study}
        return {key: str(value) for key, value in flattened(self.runs.tags).items()} | of_study

    @property
    def selection(self) -> str:
        """Return the conditions as they are typed."""
        typed = {"experiment": self.runs.experiment, "study": self.runs.study}
        typed |= {f"tags.{key}": str(value) for key, value in flattened(self.runs.tags).items()}
        return " ".join(f"{key}={value}" for key, value in typed.items() if value is not None)

    @property
    def name(self) -> str:
        """Return the name of the report: the values of its conditions."""
        values = [self.runs.experiment, *self.tags.values()]
        return re.sub(r"[^\w.-]+", "_", "-".join(value for value in values if value)).strip("._") or "all"

    @property
    def folder(self) -> Path:
        """Return the folder of the files."""
        return OUTPUTS / "reports" / self.name if self.output is None else Path(self.output)


SHORT = ("experiment", "study")
TEXTS = ("baseline", "output", "tracking_uri")


def in_full(argument: str) -> str:
    """Return an argument as Hydra wants it: `experiment=NAME` belongs to `runs`, and any name is text."""
    key, equals, value = argument.partition("=")
    if not equals or key.startswith(("hydra", "-", "+", "~")):
        return argument
    text = value if value == "null" or value[:1] in ("'", '"') else "'" + value.replace("'", "\\'") + "'"
    if key in SHORT:
        return f"runs.{key}={text}"
    if key.startswith("tags."):
        return f"++runs.{key}={text}"
    if key == "compare" and value != "null" and not value.startswith("["):
        return f"compare=[{value}]"  # a list, to Hydra
    if key == "tags":
        return f"runs.{argument}"
    return f"{key}={text}" if key in TEXTS else argument


def check(settings: ReportConfig) -> None:
    """Raise ConfigError for the first setting that breaks a rule."""
    for key in ("metric", "curve"):
        name = getattr(settings, key)
        known = stored_metric_names()
        if name not in known and not name.startswith(INFO_METRICS):
            raise ConfigError(f"{key}={name}: is no metric{nearest(name, known)}; name one of {', '.join(known)}")
    check_values(settings)
    if Path(settings.folder).is_file():
        raise ConfigError(f"output={settings.folder}: is a file; name a folder")
    _check_tags(settings.tags)


def _check_tags(tags: Mapping[str, str]) -> None:
    for key, value in tags.items():
        if "'" in value and '"' in value:
            raise ConfigError(f"tags.{key}={value}: MLflow cannot search for a value that holds both kinds of quotes")
