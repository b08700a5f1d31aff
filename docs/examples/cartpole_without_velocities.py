"""CartPole of which only the positions are seen: a policy must remember to know how fast they change."""

import gymnasium
import numpy as np


class WithoutVelocities(gymnasium.ObservationWrapper):
    """Show the cart's position and the pole's angle."""

    def __init__(self, env):
        super().__init__(env)
        space = env.observation_space
        self.observation_space = gymnasium.spaces.Box(space.low[[0, 2]], space.high[[0, 2]], dtype=np.float32)

    def observation(self, observation):
        return observation[[0, 2]]


def make(**kwargs):
    """Return the environment; `gymnasium.make` limits its episodes to 500 steps."""
    return WithoutVelocities(gymnasium.make("CartPole-v1", max_episode_steps=-1, **kwargs))


gymnasium.register("CartPoleWithoutVelocities-v0", entry_point=make, max_episode_steps=500)
