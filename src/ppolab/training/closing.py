"""Make the pictures of a run whose training is complete."""

from __future__ import annotations

import logging
import shlex

from ppolab.agents.export_formats import default_path
from ppolab.agents.video import RenderError, record_video
from ppolab.config.schema import Config
from ppolab.errors import ExportError, PpolabError
from ppolab.learning.actor_critic import ActorCritic
from ppolab.records.learning_curve import plot_learning_curve
from ppolab.records.run_folder import FoundRun, RunFolder
from ppolab.records.wording import next_command
from ppolab.runtime.memory import forget_code
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
        forget_code()  # of training, and then of drawing: filming needs much of its own
        plot_learning_curve(files.metrics, f"{config.env.id}, seed {config.seed}", files.curve)
        if config.logger.video:
            forget_code()
            announce("filming one episode; Ctrl-C leaves the video out")
            record_video(policy, config.env, config.seed, files.video)
    except RenderError as error:
        log.info("%s", error)
    except OSError as error:
        log.warning("%s: no learning curve or video: %s", files.path, error.strerror or error)
    except KeyboardInterrupt:
        log.warning("interrupted after the last step: the run is complete, but not all of its pictures: %s", files.path)


def register_best(config: Config, files: RunFolder, name: str, tracking_uri: str) -> None:
    """Register the best policy of a complete run; what keeps it from that is a warning, with what to type later."""
    from ppolab.agents.export import export_policy  # imports PyTorch's compiler, which few runs need
    from ppolab.agents.registering import register
    from ppolab.agents.trained_policy import load_policy

    checkpoint = files.checkpoint("best")
    run = FoundRun(files, checkpoint if checkpoint.is_file() else files.checkpoint("last"))
    later = f"{next_command('export', 'run', files.path)} format=mlflow {shlex.quote(f'name={name}')}"
    announce("exporting and registering the best policy; Ctrl-C leaves it out")
    try:
        trained = load_policy(run)
        path = default_path(files.path, "mlflow")
        export_policy(trained, "mlflow", path)
        version = register(trained, path, name, tracking_uri)
        log.info("the best policy of %s is registered: models:/%s/%s", config.env.id, name, version)
    except ExportError as error:  # the same would happen later
        log.warning("the policy is not registered: %s", error)
    except (PpolabError, KeyboardInterrupt) as error:
        log.warning("the policy is not registered: %s; register it later with: %s", str(error) or "interrupted", later)
