"""Train with longer and longer episodes: `callbacks=[curriculum:LongerEpisodes]`, explained in docs/extending.md."""

import pytorch_lightning as pl

LAST = 500
"""CartPole's own time limit, which evaluations have from the beginning."""


class LongerEpisodes(pl.Callback):
    """Begin with a time limit of 50 steps, and double it whenever the episodes nearly reach it."""

    def __init__(self):
        self.limit = 50

    def on_train_start(self, trainer, pl_module):
        """Set the first limit; in a resumed run it is the one in force, and nothing happens."""
        pl_module.change_env_kwargs({"max_episode_steps": self.limit})

    def on_train_batch_end(self, trainer, pl_module, outputs, batch, batch_idx):
        """Raise the limit. After a change, train/length is missing until the first new episode has ended."""
        if self.limit < LAST and outputs.get("train/length", 0) >= 0.9 * self.limit:
            self.limit = min(2 * self.limit, LAST)
            pl_module.change_env_kwargs({"max_episode_steps": self.limit})

    def state_dict(self):
        """Return what a resumed run goes on from."""
        return {"limit": self.limit}

    def load_state_dict(self, state_dict):
        """Go on from it."""
        self.limit = state_dict["limit"]
