"""Keep Hydra from running code that a configuration names, and from writing passwords down.

All that ppolab replaces inside Hydra is in this file: how it stores a configuration, and how it loads one.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from functools import wraps
from pathlib import Path
from typing import Any

import yaml
from hydra import version
from hydra._internal.config_loader_impl import ConfigLoaderImpl
from hydra.core import utils
from hydra.core.hydra_config import HydraConfig
from hydra.errors import MissingConfigException
from omegaconf import DictConfig, OmegaConf
from omegaconf._utils import get_omega_conf_dumper

from ppolab.cli.own_algorithms import forget_own_algorithms, know_missing_algorithm
from ppolab.errors import ConfigError
from ppolab.redaction import redacted
from ppolab.runtime.fast_imports import without_collector

PLUGINS = ("hydra_plugins.*", "hydra._internal.core_plugins.*")
LOGGING = ("logging", "logging.handlers", "colorlog", "ppolab.records.run_log")
ALLOWED = {
    "launcher": PLUGINS,
    "sweeper": PLUGINS,
    "callbacks": ("hydra.experimental.callbacks",),
    "job_logging": LOGGING,
    "hydra_logging": LOGGING,
}
"""{part of Hydra's configuration: modules whose classes it may name}; with a star, all modules below."""
STREAMS = ("ext://sys.stdout", "ext://sys.stderr")
"""Objects that Python's logging may look up by name."""
NAMING = ("_target_", "class", "()")
"""Keys whose values Hydra, and Python's logging, import and call."""


def guard_hydra() -> None:
    """Let Hydra check every configuration before it acts on it, and redact what it stores; from now on."""
    if utils._save_config is not _save_redacted:
        utils._save_config = _save_redacted
        ConfigLoaderImpl.load_configuration = _checked(ConfigLoaderImpl.load_configuration)  # type: ignore[method-assign]


@contextmanager
def hydra_guarded() -> Iterator[None]:
    """Guard Hydra inside the block, and leave it to other applications of this process afterwards."""
    save, load = utils._save_config, ConfigLoaderImpl.load_configuration
    base, runtime, of_job = version.VersionBase.instance(), utils.JobRuntime.instance(), HydraConfig.instance()
    earlier_base, earlier_name, earlier_config = base.getbase(), runtime.conf.get("name"), of_job.cfg
    guard_hydra()
    forget_own_algorithms()
    try:
        yield
    finally:
        utils._save_config = save
        ConfigLoaderImpl.load_configuration = load  # type: ignore[method-assign]
        base.version_base = earlier_base
        runtime.set("name", earlier_name)
        of_job.cfg = earlier_config


@dataclass(frozen=True)
class GuardedTask:
    """Guard Hydra wherever a launcher such as Ray's or submitit's takes the task: there Hydra stores files first."""

    task: Callable[[DictConfig], object]

    def __call__(self, node: DictConfig) -> object:
        return self.task(node)

    def __reduce__(self) -> tuple[Callable[..., GuardedTask], tuple[object, ...]]:
        return _unpickled, (self.task,)


def _unpickled(task: Callable[[DictConfig], object]) -> GuardedTask:
    guard_hydra()
    return GuardedTask(task)


def _save_redacted(cfg: DictConfig, filename: str, output_dir: Path) -> None:
    output_dir.mkdir(parents=True, exist_ok=True)
    content = redacted(OmegaConf.to_container(cfg, enum_to_str=True))
    text = yaml.dump(  # as OmegaConf.to_yaml does, without the tenth of a second for a configuration to call it on
        content, default_flow_style=False, allow_unicode=True, sort_keys=False, Dumper=get_omega_conf_dumper()
    )
    (output_dir / filename).write_text(text, encoding="utf-8")


def _checked(load: Any) -> Any:
    @wraps(load)
    def loaded(*args: Any, **kwargs: Any) -> DictConfig:
        config = _loaded(load, *args, **kwargs)
        sections = OmegaConf.to_container(config.hydra)
        assert isinstance(sections, dict)
        for section, allowed in ALLOWED.items():
            _check(f"hydra.{section}", sections.get(section), allowed)
        if config.hydra.job.chdir:
            raise ConfigError(
                "hydra.job.chdir=true: outputs/ and the tracking store would be made anew in the folder of each run; "
                "leave it out, and find that folder in ${hydra:runtime.output_dir}"
            )
        return config

    return loaded


def _loaded(load: Any, *args: Any, **kwargs: Any) -> DictConfig:
    """Load a configuration; an algorithm of the user that it chooses anywhere becomes known on the way."""
    while True:
        try:
            with without_collector():
                config: DictConfig = load(*args, **kwargs)
            return config
        except MissingConfigException as error:
            know_missing_algorithm(error)


def _check(section: str, node: Any, allowed: tuple[str, ...]) -> None:
    for key, target in _named(node, section):
        if target not in STREAMS and not _is_class_of(str(target), allowed):
            raise ConfigError(f"{key}={target}: runs code from elsewhere; it may name a class of {', '.join(allowed)}")


def _is_class_of(target: str, allowed: tuple[str, ...]) -> bool:
    module, _, name = target.rpartition(".")
    known = any(module == place or (place.endswith("*") and module.startswith(place[:-1])) for place in allowed)
    return known and name[:1].isupper()


def _named(node: Any, prefix: str) -> Iterator[tuple[str, Any]]:
    """Yield every key of `node` that names something to call or to look up, as a dotted name, with its value."""
    items = node.items() if isinstance(node, dict) else enumerate(node) if isinstance(node, list) else ()
    for key, value in items:
        if key in NAMING or (isinstance(value, str) and value.startswith("ext:")):
            yield f"{prefix}.{key}", value
        yield from _named(value, f"{prefix}.{key}")
