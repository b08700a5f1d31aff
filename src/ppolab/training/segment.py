"""Begin a part of a member's training in a population: from its own last checkpoint, or from another member's."""

from __future__ import annotations

import logging
from dataclasses import replace
from typing import Any

from ppolab.errors import CheckpointError
from ppolab.records.checkpoint import Checkpoint, load_checkpoint
from ppolab.training.trial import Segment

log = logging.getLogger(__name__)


def checkpoint_of_segment(segment: Segment) -> Checkpoint | None:
    """Return what the segment goes on from; None if it begins a member.

    It belongs to no tracking run, since each segment has one of its own, and its best return is that of another run.

    Raises:
        CheckpointError: it is not there, or damaged.
    """
    if segment.start is None:
        return None
    if not segment.start.is_file():
        raise CheckpointError(
            f"{segment.start}: the checkpoint that this member goes on from is not here; machines that share a "
            "population need the folder of its runs, too"
        )
    checkpoint = load_checkpoint(segment.start)
    log.info("going on from %s, after %s steps", segment.start, f"{checkpoint.module['steps']:,}")
    module = as_copied(checkpoint.module) if segment.copied else checkpoint.module
    return replace(checkpoint, module=module, best_return=None, run_id=None)


def as_copied(state: dict[str, Any]) -> dict[str, Any]:
    """Return the state of another run for a copy, which learns on from it with episodes and random numbers of its own.

    Weights, optimizer, statistics of observations and rewards, and counters stay.
    """
    return {**state, "random": None, "collectors": [None] * len(state["collectors"])}
