"""Film an episode in a process of its own, since MuJoCo ends the process where it cannot draw.

    python -m ppolab.agents.filming_apart FOLDER

The caller plays the episode and writes its actions into FOLDER; this process takes them again, and draws.
"""

from __future__ import annotations

import json
import math
import os
import subprocess
import sys
import tempfile
from contextlib import closing
from dataclasses import asdict
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ppolab.agents.evaluation import play_episodes
from ppolab.agents.filming import Player, film
from ppolab.config.schema import EnvConfig
from ppolab.envs.factory import evaluation_backend, make_vector_env
from ppolab.errors import PpolabError

MOST_PICTURES = 150
"""Of an episode: EnvPool's pictures of MuJoCo take up to half a second each where there is no graphics card."""
PATIENCE_SECONDS = 600.0
ORDER, ACTIONS, RESULT = "order.json", "actions.npy", "result.json"


class NotDrawn(PpolabError):
    """The process that draws has ended without a film."""


def film_apart(player: Player, env: EnvConfig, seed: int, path: Path) -> float:
    """Play one episode here, and let another process film it to `path`; return the episode's return.

    The film has at most `MOST_PICTURES`, evenly over the episode.

    Raises:
        NotDrawn: this machine cannot draw the environment.
    """
    taken: list[NDArray[Any]] = []

    def noted(rows: NDArray[Any], masks: NDArray[np.bool_] | None) -> NDArray[Any]:
        taken.append(player.act(rows, masks))
        return taken[-1]

    with closing(make_vector_env(env, [seed], evaluation_backend(env))) as simulator:
        (total,) = play_episodes(noted, simulator, player.forget).returns
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        np.save(folder / ACTIONS, np.stack(taken))
        order = {"env": asdict(env), "seed": seed, "path": str(path.absolute())}
        (folder / ORDER).write_text(json.dumps(order))
        _draw(folder)
        again: float = json.loads((folder / RESULT).read_text())
    if again != total:
        raise NotDrawn(f"the episode has another return when it is played again, {again:g} and not {total:g}")
    return total


def _draw(folder: Path) -> None:
    """Run this module on `folder`, in which MuJoCo then leaves its own log file."""
    places = os.pathsep.join(place or str(Path.cwd()) for place in sys.path)
    try:
        done = subprocess.run(
            [sys.executable, "-m", __spec__.name, str(folder)], cwd=folder, env={**os.environ, "PYTHONPATH": places},
            stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, timeout=PATIENCE_SECONDS, check=False,
        )  # fmt: skip
    except subprocess.TimeoutExpired:
        raise NotDrawn(f"drawing has taken longer than {PATIENCE_SECONDS:g} s") from None
    if not (folder / RESULT).exists():
        said = [line for line in done.stdout.splitlines() if line.strip()]
        raise NotDrawn(f"{said[-1]} (exit code {done.returncode})" if said else f"exit code {done.returncode}")


def main(folder: Path) -> None:
    """Film the episode that `folder` describes."""
    order = json.loads((folder / ORDER).read_text())
    actions = np.load(folder / ACTIONS)
    following = iter(actions)
    stride = math.ceil(len(actions) / MOST_PICTURES)
    player = Player(lambda _rows, _masks: next(following))
    total = film(player, EnvConfig(**order["env"]), order["seed"], Path(order["path"]), stride)
    (folder / RESULT).write_text(json.dumps(total))


if __name__ == "__main__":
    main(Path(sys.argv[1]))
