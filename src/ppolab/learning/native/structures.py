"""The structures that ppo.cpp takes, field by field as objective.hpp and ppo.cpp declare them."""

from __future__ import annotations

import ctypes

import torch
from torch import Tensor

from ppolab.learning.objective import LossTerms, Samples

POINTER, DOUBLE, INTEGER = ctypes.c_void_p, ctypes.c_double, ctypes.c_int64

COLUMNS = ("observations", "actions", "log_probs", "values", "advantages", "returns", "parameters")
"""What the C++ code needs of samples, in its order."""
OF_SEQUENCES = ("weights", "states", "starts")
"""What it needs besides where there is memory."""


class NativeSamples(ctypes.Structure):
    """Pointers to experience; the tensors must outlive it."""

    _fields_ = [
        *((name, POINTER) for name in (*COLUMNS, *OF_SEQUENCES)),
        ("length", INTEGER),
        ("sequences", INTEGER),
    ]


class NativeSettings(ctypes.Structure):
    """The objective's settings. Those that may change between steps are pointers."""

    _fields_ = [
        ("clip", POINTER),
        ("entropy_coef", POINTER),
        ("value_coef", DOUBLE),
        ("value_clip", DOUBLE),
        ("penalty", POINTER),
        ("value_only", INTEGER),
        ("masked", INTEGER),
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


class NativeConvolution(ctypes.Structure):
    """The shape of a convolution without padding."""

    _fields_ = [(name, INTEGER) for name in ("inputs", "in_height", "in_width", "outputs", "side", "stride")]


class NativeImages(ctypes.Structure):
    """Where rows of images lie: `stride` bytes apart, and with the channels last if they are interleaved.

    Or `places` has which channels they consist of.
    """

    _fields_ = [
        ("bytes", POINTER),
        *((name, INTEGER) for name in ("rows", "stride", "interleaved")),
        ("places", POINTER),
    ]


class NativeWeights(ctypes.Structure):
    """Pointers to the parameters of a convolution, or to their slopes."""

    _fields_ = [("weights", POINTER), ("bias", POINTER)]


class NativeRanks(ctypes.Structure):
    """The ranks of a run on this machine, and the memory that they share."""

    _fields_ = [
        ("rank", INTEGER),
        ("size", INTEGER),
        ("memory", POINTER),
        ("floats", INTEGER),
    ]


class NativeTerms(ctypes.Structure):
    """One row of what `terms_array` makes."""

    _fields_ = [(name, DOUBLE) for name in (*LossTerms._fields, "gradient_norm")]


class NativeStopping(ctypes.Structure):
    """When an epoch ends early; the last three fields are filled."""

    _fields_ = [
        ("parts", POINTER),
        ("count", INTEGER),
        ("limit", DOUBLE),
        ("broken", DOUBLE),
        *((name, INTEGER) for name in ("made", "stopped", "rolled_back")),
    ]


class NativeOutcomes(ctypes.Structure):
    """What advantages are computed from, besides values."""

    _fields_ = [
        ("steps", INTEGER),
        ("environments", INTEGER),
        *((name, POINTER) for name in ("rewards", "terminated", "truncated")),
        ("gamma", ctypes.c_float),
        ("decay", ctypes.c_float),
        ("rows", POINTER),
        ("count", INTEGER),
    ]


class NativePlacement(ctypes.Structure):
    """How the numbers of a policy's action become those of a pool's."""

    _fields_ = [
        ("width", INTEGER),
        ("type", INTEGER),
        *((name, POINTER) for name in ("starts", "radius", "centre", "low", "high")),
    ]


class NativeColumn(ctypes.Structure):
    """A number of each environment's info."""

    _fields_ = [("entry", INTEGER), ("type", INTEGER)]


class NativePart(ctypes.Structure):
    """Some columns of an observation."""

    _fields_ = [("entry", INTEGER), ("type", INTEGER), ("width", INTEGER)]


class NativeGroup(ctypes.Structure):
    """A pool of environments; its arrays must outlive the loop that steps it."""

    _fields_ = [
        ("receive", POINTER),
        ("send", POINTER),
        *((name, INTEGER) for name in ("handle", "first", "count")),
        ("state", POINTER),
        ("entries", INTEGER),
        ("parts", POINTER),
        *((name, INTEGER) for name in ("part_count", "reward", "done", "truncated")),
        *((name, POINTER) for name in ("ids", "ended", "waiting")),
    ]


class NativeCollected(ctypes.Structure):
    """What a rollout reads and fills."""

    _fields_ = [
        *((name, INTEGER) for name in ("steps", "environments", "inputs")),
        *((name, POINTER) for name in ("observations", "mean", "inverse_std")),
        ("limit", DOUBLE),
        ("noise", POINTER),
        ("noise_width", INTEGER),
        *((name, POINTER) for name in ("scaled", "actions")),
        ("action_bytes", INTEGER),
        *((name, POINTER) for name in ("rewards", "terminated", "truncated", "valid", "info")),
        ("columns", INTEGER),
        *((name, POINTER) for name in ("info_columns", "sent", "times", "memory")),
    ]


class NativeRemembered(ctypes.Structure):
    """What a policy with memory reads and fills besides."""

    _fields_ = [
        ("states", POINTER),
        ("rows", INTEGER),
        ("size", INTEGER),
        ("kept", POINTER),
        ("length", INTEGER),
        ("outputs", POINTER),
        ("values", POINTER),
    ]


class NativeFault(ctypes.Structure):
    """What ended a loop early; `group` is -1 where nothing did."""

    _fields_ = [("group", INTEGER), ("step", INTEGER), ("message", ctypes.c_char_p)]


STRUCTURES: dict[str, type[ctypes.Structure]] = {
    "samples": NativeSamples,
    "settings": NativeSettings,
    "adam": NativeAdam,
    "terms": NativeTerms,
    "stopping": NativeStopping,
    "outcomes": NativeOutcomes,
    "placement": NativePlacement,
    "column": NativeColumn,
    "part": NativePart,
    "group": NativeGroup,
    "collected": NativeCollected,
    "remembered": NativeRemembered,
    "fault": NativeFault,
    "ranks": NativeRanks,
    "convolution": NativeConvolution,
    "images": NativeImages,
    "weights": NativeWeights,
}
"""By the name in `ppo_sizeof_NAME`, which tells the size that C++ gives it."""


def native_samples(samples: Samples) -> NativeSamples:
    """Return pointers into `samples`, which must be contiguous."""
    sequences = 0 if samples.states is None else samples.states.shape[1]
    names = (*COLUMNS, *OF_SEQUENCES) if sequences else COLUMNS
    tensors = {name: getattr(samples, name) for name in names}
    assert all(tensor.is_contiguous() for tensor in tensors.values())
    assert all(tensor.dtype == torch.float32 for name, tensor in tensors.items() if name not in ("actions", "starts"))
    assert samples.starts is None or samples.starts.dtype == torch.bool
    return NativeSamples(
        **{name: tensor.data_ptr() for name, tensor in tensors.items()},
        length=len(samples.weights) // sequences if sequences else 1,
        sequences=sequences,
    )


def terms_array(rows: int) -> Tensor:
    """Return [rows, fields of NativeTerms] float64 for ppo.cpp to fill."""
    return torch.zeros((rows, len(NativeTerms._fields_)), dtype=torch.float64)


def split_terms(terms: Tensor) -> tuple[Tensor, Tensor]:
    """Return (LossTerms as columns [rows, terms], gradient norms [rows]) of a filled array."""
    names = [name for name, *_ in NativeTerms._fields_]
    assert names[: len(LossTerms._fields)] == list(LossTerms._fields)
    return terms[:, : len(LossTerms._fields)], terms[:, names.index("gradient_norm")]
