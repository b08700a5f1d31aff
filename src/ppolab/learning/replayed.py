"""Launch the same kernels again and again: on a GPU as one CUDA graph."""

from __future__ import annotations

from collections.abc import Callable

import torch

WARM_UPS = 3
"""Calls before a graph is captured, in which libraries make what they keep, and code is compiled."""


class Replayed:
    """Call a function of tensors that stay where they are: what it launches is captured on a GPU, and replayed.

    The function must launch the same kernels at every call, and wait for nothing. Elsewhere it is called as it is.
    """

    def __init__(self, launches: Callable[[], None], device: torch.device) -> None:
        self._launches = launches
        self._device = device
        self._graph: torch.cuda.CUDAGraph | None = None

    def capture(self) -> None:
        """Get ready, where that has not been done: calls the function, which must change nothing that counts."""
        if self._device.type != "cuda" or self._graph is not None:
            return
        stream = torch.cuda.Stream(self._device)  # type: ignore[no-untyped-call]
        stream.wait_stream(torch.cuda.current_stream(self._device))
        # dropout draws here; a resumed run, which captures later, would find other numbers
        with torch.random.fork_rng([self._device]), torch.cuda.stream(stream):
            for _ in range(WARM_UPS):
                self._launches()
        torch.cuda.current_stream(self._device).wait_stream(stream)
        self._graph = torch.cuda.CUDAGraph()
        with torch.cuda.graph(self._graph):
            self._launches()

    def __call__(self) -> None:
        """Do what the function does."""
        if self._graph is None:
            self._launches()
        else:
            self._graph.replay()
