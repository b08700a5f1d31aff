"""A virtual environment for a peer, made from the package index the first time it is needed."""

from __future__ import annotations

import importlib.metadata
import subprocess
import sys
from pathlib import Path

TORCH_INDEX = "https://download.pytorch.org/whl/{build}"
"""Where builds live whose version has a suffix, such as 2.9.0+cpu, in case the default index does not know them."""


def sb3_requirements() -> list[str]:
    """Stable-Baselines3 on the very build of torch that ppolab uses here; gymnasium and mujoco are its own choice."""
    return ["stable-baselines3", f"torch=={importlib.metadata.version('torch')}", "gymnasium[mujoco]"]


def ready(folder: Path, requirements: list[str]) -> Path:
    """The Python of an environment in `folder` that holds `requirements`; makes it, or makes it anew if they changed.

    Raises:
        SystemExit: the packages cannot be installed.
    """
    python, stamp = folder / "bin" / "python", folder / "requirements.txt"
    wanted = "".join(f"{requirement}\n" for requirement in requirements)
    if stamp.is_file() and stamp.read_text() == wanted:
        return python
    print(f"installing {' '.join(requirements)} into {folder}", file=sys.stderr)
    subprocess.run([sys.executable, "-m", "venv", "--clear", str(folder)], check=True)
    _, _, build = importlib.metadata.version("torch").partition("+")
    install = [str(python), "-m", "pip", "install", "--quiet", *requirements]
    indexes = [[], ["--extra-index-url", TORCH_INDEX.format(build=build)]] if build else [[]]
    if not any(subprocess.run([*install, *index], check=False).returncode == 0 for index in indexes):
        raise SystemExit(f"{folder}: could not install {' '.join(requirements)}")
    stamp.write_text(wanted)
    return python
