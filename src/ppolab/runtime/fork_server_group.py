"""Put a fork server into a process group of its own; it imports this module first.

A signal to the sweep's group must not end the server before its runs have saved.
"""

import os

os.setpgid(0, 0)
