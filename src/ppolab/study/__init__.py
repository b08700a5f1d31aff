"""Run studies with Optuna: search spaces, storage, trials that processes share, the sweep loop, and their record."""
