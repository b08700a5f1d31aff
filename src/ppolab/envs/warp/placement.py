"""Place a policy's actions in an environment's, on a device."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import gymnasium
import torch
from torch import Tensor

from ppolab.envs.spaces import ActionMapping, box_placement


def placed_on(space: gymnasium.Space[Any], mapping: ActionMapping, device: torch.device) -> Callable[[Tensor], Tensor]:
    """Return a function that does on the device what `action_decoder` does: from policy actions [N, A] to actions."""
    assert isinstance(space, gymnasium.spaces.Box), space
    place = box_placement(space, mapping)
    arrays = (place.radius, place.centre, place.low, place.high, place.bounded)
    radius, centre, low, high, bounded = (torch.from_numpy(array).to(device) for array in arrays)

    def placed(actions: Tensor) -> Tensor:
        chosen = torch.where(bounded, actions.tanh(), actions) if mapping.squash else actions
        return (chosen * radius + centre).clamp(low, high)

    return placed
