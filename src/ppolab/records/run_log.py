"""How messages reach the terminal and the file of a run; conf/hydra/job_logging names these classes."""

from __future__ import annotations

import contextlib
import logging
import traceback
from pathlib import Path

from ppolab.redaction import redact


class Redacted(logging.Formatter):
    """Hides the credentials of URIs, also in what other packages tell."""

    def format(self, record: logging.LogRecord) -> str:
        """Return the message, redacted."""
        return redact(super().format(record))


class RunLog(logging.FileHandler):
    """The log of a run: begun again where it was removed, and left alone where it cannot be written."""

    def emit(self, record: logging.LogRecord) -> None:
        """Write a message if the file can take it; the terminal shows it in any case."""
        with contextlib.suppress(OSError):
            if self.stream is not None and not Path(self.baseFilename).exists():
                self.stream.close()
                self.stream = None  # which opens it again
            super().emit(record)

    def handleError(self, record: logging.LogRecord) -> None:  # noqa: N802
        """A full disk is told once, by what needs it; not with a traceback for every message."""


def log_to_file(error: BaseException) -> None:
    """Write the traceback of the cause of `error` into the run's log; the terminal gets one line by other means."""
    cause = error.__cause__
    if cause is None:
        return
    text = "".join(traceback.format_exception(cause)).rstrip()
    record = logging.LogRecord(__name__, logging.ERROR, __file__, 0, "%s\n%s", (error, text), None)
    for handler in logging.getLogger().handlers:
        if isinstance(handler, RunLog):
            handler.handle(record)
