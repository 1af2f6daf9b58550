"""Lock of the config parser of MONAI, which changes the module path and is not thread-safe."""

from __future__ import annotations

import threading

PARSING = threading.RLock()
"""Held while a config is parsed, and during a prediction, which parses parts of its config when it needs them."""
