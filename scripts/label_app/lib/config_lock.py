"""Lock of the config parser of MONAI, which changes the path of modules and is for one thread at a time."""

from __future__ import annotations

import threading

PARSING = threading.RLock()
"""Held while a config is parsed, and during a prediction, which parses parts of its config when it needs them."""
