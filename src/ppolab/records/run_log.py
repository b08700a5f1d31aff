"""How messages reach the terminal and the file of a run; conf/hydra/job_logging names these classes."""

from __future__ import annotations

import contextlib
import logging
from pathlib import Path

from ppolab.redaction import redact


class Redacted(logging.Formatter):
    """Hides the credentials of URIs, also in what other packages tell."""

    def format(self, record: logging.LogRecord) -> str:
        """The message, redacted."""
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
