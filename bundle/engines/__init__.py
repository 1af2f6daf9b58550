"""The trainer, what carries it over a restart, and how a run ends that fails."""

from bundle.engines.checkpoint import BestModel, LastModel, ModelCheckpointLoader
from bundle.engines.ending import end_clearly
from bundle.engines.files import WholePictureWriter, check_writable, save_whole
from bundle.engines.journal import PredictionJournal
from bundle.engines.predictor import Predictor
from bundle.engines.ranks import join_ranks, leave_ranks
from bundle.engines.resume import ResumeFile
from bundle.engines.trainer import SemiSupervisedTrainer

__all__ = [
    "BestModel",
    "LastModel",
    "ModelCheckpointLoader",
    "PredictionJournal",
    "Predictor",
    "ResumeFile",
    "SemiSupervisedTrainer",
    "WholePictureWriter",
    "check_writable",
    "end_clearly",
    "join_ranks",
    "leave_ranks",
    "save_whole",
]
