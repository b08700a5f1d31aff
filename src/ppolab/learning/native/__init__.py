"""The shipped networks, the objective and Adam in C++: the same mathematics without a cost per operation."""

from ppolab.learning.native.convolutions import use_native_convolutions
from ppolab.learning.native.policy import NativePolicy, native_policy
from ppolab.learning.native.ranks import RankWork, work_of
from ppolab.learning.native.recurrence import use_native_recurrence
from ppolab.learning.native.update import AdamState, NativeUpdate

__all__ = [
    "AdamState",
    "NativePolicy",
    "NativeUpdate",
    "RankWork",
    "native_policy",
    "use_native_convolutions",
    "use_native_recurrence",
    "work_of",
]
