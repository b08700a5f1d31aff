"""rliable, against which the statistics are tested.

Of the package arch it needs the bootstrap alone. The rest of arch 7, the newest that rliable takes, cannot be imported
beside pandas 3; so arch is imported as a bare package, without what its own `__init__` would import.
"""

from __future__ import annotations

import importlib.util
import sys
import types

import pytest

if "arch" not in sys.modules:
    found = importlib.util.find_spec("arch")
    if found is None or found.submodule_search_locations is None:
        pytest.skip("rliable is not installed", allow_module_level=True)
    bare = types.ModuleType("arch")
    bare.__path__ = list(found.submodule_search_locations)
    sys.modules["arch"] = bare
library = pytest.importorskip("rliable.library")
metrics = pytest.importorskip("rliable.metrics")
