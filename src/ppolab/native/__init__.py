"""The shipped networks, the objective and Adam in C++: the same mathematics without a cost per operation."""

from ppolab.native.policy import AdamState, NativePolicy, native_policy

__all__ = ["AdamState", "NativePolicy", "native_policy"]
