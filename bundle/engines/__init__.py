"""The trainer, and what carries it over a restart."""

from bundle.engines.checkpoint import BestModel, LastModel, ResumeFile, save_whole
from bundle.engines.trainer import SemiSupervisedTrainer

__all__ = ["BestModel", "LastModel", "ResumeFile", "SemiSupervisedTrainer", "save_whole"]
