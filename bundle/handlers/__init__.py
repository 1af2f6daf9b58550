"""Ignite handlers: progress, training log, montages, score tables, and the copies of the network used as teachers.

None of them changes the trained network; moving average and snapshot are separate networks.
"""

from bundle.handlers.montage import ValidationMontage
from bundle.handlers.moving_average import MovingAverage
from bundle.handlers.progress import RunProgress
from bundle.handlers.progress_file import ProgressFile
from bundle.handlers.snapshot import GrowingSnapshot
from bundle.handlers.tables import ScoreTables
from bundle.handlers.training_log import TrainingLog
from bundle.handlers.validation import LastValidation

__all__ = [
    "GrowingSnapshot",
    "LastValidation",
    "MovingAverage",
    "ProgressFile",
    "RunProgress",
    "ScoreTables",
    "TrainingLog",
    "ValidationMontage",
]
