"""The structures that ppo.cpp takes, field by field as objective.hpp and ppo.cpp declare them."""

from __future__ import annotations

import ctypes

import torch
from torch import Tensor

from ppolab.config import Config
from ppolab.objective import LossTerms, Samples, clip_of

POINTER, DOUBLE, INTEGER = ctypes.c_void_p, ctypes.c_double, ctypes.c_int64

TERM_COLUMNS = (*LossTerms._fields, "gradient_norm")
"""Columns of a Terms array, all float64."""


COLUMNS = ("observations", "actions", "log_probs", "values", "advantages", "returns", "parameters")
"""What the C++ code needs of samples, in its order."""


class NativeSamples(ctypes.Structure):
    """Pointers to experience; the tensors must outlive it."""

    _fields_ = [(name, POINTER) for name in COLUMNS]


class NativeSettings(ctypes.Structure):
    """The objective's settings."""

    _fields_ = [
        ("clip", DOUBLE),
        ("value_coef", DOUBLE),
        ("entropy_coef", DOUBLE),
        ("value_clip", DOUBLE),
        ("penalty", POINTER),
    ]


class NativeAdam(ctypes.Structure):
    """The optimizer's state and settings."""

    _fields_ = [
        ("mean", POINTER),
        ("square", POINTER),
        ("steps", INTEGER),
        *((name, DOUBLE) for name in ("lr", "beta1", "beta2", "epsilon", "weight_decay")),
        ("decoupled", INTEGER),
        ("maximize", INTEGER),
        ("max_grad_norm", DOUBLE),
    ]


def native_samples(samples: Samples) -> NativeSamples:
    """Pointers into `samples`, which must be contiguous."""
    tensors = {name: getattr(samples, name) for name in COLUMNS}
    assert all(tensor.is_contiguous() for tensor in tensors.values())
    assert all(tensor.dtype == torch.float32 for name, tensor in tensors.items() if name != "actions")
    return NativeSamples(*(tensor.data_ptr() for tensor in tensors.values()))


def native_settings(config: Config) -> NativeSettings:
    """Of the PPO objective."""
    value_clip = config.algorithm.get("value_clip")
    return NativeSettings(
        clip_of(config),
        config.value_coef,
        config.entropy_coef,
        -1.0 if value_clip is None else value_clip,
        None,
    )


def terms_array(rows: int) -> Tensor:
    """[rows, terms] float64 for ppo.cpp to fill."""
    return torch.zeros((rows, len(TERM_COLUMNS)), dtype=torch.float64)
