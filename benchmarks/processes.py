"""Measured work runs in fresh processes of its own; this starts them and says what they took."""

from __future__ import annotations

import json
import os
import platform
import signal
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from importlib import metadata
from pathlib import Path
from typing import Any

HERE = Path(__file__).resolve().parent
ROOT = HERE.parent
CORES = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
LINES_KEPT = 15
DISTRIBUTIONS = ("torch", "pytorch-lightning", "numpy", "gymnasium", "mujoco", "envpool")


@dataclass(frozen=True)
class Child:
    """A finished process: the record it left, when it started, how long it took, its largest process in MB, the load
    of the machine before it; and the most that it and its descendants held together of memory that is no file's, in MB
    (None without /proc). Files are the code of libraries, which processes share and the system drops at will."""

    record: dict[str, Any]
    started: float
    seconds: float
    peak_mb: float
    load: float
    own_mb: float | None = None


class ChildFailed(Exception):
    """A measured process ended with an error, or left no record."""

    def __init__(self, code: int, told: str) -> None:
        super().__init__(f"exit code {code}\n{told}")
        self.code = code
        self.told = told

    @property
    def reason(self) -> str:
        """One line: the exit code, and the last thing it said."""
        said = [line.strip() for line in self.told.splitlines() if line.strip()]
        return f"exit code {self.code}: {said[-1][:200] if said else 'no message'}"


def peer_script(name: str) -> str:
    """The path of a program in benchmarks/peers."""
    return str(HERE / "peers" / name)


def run_child(
    command: list[str], folder: Path, environment: Mapping[str, str] | None = None, patience: float | None = None
) -> Child:
    """Run to the end; the process must leave result.json in `folder`.

    Args:
        environment: variables besides, or instead of, those of this process.
        patience: seconds after which it is ended.

    Raises:
        ChildFailed: it ended with an error, or left no result.json; the message has the last lines it wrote.
    """
    load = os.getloadavg()[0]
    variables = {**os.environ, **(environment or {})}
    with (folder / "output.txt").open("wb") as output:
        started = time.time()
        process = subprocess.Popen(command, cwd=folder, stdout=output, stderr=subprocess.STDOUT, env=variables)
        with _ended_after(process, patience), _watched(process.pid) as own:
            _, status, usage = os.wait4(process.pid, 0)  # unlike wait(), it tells what this one process used
        seconds = time.time() - started
    process.returncode = os.waitstatus_to_exitcode(status)
    result = folder / "result.json"
    if process.returncode or not result.is_file():
        told = (folder / "output.txt").read_text(errors="replace").splitlines()[-LINES_KEPT:]
        told += [f"given up after {seconds:,.0f} s"] if patience and seconds >= patience else []
        raise ChildFailed(process.returncode, "\n".join(told))
    unit = 1e6 if sys.platform == "darwin" else 1e3
    return Child(json.loads(result.read_text()), started, seconds, usage.ru_maxrss / unit, load, max(own, default=None))


@contextmanager
def _watched(pid: int) -> Iterator[list[float]]:
    """Look twenty times a second at a process with its descendants; the list has their memory without files, in MB."""
    found: list[float] = []
    ended = threading.Event()

    def watch() -> None:
        while not ended.wait(0.05):
            if own := sum(map(_own_mb, _descendants(pid))):
                found.append(own)

    thread = threading.Thread(target=watch, daemon=True)
    thread.start()
    try:
        yield found
    finally:
        ended.set()
        thread.join()


def _descendants(pid: int) -> list[int]:
    """The process itself comes first."""
    try:
        lists = [task.read_text() for task in Path(f"/proc/{pid}/task").glob("*/children")]
    except OSError:  # gone meanwhile
        return [pid]
    return [pid, *(each for text in lists for child in text.split() for each in _descendants(int(child)))]


def _own_mb(pid: int) -> float:
    try:
        lines = Path(f"/proc/{pid}/status").read_text().splitlines()
    except OSError:  # gone, or a system without /proc
        return 0.0
    return sum(int(line.split()[1]) for line in lines if line.startswith("RssAnon:")) / 1e3


def run_training(
    program: tuple[str, str],
    env: str,
    span: tuple[int, int],
    settings: Sequence[str],
    *,
    seed: int = 0,
    environment: Mapping[str, str] | None = None,
    patience: float | None = None,
) -> Child:
    """Run a speed script of benchmarks/peers, which takes the arguments of `stopwatch.common_arguments`.

    Args:
        program: a Python, and the script's name.
        span: environment steps in all, and those of the warm-up.
        settings: further arguments. environment, patience: as in `run_child`.

    Raises:
        ChildFailed: see `run_child`.
    """
    python, script = program
    steps, warmup = span
    with tempfile.TemporaryDirectory() as folder:
        command = [
            python, peer_script(script), "--env", env, "--seed", str(seed), "--steps", str(steps),
            "--warmup", str(warmup), "--out", f"{folder}/result.json", *settings,
        ]  # fmt: skip
        return run_child(command, Path(folder), environment, patience)


@contextmanager
def _ended_after(process: subprocess.Popen[bytes], patience: float | None) -> Iterator[None]:
    timer = threading.Timer(patience or 0.0, lambda: os.kill(process.pid, signal.SIGKILL))
    if patience is not None:
        timer.start()
    try:
        yield
    finally:
        timer.cancel()


def versions() -> str:
    """Python, packages, and the commit of this checkout."""
    found = [f"python {platform.python_version()}"]
    for name in DISTRIBUTIONS:
        try:
            found.append(f"{name} {metadata.version(name)}")
        except metadata.PackageNotFoundError:
            continue
    commit = git("rev-parse", "--short=12", "HEAD")
    if commit:
        changed = " with uncommitted changes" if git("status", "--porcelain", "--", "src", "conf") else ""
        found.append(f"commit {commit}{changed}")
    return ", ".join(found)


def git(*arguments: str) -> str:
    """Its output, or an empty string where there is no git or no repository."""
    try:
        done = subprocess.run(["git", "-C", str(ROOT), *arguments], capture_output=True, text=True, check=True)
    except (OSError, subprocess.CalledProcessError):
        return ""
    return done.stdout.strip()


def version_text(found: Mapping[str, str]) -> str:
    """As it stands in a cell: `python=3.11.7 torch=2.13.0`."""
    return " ".join(f"{name}={version}" for name, version in found.items())
