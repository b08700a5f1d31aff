"""Keep the deviation of continuous actions below a bound that falls over the run."""

from __future__ import annotations

from ppolab.config.schema import Config
from ppolab.core.schedules import between
from ppolab.learning.actor_critic import ActorCritic


def bound_deviation(policy: ActorCritic, config: Config, progress: float) -> None:
    """Lower log standard deviations, in place, to what `exploration.final_log_std` allows at `progress`.

    The update may raise them again. Between an update and the next rollout, whatever reads the parameters sees the
    lowered ones: acting, the old policy of the update, checkpoints, evaluations and exports.

    Args:
        progress: share of the run's environment steps already taken.
    """
    final = config.exploration.final_log_std
    if final is None:
        return
    assert policy.log_std is not None, "refused when the run was built"
    policy.log_std.detach().clamp_(max=between(config.model.initial_log_std, final, progress))
