"""Reads the training that scripts/export_bundle.py exports: configs, overrides, scores and name."""

from scripts.exporting.trainings import OWN, paths_of, read_cell, title_of, training_arguments

__all__ = ["OWN", "paths_of", "read_cell", "title_of", "training_arguments"]
