"""Name the tasks that mujoco-warp's worlds can be of."""

from __future__ import annotations

from collections.abc import Mapping

from ppolab.envs.warp.arms_and_poles import InvertedDoublePendulum, InvertedPendulum, Pusher, Reacher
from ppolab.envs.warp.humanoids import Humanoid, HumanoidStandup
from ppolab.envs.warp.scene import Task
from ppolab.envs.warp.walkers import Ant, HalfCheetah, Hopper, Swimmer, Walker2d

TASKS: Mapping[str, type[Task]] = {
    "Ant-v5": Ant,
    "HalfCheetah-v5": HalfCheetah,
    "Hopper-v5": Hopper,
    "Humanoid-v5": Humanoid,
    "HumanoidStandup-v5": HumanoidStandup,
    "InvertedDoublePendulum-v5": InvertedDoublePendulum,
    "InvertedPendulum-v5": InvertedPendulum,
    "Pusher-v5": Pusher,
    "Reacher-v5": Reacher,
    "Swimmer-v5": Swimmer,
    "Walker2d-v5": Walker2d,
}
"""The tasks by the ids of Gymnasium."""
