"""What Hydra must not do with a configuration: run code that it names, or write a password down."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from functools import wraps
from pathlib import Path
from typing import Any

import yaml
from hydra._internal.config_loader_impl import ConfigLoaderImpl
from hydra.core import utils
from omegaconf import DictConfig, OmegaConf
from omegaconf._utils import get_omega_conf_dumper

from ppolab.errors import ConfigError
from ppolab.redaction import redacted
from ppolab.startup import without_collector

PLUGINS = ("hydra_plugins.*", "hydra._internal.core_plugins.*")
LOGGING = ("logging", "logging.handlers", "colorlog", "ppolab.runlog")
ALLOWED = {
    "launcher": PLUGINS, "sweeper": PLUGINS, "callbacks": ("hydra.experimental.callbacks",),
    "job_logging": LOGGING, "hydra_logging": LOGGING,
}  # fmt: skip
"""Whose classes each part of Hydra's own configuration may name; a module, or with a star all modules below."""
STREAMS = ("ext://sys.stdout", "ext://sys.stderr")
"""What Python's logging may look up by name."""
NAMING = ("_target_", "class", "()")
"""Keys whose values Hydra, and Python's logging, import and call."""


def guard_hydra() -> None:
    """Check every configuration before Hydra acts on it, and redact what Hydra stores. In this process, once."""
    if utils._save_config is not _save_redacted:
        utils._save_config = _save_redacted
        ConfigLoaderImpl.load_configuration = _checked(ConfigLoaderImpl.load_configuration)  # type: ignore[method-assign]


def refuse_code(arguments: Sequence[str]) -> None:
    """What Hydra acts on before its configuration is there to be checked.

    Its --experimental-rerun, which it takes abbreviated, too, unpickles a file; a search path may import a package.
    """
    for argument in arguments:
        if argument.startswith("--e"):
            raise ConfigError(f"{argument}: reads a pickle, which may run any code; go on with a run by resume=RUN")
        if "searchpath" in argument and "pkg:" in argument:
            raise ConfigError(f"{argument}: imports a package, which may run any code; use file://FOLDER")


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
        with without_collector():
            config: DictConfig = load(*args, **kwargs)
        sections = OmegaConf.to_container(config.hydra)
        assert isinstance(sections, dict)
        for section, allowed in ALLOWED.items():
            _check(f"hydra.{section}", sections.get(section), allowed)
        return config

    return loaded


def _check(section: str, node: Any, allowed: tuple[str, ...]) -> None:
    for key, target in _named(node, section):
        if target not in STREAMS and not _is_class_of(str(target), allowed):
            raise ConfigError(f"{key}={target}: runs code from elsewhere; it may name a class of {', '.join(allowed)}")


def _is_class_of(target: str, allowed: tuple[str, ...]) -> bool:
    module, _, name = target.rpartition(".")
    known = any(module == place or (place.endswith("*") and module.startswith(place[:-1])) for place in allowed)
    return known and name[:1].isupper()


def _named(node: Any, prefix: str) -> Iterator[tuple[str, Any]]:
    """Every key of `node` that names something to call or to look up, under its dotted name."""
    items = node.items() if isinstance(node, dict) else enumerate(node) if isinstance(node, list) else ()
    for key, value in items:
        if key in NAMING or (isinstance(value, str) and value.startswith("ext:")):
            yield f"{prefix}.{key}", value
        yield from _named(value, f"{prefix}.{key}")
