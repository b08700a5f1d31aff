#!/usr/bin/env bash
# Lightning's EMAWeightAveraging ends a fit with the initial weights if averaging had not begun, and begins not at the told epoch.
#
# Versions: pytorch-lightning 2.6.6, torch 2.13.0, Python 3.11.
# Seen: 2026-12-01.
#
# Expected: a fit that ends before the average begins (stopped early, or few steps) leaves the weights as they were trained.
# update_starting_at_epoch=N begins to average at epoch N.
#
# Behaviour:
# - The average is a copy of the initial weights until its first update. At the end of a fit it is copied into the model whether
#   it was updated or not. So with update_starting_at_step=100 a fit of 12 steps ends with exactly the initial weights; the
#   state_dict of its checkpoint holds them, too. No message.
# - The same happens without any start option under manual optimization with self.optimizers(use_pl_optimizer=False): Lightning counts
#   no step then, so no update is due.
# - update_starting_at_epoch alone delays nothing: without a starting step every step counts, from the first.
# The control: without the callback, the weight goes from 0 to 0.93, on its way to 1.
#
# Why it matters: the training curve is that of a fit that works; the model afterwards is an untrained one.
#
# What to do: give update_starting_at_step only where surely more steps follow. Trained weights are in the checkpoint's
# current_model_state. That validation before the first update is of the initial weights, too, is Lightning issue 21724.
#
# Output that was seen (exit status 0):
#
#     no callback: last weight in training 0.91, weight after fit 0.93
#     EMA from step 100: last weight in training 0.91, weight after fit 0.0
#     EMA from step 100, checkpoint: state_dict 0.0, current_model_state 0.93
#     EMA, optimizer without Lightning's wrapper: last weight in training 0.91, weight after fit 0.0
#     update_starting_at_epoch=10: is step 0 averaged? True
#     update_starting_at_step=10: is step 0 averaged? False
#
# Exit status: 0 while all of this is still so, 1 if something changed, 2 if the packages could not be installed.
set -euo pipefail

work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
python3 -m venv "$work/venv"
"$work/venv/bin/pip" install --quiet --quiet pytorch-lightning==2.6.6 torch==2.13.0 numpy==2.4.6 || { echo "not tried: the packages could not be installed"; exit 2; }

cd "$work"
"$work/venv/bin/python" -W ignore - 2> "$work/errors.txt" <<'PYTHON' || { tail -n 5 "$work/errors.txt"; exit 1; }
import logging
import sys

import pytorch_lightning
import torch
from pytorch_lightning.callbacks import EMAWeightAveraging

logging.getLogger("pytorch_lightning").setLevel(logging.ERROR)
changes = []


def expect(line, expected):
    print(line, flush=True)
    if line != expected:
        changes.append(f"expected '{expected}', seen '{line}'")


class Model(pytorch_lightning.LightningModule):
    def __init__(self, manual):
        super().__init__()
        self.weight = torch.nn.Parameter(torch.zeros(1))
        self.automatic_optimization = not manual

    def training_step(self, batch, index):
        self.last = float(self.weight)
        loss = ((self.weight - 1) ** 2).sum()
        if self.automatic_optimization:
            return loss
        optimizer = self.optimizers(use_pl_optimizer=False)
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()

    def configure_optimizers(self):
        return torch.optim.SGD(self.parameters(), lr=0.1)


def fitted(callbacks, manual=False):
    """A fit of 12 steps, and what it left."""
    model = Model(manual)
    trainer = pytorch_lightning.Trainer(max_epochs=3, callbacks=callbacks, accelerator="cpu", logger=False, enable_checkpointing=False,
                                        enable_progress_bar=False, enable_model_summary=False)
    trainer.fit(model, torch.utils.data.DataLoader(torch.zeros(4, 1)))
    return f"last weight in training {round(model.last, 2)}, weight after fit {round(float(model.weight), 2)}"


expect(f"no callback: {fitted([])}", "no callback: last weight in training 0.91, weight after fit 0.93")
expect(f"EMA from step 100: {fitted([EMAWeightAveraging(update_starting_at_step=100)])}",
       "EMA from step 100: last weight in training 0.91, weight after fit 0.0")


class Save(pytorch_lightning.Callback):
    def on_train_epoch_end(self, trainer, model):
        trainer.save_checkpoint("last.ckpt")


fitted([EMAWeightAveraging(update_starting_at_step=100), Save()])
kept = torch.load("last.ckpt", weights_only=False)
state, current = (round(float(kept[key]["weight"]), 2) for key in ("state_dict", "current_model_state"))
expect(f"EMA from step 100, checkpoint: state_dict {state}, current_model_state {current}",
       "EMA from step 100, checkpoint: state_dict 0.0, current_model_state 0.93")
expect(f"EMA, optimizer without Lightning's wrapper: {fitted([EMAWeightAveraging()], manual=True)}",
       "EMA, optimizer without Lightning's wrapper: last weight in training 0.91, weight after fit 0.0")
for option, expected in (("update_starting_at_epoch", True), ("update_starting_at_step", False)):
    seen = EMAWeightAveraging(**{option: 10}).should_update(step_idx=0)
    expect(f"{option}=10: is step 0 averaged? {seen}", f"{option}=10: is step 0 averaged? {expected}")

for change in changes:
    print("CHANGED:", change)
sys.exit(1 if changes else 0)
PYTHON
