"""Make the pictures of a run whose training is complete."""

from __future__ import annotations

import logging

from ppolab.agents.video import RenderError, record_video
from ppolab.config.schema import Config
from ppolab.envs.seeding import private_generators
from ppolab.learning.actor_critic import ActorCritic
from ppolab.records.learning_curve import plot_learning_curve
from ppolab.records.run_folder import RunFolder
from ppolab.training.progress_bar import announce

log = logging.getLogger(__name__)


def make_pictures(config: Config, files: RunFolder, policy: ActorCritic, *, interrupted: bool = False) -> None:
    """Draw the learning curve and film one episode; none of it is worth failing a complete run.

    Ctrl-C leaves out what is not made yet.

    Args:
        interrupted: it came before this, after the last step.
    """
    try:
        if interrupted:
            raise KeyboardInterrupt
        plot_learning_curve(files.metrics, f"{config.env.id}, seed {config.seed}", files.curve)
        if config.logger.video:
            announce("filming one episode; Ctrl-C leaves the video out")
            with private_generators(config.seed):
                record_video(policy, config.env, config.seed, files.video)
    except RenderError as error:
        log.info("%s", error)
    except OSError as error:
        log.warning("%s: no learning curve or video: %s", files.path, error.strerror or error)
    except KeyboardInterrupt:
        log.warning("interrupted after the last step: the run is complete, but not all of its pictures: %s", files.path)
