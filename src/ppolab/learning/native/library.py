"""Compile ppo.cpp on first use, for what this processor has, keep the result on disk, and load it."""

from __future__ import annotations

import ctypes
import hashlib
import os
import platform
import shutil
import subprocess
import tempfile
from functools import cache
from pathlib import Path
from typing import Any

import torch

from ppolab.learning.native.structures import STRUCTURES

SOURCES = tuple(
    Path(__file__).with_name(name)
    for name in (
        "ppo.cpp",
        "actor_critic.hpp",
        "advantages.hpp",
        "collecting.hpp",
        "convolutions.hpp",
        "helper.hpp",
        "memory.hpp",
        "objective.hpp",
        "pool_calls.hpp",
        "network.hpp",
        "recurrence.hpp",
        "kernels.hpp",
        "products.hpp",
        "vectors.hpp",
        "ranks.hpp",
    )
)
OPTIONS = ("-O3", "-std=c++17", "-fno-math-errno", "-shared", "-fPIC", "-pthread")
AVX2 = ("-mavx2", "-mfma")
INSTRUCTIONS: dict[str, tuple[str, ...]] = {
    "AVX2": AVX2,
    "AVX512": (*AVX2, "-mavx512f", "-mavx512bw", "-mavx512dq", "-mavx512vl"),
}
"""Options for what PyTorch finds the processor to have; without an entry, for what all of its kind have."""

POINTER, INTEGER, DOUBLE = ctypes.c_void_p, ctypes.c_int64, ctypes.c_double
WAYS = ("forward", "backward")
SIGNATURES: dict[str, tuple[Any, list[Any]]] = {
    "ppo_create": (POINTER, [POINTER]),
    "ppo_destroy": (None, [POINTER]),
    "ppo_evaluate": (None, [POINTER, POINTER, POINTER, INTEGER, POINTER, POINTER]),
    "ppo_prepare": (None, [POINTER, POINTER]),
    "ppo_remember": (None, [*[POINTER] * 3, INTEGER, INTEGER, *[POINTER] * 4]),
    "ppo_act": (None, [*[POINTER] * 5, DOUBLE, INTEGER, *[POINTER] * 7]),
    "ppo_gradient": (None, [POINTER, POINTER, POINTER, POINTER, INTEGER, POINTER, POINTER]),
    "ppo_epoch": (INTEGER, [*[POINTER] * 7, INTEGER, INTEGER, *[POINTER] * 4]),
    "ppo_use_threads": (None, [POINTER, INTEGER]),
    "ppo_advantages": (None, [POINTER] * 7),
    "ppo_problem_of_pool": (ctypes.c_char_p, [POINTER]),
    "ppo_loop_create": (POINTER, [POINTER, POINTER, INTEGER, POINTER]),
    "ppo_loop_destroy": (None, [POINTER]),
    "ppo_loop_run": (None, [POINTER] * 4),
    "ppo_episode_steps": (INTEGER, [*[POINTER] * 3, INTEGER, INTEGER, DOUBLE, *[POINTER] * 6]),
    "ranks_bytes": (INTEGER, [INTEGER, INTEGER]),
    "ranks_arrive": (INTEGER, [POINTER]),
    "ranks_await": (INTEGER, [POINTER, INTEGER, INTEGER]),
    "ranks_enter": (None, [POINTER, INTEGER]),
    "convolutions_forward": (None, [POINTER, INTEGER, POINTER, INTEGER, *[POINTER] * 3]),
    "convolutions_backward": (None, [POINTER, INTEGER, POINTER, INTEGER, *[POINTER] * 5]),
    **{f"{layer}_{way}": (None, [*[INTEGER] * 3, *[POINTER] * 8]) for layer in ("gru", "lstm") for way in WAYS},
    **{f"ppo_sizeof_{name}": (INTEGER, []) for name in STRUCTURES},
}
"""Return type and arguments of every function of the library; without them ctypes would cut pointers to 32 bits."""


