"""The trainer, and what carries it over a restart."""

from bundle.engines.checkpoint import BestModel, ResumeFile, save_whole
from bundle.engines.trainer import SemiSupervisedTrainer

__all__ = ["BestModel", "ResumeFile", "SemiSupervisedTrainer", "save_whole"]
