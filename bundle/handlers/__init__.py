"""Ignite handlers: progress, training log, montages, score tables, and the copies of the network used as teachers.

None of them changes the trained network; moving average and snapshot are separate networks.
"""

from bundle.handlers.early_stop import EarlyStop
from bundle.handlers.last_validation import LastValidation
from bundle.handlers.montage import ValidationMontage
from bundle.handlers.moving_average import MovingAverage
from bundle.handlers.network_snapshot import GrowingSnapshot
from bundle.handlers.progress_bar import RunProgress
from bundle.handlers.progress_json import ProgressFile
from bundle.handlers.score_tables import ScoreTables
from bundle.handlers.time_limit import TimeLimit
from bundle.handlers.training_log import TrainingLog

__all__ = [
    "EarlyStop",
    "GrowingSnapshot",
    "LastValidation",
    "MovingAverage",
    "ProgressFile",
    "RunProgress",
    "ScoreTables",
    "TimeLimit",
    "TrainingLog",
    "ValidationMontage",
]
