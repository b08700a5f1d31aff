"""CartPole and Pendulum of which only the positions are seen: a policy must remember to know how fast they change."""

import gymnasium
import numpy as np

POSITIONS = {
    "CartPoleWithoutVelocities-v0": ("CartPole-v1", [0, 2], 500),
    "PendulumWithoutVelocities-v0": ("Pendulum-v1", [0, 1], 200),
}


class Shown(gymnasium.ObservationWrapper):
    """Show some of the numbers of an observation."""

    def __init__(self, env, shown):
        super().__init__(env)
        self.shown, space = shown, env.observation_space
        self.observation_space = gymnasium.spaces.Box(space.low[shown], space.high[shown], dtype=np.float32)

    def observation(self, observation):
        return observation[self.shown]


def make(whole, shown, **kwargs):
    """Return the environment; `gymnasium.make` limits the length of its episodes."""
    return Shown(gymnasium.make(whole, max_episode_steps=-1, **kwargs), shown)


for name, (whole, shown, limit) in POSITIONS.items():
    gymnasium.register(name, entry_point=make, max_episode_steps=limit, kwargs={"whole": whole, "shown": shown})
