"""MuJoCo's tasks simulated by mujoco-warp, on tensors. Everything here is imported once a run wants it."""