class NativeCodeError(Exception):
    """The C++ code cannot be compiled or loaded here; callers go on without it."""


def compiler() -> str | None:
    """Return the C++ compiler to use: $CXX, g++ or clang++; None: there is none."""
    return next(
        (found for name in (os.environ.get("CXX"), "g++", "clang++") if name and (found := shutil.which(name))), None
    )


def instructions() -> str:
    """Return what the C++ code computes with here: AVX512, AVX2, or another name that PyTorch has for the processor.

    PyTorch looks at the processor when it is loaded. ATEN_CPU_CAPABILITY=avx2 or default asks both for less.
    """
    return torch.backends.cpu.get_cpu_capability()


def native_library() -> ctypes.CDLL:
    """Return the loaded library.

    Raises:
        NativeCodeError: there is no compiler, it failed, or the library is not the one that this code describes; the
            message is one line.
    """
    found = _library_or_problem()
    if isinstance(found, NativeCodeError):
        raise found
    return found


def library_problem() -> str | None:
    """Return why there is no library here, as one line; None: there is one."""
    found = _library_or_problem()
    return str(found) if isinstance(found, NativeCodeError) else None


@cache
def _library_or_problem() -> ctypes.CDLL | NativeCodeError:
    """Try once in this process: a compiler that fails takes its seconds every time."""
    try:
        path = _cache_folder() / f"ppo-{_key()}.so"
        if not path.is_file():
            _compile(path)
        return _loaded(path)
    except NativeCodeError as error:
        return error


def _loaded(path: Path) -> ctypes.CDLL:
    try:
        library = ctypes.CDLL(str(path))
        for name, (result, arguments) in SIGNATURES.items():
            function = getattr(library, name)
            function.restype, function.argtypes = result, arguments
    except (AttributeError, OSError) as error:
        raise NativeCodeError(f"the compiled library cannot be loaded: {error}") from error
    for name, structure in STRUCTURES.items():
        ours, theirs = ctypes.sizeof(structure), getattr(library, f"ppo_sizeof_{name}")()
        if ours != theirs:
            raise NativeCodeError(
                f"the structure {name} has {theirs} bytes in C++ and {ours} in Python: objective.hpp or ppo.cpp and "
                "structures.py do not describe the same fields"
            )
    return library


def _compile(target: Path) -> None:
    """Compile to a temporary name and rename it, since another process may be compiling the same."""
    command = compiler()
    if command is None:
        raise NativeCodeError("there is no C++ compiler (g++ or clang++)")
    handle, temporary = tempfile.mkstemp(dir=target.parent, suffix=".so")
    os.close(handle)
    try:
        arguments = [command, *_options(), str(SOURCES[0]), "-o", temporary]
        done = subprocess.run(arguments, check=False, capture_output=True, text=True)
        if done.returncode:
            raise NativeCodeError(f"{command} failed: {(done.stderr.strip() or 'no message').splitlines()[0]}")
        Path(temporary).replace(target)
    except OSError as error:
        raise NativeCodeError(f"{command} cannot be run: {error}") from error
    finally:
        Path(temporary).unlink(missing_ok=True)


def _cache_folder() -> Path:
    """Return $XDG_CACHE_HOME/ppolab or ~/.cache/ppolab; a folder for this process alone if that cannot be written."""
    folder = Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "ppolab"
    try:
        folder.mkdir(parents=True, exist_ok=True)
        with tempfile.NamedTemporaryFile(dir=folder):
            return folder
    except OSError:
        return Path(tempfile.mkdtemp(prefix="ppolab-"))


def _options() -> tuple[str, ...]:
    return (*OPTIONS, *INSTRUCTIONS.get(instructions(), ()))


def _key() -> str:
    """Return a hash of all that the result depends on: machines of different processors may share a home folder."""
    parts = (*(source.read_text() for source in SOURCES), *_options(), platform.machine(), os.environ.get("CXX", ""))
    return hashlib.sha256("\0".join(parts).encode()).hexdigest()[:16]
