"""Watching it: Ignite handlers that show what the heads learn and what the lessons teach.

They change nothing in the training; each has ``attach(engine)`` and stands in a config as a literal dict.
"""

from bundle.handlers.montage import ValidationMontage
from bundle.handlers.progress import RunProgress
from bundle.handlers.tables import ScoreTables
from bundle.handlers.validation import LastValidation
from bundle.handlers.watch import WatchTeaching

__all__ = ["LastValidation", "RunProgress", "ScoreTables", "ValidationMontage", "WatchTeaching"]
