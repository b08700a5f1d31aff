"""Surround the iterations of a run: one Lightning callback for each concern. `ppolab.training.run` lists them."""
