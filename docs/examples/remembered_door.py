"""A corridor with many handles, few of which move, and two doors at its end: the first place shows the right one."""

import gymnasium
import numpy as np

HANDLES, LENGTH = 40, 6
SHOWN = np.eye(LENGTH + 3, dtype=np.float32)


class RememberedDoor(gymnasium.Env):
    """Walk by pulling the handle that moves in each place, and open the right door: 1 for it, -1 for the other one.

    The observation is the place, and at the first one the right door. `info["action_mask"]` tells which handles move:
    one in each place of the corridor, and two at its end. To pull another one costs 0.01 and changes nothing.
    """

    observation_space = gymnasium.spaces.Box(0, 1, (LENGTH + 3,), np.float32)
    action_space = gymnasium.spaces.Discrete(HANDLES)

    def reset(self, *, seed=None, options=None):
        super().reset(seed=seed)
        self.place, self.right = 0, int(self.np_random.integers(2))
        return SHOWN[0] + SHOWN[LENGTH + 1 + self.right], self.told()

    def step(self, action):
        handles = self.handles()
        if action not in handles:
            return SHOWN[self.place], -0.01, False, False, self.told()
        if self.place == LENGTH:
            return SHOWN[self.place], 1.0 if handles[self.right] == action else -1.0, True, False, self.told()
        self.place += 1
        return SHOWN[self.place], 0.0, False, False, self.told()

    def handles(self):
        """Return those that move here."""
        first = (17 * self.place + 5) % HANDLES
        return [first, (first + 9) % HANDLES] if self.place == LENGTH else [first]

    def told(self):
        """Return the mask."""
        mask = np.zeros(HANDLES, np.int8)
        mask[self.handles()] = 1
        return {"action_mask": mask}


gymnasium.register("RememberedDoor-v0", entry_point=RememberedDoor, max_episode_steps=50)
