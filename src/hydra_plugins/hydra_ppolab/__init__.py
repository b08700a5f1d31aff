"""Plugins of Hydra: the sweeper and the launcher behind `-m`, and where `sweeps/` is found."""
