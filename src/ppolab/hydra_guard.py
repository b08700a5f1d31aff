"""What Hydra must not do with a configuration: run code that it names, or write a password down."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from functools import wraps
from pathlib import Path
from typing import Any

from hydra._internal.config_loader_impl import ConfigLoaderImpl
from hydra.core import utils
from omegaconf import DictConfig, OmegaConf

from ppolab.errors import ConfigError
from ppolab.redaction import redacted

PLUGINS = ("hydra_plugins.", "hydra._internal.core_plugins.")
LOGGING = ("logging.", "hydra.", "colorlog.", "ppolab.runlog.")
ALLOWED = {
    "launcher": PLUGINS, "sweeper": PLUGINS, "callbacks": ("hydra.experimental.callbacks.",),
    "job_logging": LOGGING, "hydra_logging": LOGGING,
}  # fmt: skip
"""Where the classes that each part of Hydra's own configuration names may come from."""
NAMING = ("_target_", "class", "()")
"""Keys whose values Hydra, and Python's logging, import and call."""


def guard_hydra() -> None:
    """Check every configuration before Hydra acts on it, and redact what Hydra stores. In this process, once."""
    if utils._save_config is not _save_redacted:
        utils._save_config = _save_redacted
        ConfigLoaderImpl.load_configuration = _checked(ConfigLoaderImpl.load_configuration)  # type: ignore[method-assign]


def refuse_pickles(arguments: Sequence[str]) -> None:
    """Hydra's --experimental-rerun unpickles a file, which may run anything; Hydra takes it abbreviated, too."""
    for argument in arguments:
        if argument.startswith("--e"):
            raise ConfigError(f"{argument}: reads a pickle, which may run any code; go on with a run by resume=RUN")


def _save_redacted(cfg: DictConfig, filename: str, output_dir: Path) -> None:
    output_dir.mkdir(parents=True, exist_ok=True)
    content = OmegaConf.create(redacted(OmegaConf.to_container(cfg)))
    (output_dir / filename).write_text(OmegaConf.to_yaml(content), encoding="utf-8")


def _checked(load: Any) -> Any:
    @wraps(load)
    def loaded(*args: Any, **kwargs: Any) -> DictConfig:
        config: DictConfig = load(*args, **kwargs)
        sections = OmegaConf.to_container(config.hydra)
        assert isinstance(sections, dict)
        for section, allowed in ALLOWED.items():
            _check(f"hydra.{section}", sections.get(section), allowed)
        return config

    return loaded


def _check(section: str, node: Any, allowed: tuple[str, ...]) -> None:
    for key, target in _named(node, section):
        if not (isinstance(target, str) and target.startswith(allowed)):
            raise ConfigError(f"{key}={target}: runs code from elsewhere; it may only name {', '.join(allowed)}")


def _named(node: Any, prefix: str) -> Iterator[tuple[str, Any]]:
    """Every key of `node` that names something to call, under its dotted name."""
    items = node.items() if isinstance(node, dict) else enumerate(node) if isinstance(node, list) else ()
    for key, value in items:
        if key in NAMING:
            yield f"{prefix}.{key}", value
        yield from _named(value, f"{prefix}.{key}")
