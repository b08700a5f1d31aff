"""The mathematics of PPO as pure functions on tensors: no state, no I/O, no environment."""
