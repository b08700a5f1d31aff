"""End a run once it is good enough: `callbacks=[early_stop:StopAtReturn]`, explained in docs/extending.md."""

import pytorch_lightning as pl


class StopAtReturn(pl.Callback):
    """End the run once an evaluation's mean return reaches 475."""

    wanted = 475

    def on_train_batch_end(self, trainer, pl_module, outputs, batch, batch_idx):
        """Look at the last evaluation, which is the same on all ranks."""
        if pl_module.evaluation.get("eval/return", float("-inf")) >= self.wanted:
            print(f"good enough after {pl_module.steps:,} steps")
            trainer.should_stop = True
