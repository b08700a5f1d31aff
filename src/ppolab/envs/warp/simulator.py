"""N copies of one MuJoCo model in mujoco-warp, whose arrays are tensors here without a copy."""

from __future__ import annotations

import contextlib
import importlib
from collections.abc import Callable, Iterator
from typing import Any

import mujoco
import numpy as np
import torch
import warp
from numpy.typing import NDArray
from torch import Tensor

from ppolab.envs.warp.scene import SEEN, Beginning, Scene
from ppolab.errors import ConfigError

STATE = ("qpos", "qvel", "act", "qacc_warmstart", "time")
"""What one step leaves to the next."""


class Simulator:
    """Step N worlds of a model together.

    Args:
        steps: of MuJoCo for each call of `step`.
        contacts: of a world, on average over the worlds. rows: of constraints of a world, at most.
        with_forces: compute `cfrc_ext` after the last of the steps.

    Raises:
        ConfigError: Warp cannot use the device.

    Attributes:
        scene: what is seen of the worlds; its tensors are those of the simulator.
        state: tensors [N, ...] by the names in `STATE`, which a caller may write.
        overflow: [N] int32, not 0 in worlds that had more contacts or rows than there is memory for.
        rest: qpos [1, nq] and qvel [1, nv] of the model, float64.
        seconds: that a step takes in the worlds.
    """

    def __init__(
        self,
        model: mujoco.MjModel,
        worlds: int,
        steps: int,
        device: torch.device,
        *,
        contacts: int,
        rows: int,
        with_forces: bool,
    ) -> None:
        self._library = _mujoco_warp()
        self._device, self._place = device, _usable(device)
        self._steps, self._with_forces = steps, with_forces
        self._graphs: dict[str, Any] = {}  # None: to be captured at the next call
        self._streams: dict[int, Any] = {}
        self.seconds = steps * float(model.opt.timestep)
        self.rest = Beginning(*(_row(values, device) for values in (model.qpos0, np.zeros(model.nv))))
        with self._stream():
            self._model = self._library.put_model(_solvable(model))
            self._model.opt.warn_overflow = 0  # which would print from within a kernel; `overflow` tells of it
            self._data = self._library.make_data(model, nworld=worlds, nconmax=contacts, njmax=rows)
            names = {model.body(index).name: index for index in range(model.nbody)}
            masses = torch.tensor(model.body_mass, dtype=torch.float32, device=device)
            seen: Any = {name: self._tensor(name) for name in SEEN}
            self.scene = Scene(**seen, body_mass=masses, bodies=names)
            self.state = {name: self._tensor(name) for name in STATE}
            self.overflow = self._tensor("overflow")
        self._compile()

    def step(self) -> None:
        """Take the steps with the actions in `scene.ctrl`."""
        self._run("step", self._take_steps)

    def derive(self) -> None:
        """Compute what follows from qpos and qvel; `state` stays as it is.

        As after MuJoCo's mj_resetData and mj_forward, `scene.cfrc_ext` is not computed.
        """
        kept = self.state["qacc_warmstart"].clone()
        self._run("derive", lambda: self._library.forward(self._model, self._data))
        self.state["qacc_warmstart"].copy_(kept)

    def _compile(self) -> None:
        """Take a step from anywhere: compiling the kernels may take minutes on a processor, which no step may."""
        for _ in range(1 if self._device.type == "cpu" else 2):  # a GPU captures its graphs at the second call
            self.step()
            self.derive()

    def _take_steps(self) -> None:
        for _ in range(self._steps):
            self._library.step(self._model, self._data)
        if self._with_forces:
            self._library.rne_postconstraint(self._model, self._data)

    def _run(self, name: str, launches: Callable[[], None]) -> None:
        """Launch kernels; on a GPU as one graph, which is captured at the second call, when all are compiled."""
        if self._device.type == "cpu" or name not in self._graphs:
            with self._stream():
                launches()
            self._graphs.setdefault(name, None)
            return
        if self._graphs[name] is None:
            # on Warp's own stream: PyTorch's may be the default one, of which CUDA captures nothing
            with warp.ScopedDevice(self._place), warp.ScopedCapture() as capture:
                launches()
            self._graphs[name] = capture.graph
        with self._stream() as stream:
            warp.capture_launch(self._graphs[name], stream=stream)

    @contextlib.contextmanager
    def _stream(self) -> Iterator[Any]:
        """Let Warp use this device, and on a GPU the stream that PyTorch uses, so that one waits for the other."""
        if self._device.type == "cpu":
            with warp.ScopedDevice(self._place):
                yield None
            return
        used = torch.cuda.current_stream(self._device)
        if used.cuda_stream not in self._streams:
            self._streams[used.cuda_stream] = warp.stream_from_torch(used)  # type: ignore[no-untyped-call]
        with warp.ScopedStream(self._streams[used.cuda_stream]) as stream:
            yield stream

    def _tensor(self, name: str) -> Tensor:
        tensor: Tensor = warp.to_torch(getattr(self._data, name))
        return tensor


def _mujoco_warp() -> Any:
    """Import mujoco-warp without Warp's greeting; from now on Warp tells of no kernel that it compiles."""
    warp.config.log_level = max(warp.config.log_level, warp.LOG_WARNING)
    return importlib.import_module("mujoco_warp")


def _usable(device: torch.device) -> Any:
    """Return Warp's device.

    Raises:
        ConfigError: there is none.
    """
    if device.type == "cpu":
        return warp.get_device("cpu")
    if not warp.is_cuda_available():
        raise ConfigError(
            f"env.backend=warp: PyTorch has a GPU, but Warp {warp.__version__} cannot use its driver; update the "
            "driver, or use trainer=cpu"
        )
    index = torch.cuda.current_device() if device.index is None else device.index  # Warp knows devices by their numbers
    return warp.device_from_torch(torch.device("cuda", index))


def _solvable(model: mujoco.MjModel) -> mujoco.MjModel:
    """Return the model with a solver that mujoco-warp has: it lacks that of Humanoid, PGS."""
    if model.opt.solver == mujoco.mjtSolver.mjSOL_PGS:
        model.opt.solver = mujoco.mjtSolver.mjSOL_NEWTON
    return model


def _row(values: NDArray[np.float64], device: torch.device) -> Tensor:
    return torch.tensor(values, dtype=torch.float64, device=device)[None]
