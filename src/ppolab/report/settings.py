"""What one call of src/report.py is asked for, and the checks that need no store."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from omegaconf import MISSING

from ppolab.config import flattened, metric_names
from ppolab.errors import ConfigError, nearest
from ppolab.runs import OUTPUTS

NORMALIZATIONS = ("range", "none")


@dataclass
class RunsConfig:
    """Which runs; all conditions must hold."""

    experiment: str | None = None
    study: str | None = None
    tags: dict[str, Any] = field(default_factory=dict)


@dataclass
class ReportConfig:
    """One call of src/report.py. conf/report.yaml holds the defaults and a line on each setting."""

    runs: RunsConfig = MISSING
    tracking_uri: str | None = None
    metric: str = MISSING
    curve: str = MISSING
    compare: list[str] | None = None
    baseline: str | None = None
    normalize: str = MISSING
    confidence: float = MISSING
    bootstrap: int = MISSING
    seed: int = MISSING
    output: str | None = None
    log_to_mlflow: bool = MISSING

    @property
    def tags(self) -> dict[str, str]:
        """The tags that a run must have; those of a study carry its name."""
        of_study = {} if self.runs.study is None else {"study": self.runs.study}
        return {key: str(value) for key, value in flattened(self.runs.tags).items()} | of_study

    @property
    def selection(self) -> str:
        """The conditions as they are typed."""
        typed = {"experiment": self.runs.experiment, "study": self.runs.study}
        typed |= {f"tags.{key}": str(value) for key, value in flattened(self.runs.tags).items()}
        return " ".join(f"{key}={value}" for key, value in typed.items() if value is not None)

    @property
    def name(self) -> str:
        """What the report is called: the values of its conditions."""
        values = [self.runs.experiment, *self.tags.values()]
        return re.sub(r"[^\w.-]+", "_", "-".join(value for value in values if value)).strip("._") or "all"

    @property
    def folder(self) -> Path:
        """Where the files go."""
        return OUTPUTS / "reports" / self.name if self.output is None else Path(self.output)


SHORT = ("experiment", "study")
TEXTS = ("baseline", "output", "tracking_uri")


def in_full(argument: str) -> str:
    """An argument as Hydra wants it: `experiment=NAME` belongs to `runs`, and a name is text whatever it looks like."""
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
        known = metric_names()
        if name not in known:
            raise ConfigError(f"{key}={name}: is no metric{nearest(name, known)}; name one of {', '.join(known)}")
    if settings.normalize not in NORMALIZATIONS:
        raise ConfigError(
            f"normalize={settings.normalize}: must be one of {', '.join(NORMALIZATIONS)}"
            f"{nearest(settings.normalize, NORMALIZATIONS)}"
        )
    if not 0 < settings.confidence < 1:
        raise ConfigError(f"confidence={settings.confidence}: must lie strictly between 0 and 1, such as 0.95")
    if settings.bootstrap < 1:
        raise ConfigError(f"bootstrap={settings.bootstrap}: must be greater than 0, such as 2000")
    if settings.seed < 0:
        raise ConfigError(f"seed={settings.seed}: must be 0 or more")
    if Path(settings.folder).is_file():
        raise ConfigError(f"output={settings.folder}: is a file; name a folder")
    _check_tags(settings.tags)


def _check_tags(tags: Mapping[str, str]) -> None:
    for key, value in tags.items():
        if "'" in value and '"' in value:
            raise ConfigError(f"tags.{key}={value}: MLflow cannot search for a value that holds both kinds of quotes")
