"""Which optimizers can train here, and what the shipped files set: classes of torch.optim, or the user's own."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from ppolab.config.files import option_defaults, options_of

OPTIMIZER_NAMESPACE = "torch.optim."
OWN_FILE = "own"
"""The option whose class the user names."""

LOOKS_AT_SHAPES = {
    "Adafactor": "keeps one mean per row and per column of a matrix, not one per element",
    "Muon": "makes the step of a whole matrix orthogonal",
}
"""Optimizers that get every parameter in its own shape, and why. All others of torch.optim treat each element by
itself, so that the one flat vector of all parameters gives the same steps with fewer operations.
"""

UNUSABLE = {
    "LBFGS": "it needs the loss again within a step (a closure), which a minibatch step does not give",
    "Optimizer": "it is the base class of all optimizers, and makes no steps",
    "SparseAdam": "it wants sparse gradients, and those of these networks are dense",
}
"""Optimizers of torch.optim that cannot train here, and why."""

ADAMW_PART = "adamw"
"""Muon steps matrices only; this setting of conf/optimizer/muon.yaml holds the options of AdamW for the rest."""


def is_own(target: object) -> bool:
    """Return whether an optimizer's class is the user's, which is named as MODULE:NAME."""
    return isinstance(target, str) and ":" in target


def class_name(optimizer: Mapping[str, Any]) -> str:
    """Return the name of the class within torch.optim."""
    return str(optimizer["_target_"]).removeprefix(OPTIMIZER_NAMESPACE)


def shipped_values(optimizer: Mapping[str, Any], key: str) -> list[Any]:
    """Return the values of `key` in the shipped files that `optimizer` may have been composed from."""
    return [file[key] for file in _shipped().values() if _composed_from(file, optimizer) and key in file]


def other_file(optimizer: Mapping[str, Any]) -> str | None:
    """Return the name of the shipped file for the class, if there is one and `optimizer` was composed from another."""
    for name, file in _shipped().items():
        if file["_target_"] == optimizer["_target_"] and not _composed_from(file, optimizer):
            return name
    return None


def _composed_from(file: Mapping[str, Any], optimizer: Mapping[str, Any]) -> bool:
    """Composing only adds keys."""
    return set(file) <= set(optimizer)


def _shipped() -> dict[str, Mapping[str, Any]]:
    return {name: option_defaults("optimizer", name) for name in options_of("optimizer")}
