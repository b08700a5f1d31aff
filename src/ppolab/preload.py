"""What every run imports; a fork server imports this once, and each of its runs starts without importing anything."""

import ppolab.experiment
import ppolab.gradient
import ppolab.native
import ppolab.study  # noqa: F401
