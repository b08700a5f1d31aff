"""Answer a call from Python: with an exception of ppolab's own, and with the caller's process as it was."""

from __future__ import annotations

import gc
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from ppolab.cli.error_lines import answer_to
from ppolab.cli.hydra_guard import hydra_guarded
from ppolab.envs.seeding import global_generator_states, restore_global_generators
from ppolab.errors import ConfigError, PpolabError
from ppolab.redaction import redact
from ppolab.runtime.fast_imports import lean_imports
from ppolab.runtime.process_state import process_state_kept


@contextmanager
def called_from_python() -> Iterator[None]:
    """Answer what the block was asked, as a command would, and leave Hydra, logging and the environment as they were.

    Raises:
        PpolabError: in place of what Hydra, the system, or memory that is short raise.
    """
    with _own_errors(), process_state_kept(), hydra_guarded(), _collector_kept():
        sys.path.append(str(Path.cwd()))  # a user's own env.id=my_package:MyEnv-v0 may lie there
        yield


@contextmanager
def numbers_kept() -> Iterator[None]:
    """Put the global random generators and PyTorch's threads back after the block; it imports PyTorch."""
    with lean_imports():
        import torch
    states, threads, gradients = global_generator_states(), torch.get_num_threads(), torch.is_grad_enabled()
    try:
        yield
    finally:
        restore_global_generators(states)
        torch.set_num_threads(threads)
        torch.set_grad_enabled(gradients)


@contextmanager
def _own_errors() -> Iterator[None]:
    try:
        yield
    except PpolabError as error:
        error.args = (redact(str(error)),)
        raise
    except Exception as error:
        answer = answer_to(error)
        if answer is None:
            raise
        text, code = answer
        if code == ConfigError.exit_code:  # the line says all, and what Hydra raised may hold a password
            raise ConfigError(redact(text)) from None
        raise PpolabError(redact(text)) from error


@contextmanager
def _collector_kept() -> Iterator[None]:
    """Let the caller's objects be collected again: quick imports take what there is out of the garbage collection."""
    frozen = gc.get_freeze_count()
    try:
        yield
    finally:
        if not frozen:
            gc.unfreeze()
