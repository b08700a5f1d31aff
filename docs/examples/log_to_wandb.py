"""Log a run to Weights & Biases, too: `callbacks=[log_to_wandb:LogToWandb]`, explained in docs/extending.md."""

from dataclasses import asdict

import pytorch_lightning as pl
import wandb


class LogToWandb(pl.Callback):
    """Send the settings, and every metric over the environment steps; a resumed run goes on in the same W&B run."""

    def __init__(self):
        self.id = None
        self.evaluation = {}

    def on_train_start(self, trainer, pl_module):
        """Begin a run of W&B, or go on with the one that the checkpoint names."""
        self.evaluation = pl_module.evaluation
        if trainer.is_global_zero:
            run = wandb.init(project="ppolab", id=self.id, resume="allow", config=asdict(pl_module.config))
            self.id = run.id

    def on_train_batch_end(self, trainer, pl_module, outputs, batch, batch_idx):
        """Log the iteration, and the evaluation before it if there was one."""
        self.send(trainer, pl_module, outputs)

    def on_fit_end(self, trainer, pl_module):
        """Log the last evaluation, which comes after the last iteration, and end."""
        self.send(trainer, pl_module, {})
        if trainer.is_global_zero:
            wandb.finish()

    def send(self, trainer, pl_module, metrics):
        """Send metrics on the first rank; W&B calls the x axis of its charts the step."""
        new = pl_module.evaluation if pl_module.evaluation is not self.evaluation else {}
        self.evaluation = pl_module.evaluation
        if trainer.is_global_zero:
            wandb.log({**metrics, **new}, step=pl_module.steps)

    def on_exception(self, trainer, pl_module, exception):
        """End a run that failed or was interrupted."""
        if trainer.is_global_zero:
            wandb.finish(exit_code=1)

    def state_dict(self):
        """Return what a resumed run goes on from."""
        return {"id": self.id}

    def load_state_dict(self, state_dict):
        """Go on from it."""
        self.id = state_dict["id"]
