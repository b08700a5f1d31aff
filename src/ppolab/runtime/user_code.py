"""Find what the user names as MODULE:NAME, and tell where the user's own code failed."""

from __future__ import annotations

import importlib
import re
import traceback
from pathlib import Path
from typing import Any

from ppolab.errors import ConfigError, nearest
from ppolab.runtime.deferred_imports import load_deferred

PACKAGE = Path(__file__).parents[1]
INSTALLED = "site-packages"
NAME = re.compile(r"[A-Za-z_][\w.]*:[A-Za-z_]\w*")


def named_object(key: str, spelled: str, example: str) -> Any:
    """Return the object that `spelled` names, as MODULE:NAME; the module is imported.

    Args:
        key: the setting with its value, as it was typed; begins every message. example: the setting as it may be typed.

    Raises:
        ConfigError: there is no such module or name, or importing it raised.
    """
    if not NAME.fullmatch(spelled):
        raise ConfigError(f"{key}: must be MODULE:NAME, such as {example}")
    module_name, _, name = spelled.partition(":")
    load_deferred()  # PyTorch is whole for code that is not ours
    try:
        module = importlib.import_module(module_name)
    except ModuleNotFoundError as error:
        raise ConfigError(
            f"{key}: the module '{error.name}' cannot be imported; install it or add its folder to PYTHONPATH"
        ) from error
    except Exception as error:  # a user's module may raise anything
        raise ConfigError(
            f"{key}: importing {module_name} raised {what_was_raised(error)}; mend it, or leave it out"
        ) from error
    if not hasattr(module, name):
        raise ConfigError(f"{key}: the module {module_name} has no {name}{nearest(name, vars(module))}")
    return getattr(module, name)


def what_was_raised(error: Exception) -> str:
    """Return the kind of an error, the first line of its message, and where in the user's code it was raised, if there.

    The user's code is what ppolab has called, down to where that calls an installed package.
    """
    frames = traceback.extract_tb(error.__traceback__)
    ours = [index for index, frame in enumerate(frames) if Path(frame.filename).is_relative_to(PACKAGE)]
    called = frames[ours[-1] + 1 :] if ours else list(frames)
    own = [frame for frame in called if INSTALLED not in Path(frame.filename).parts and frame.filename[0] != "<"]
    place = "".join(f" ({frame.filename}, line {frame.lineno})" for frame in (own or called)[-1:])
    message = str(error).partition("\n")[0]
    return f"{type(error).__name__}: {message}{place}"
