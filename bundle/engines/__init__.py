"""Trainer, checkpoints, resume file, inference log, and the messages at the end of a run."""

from bundle.engines.config_check import check_config
from bundle.engines.error_summary import install_exception_hooks
from bundle.engines.evaluation_files import EvaluationFiles
from bundle.engines.file_writers import WholePictureWriter, save_whole, tensorboard_writer
from bundle.engines.inference_log import InferenceLog
from bundle.engines.model_file import BestModel, LastModel, ModelCheckpointLoader
from bundle.engines.model_json_reader import trained_model
from bundle.engines.model_json_writer import ModelDescription, SaveScores, data_facts
from bundle.engines.output_check import OutputCheck
from bundle.engines.parameter_groups import parameter_groups
from bundle.engines.predictor import Predictor
from bundle.engines.process_group import join_ranks, leave_ranks
from bundle.engines.resume_checkpoint import ResumeFile
from bundle.engines.run_summary import EvaluationSummary, TrainingSummary
from bundle.engines.slide_tasks import cohort
from bundle.engines.trainer import SemiSupervisedTrainer

__all__ = [
    "BestModel",
    "EvaluationFiles",
    "EvaluationSummary",
    "InferenceLog",
    "LastModel",
    "ModelCheckpointLoader",
    "ModelDescription",
    "OutputCheck",
    "Predictor",
    "ResumeFile",
    "SaveScores",
    "SemiSupervisedTrainer",
    "TrainingSummary",
    "WholePictureWriter",
    "check_config",
    "cohort",
    "data_facts",
    "install_exception_hooks",
    "join_ranks",
    "leave_ranks",
    "parameter_groups",
    "save_whole",
    "tensorboard_writer",
    "trained_model",
]
