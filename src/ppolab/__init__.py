"""ppolab: train, sweep and compare Proximal Policy Optimization agents."""

__version__ = "0.1.0"
