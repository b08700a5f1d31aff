"""A virtual environment for a peer, made from the package index the first time it is needed."""

from __future__ import annotations

import importlib.metadata
import subprocess
import sys
from pathlib import Path

TORCH_INDEX = "https://download.pytorch.org/whl/{build}"
"""Where builds live whose version has a suffix, such as 2.9.0+cpu, in case the default index does not know them."""

PACKAGES = {
    "sb3": ["stable-baselines3"], "sb3_contrib": ["sb3-contrib"], "sheeprl": ["sheeprl"], "zoo": ["rl_zoo3", "pandas"],
}  # fmt: skip


class PeerUnavailable(Exception):
    """A peer's packages cannot be installed here."""


def requirements(framework: str) -> list[str]:
    """The peer on the very build of torch that ppolab uses here; everything else is the peer's own choice."""
    return [*PACKAGES[framework], torch_requirement(), "gymnasium[mujoco]"]


def torch_requirement() -> str:
    """The very build of torch that ppolab uses here."""
    return f"torch=={importlib.metadata.version('torch')}"


def ready(folder: Path, wanted: list[str]) -> Path:
    """The Python of an environment in `folder` that holds the packages `wanted`; made anew if they changed.

    Raises:
        PeerUnavailable: the packages cannot be installed.
    """
    python, stamp = folder / "bin" / "python", folder / "requirements.txt"
    text = "".join(f"{requirement}\n" for requirement in wanted)
    if stamp.is_file() and stamp.read_text() == text:
        return python
    print(f"installing {' '.join(wanted)} into {folder}", file=sys.stderr)
    _, _, build = importlib.metadata.version("torch").partition("+")
    install = [str(python), "-m", "pip", "install", "-qq", *wanted]
    indexes = [[], ["--extra-index-url", TORCH_INDEX.format(build=build)]] if build else [[]]
    try:
        subprocess.run([sys.executable, "-m", "venv", "--clear", str(folder)], check=True)
        installed = any(subprocess.run([*install, *index], check=False).returncode == 0 for index in indexes)
    except (OSError, subprocess.CalledProcessError) as error:
        raise PeerUnavailable(f"no virtual environment in {folder.name}: {error}") from error
    if not installed:
        raise PeerUnavailable(f"pip could not install {' '.join(wanted)}")
    stamp.write_text(text)
    return python
