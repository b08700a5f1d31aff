"""Tag a run with what ran, where, and from which state of the source."""

from __future__ import annotations

import contextlib
import getpass
import os
import platform
import shlex
import socket
import subprocess
import sys
from pathlib import Path

from ppolab.records.versions import package_versions
from ppolab.redaction import redact

_GIT_SECONDS = 5.0
NOTE_TAG = "mlflow.note.content"
"""The tag that MLflow's page shows as the description of a run, in Markdown."""
KIND_TAG = "ppolab.kind"
"""Kind of a run in the store: run, grid, study, trial, seed (of a trial that has several), report, or one below."""
MEMBER, SEGMENT = "member", "segment"
"""Kinds of runs of population based training: a member, and below it what it trains in each generation."""
COMMAND = "PPOLAB_COMMAND"
"""Environment variable of the jobs of a sweep: the command line of the sweep."""


def environment_tags() -> dict[str, str]:
    """Return git commit and state, versions, host, platform, user, command line.

    The commit is that of ppolab's own source when it runs from a checkout, else that of the current folder.
    """
    tags = {
        **{f"version.{name}": version for name, version in package_versions().items()},
        "host": socket.gethostname(),
        "platform": platform.platform(),
        "command": redact(typed_command()),
        "mlflow.source.name": redact(sys.argv[0]),
        "mlflow.source.type": "LOCAL",
    }
    with contextlib.suppress(KeyError, OSError, ImportError):  # a container's user may have no name
        tags["mlflow.user"] = getpass.getuser()
    return tags | _git_tags()


def typed_command() -> str:
    """Return the command that the user typed; for a job of a sweep, that of the sweep."""
    return os.environ.get(COMMAND) or shlex.join(sys.orig_argv)


def _git_tags() -> dict[str, str]:
    source = Path(__file__).resolve()
    in_checkout = bool(_git(source.parent, "ls-files", "--error-unmatch", source.name))
    folder = source.parent if in_checkout else Path.cwd()
    commit = _git(folder, "rev-parse", "HEAD")
    if not commit:
        return {}
    dirty = bool(_git(folder, "status", "--porcelain"))
    return {"git.commit": commit, "git.dirty": str(dirty).lower(), "mlflow.source.git.commit": commit}


def _git(folder: Path, *arguments: str) -> str:
    """Return the output of a git command in `folder`; empty when git is missing, fails, or takes too long."""
    try:
        command = ["git", "-C", str(folder), *arguments]
        done = subprocess.run(command, capture_output=True, text=True, timeout=_GIT_SECONDS, check=True)
    except (OSError, subprocess.SubprocessError):
        return ""
    return done.stdout.strip()
