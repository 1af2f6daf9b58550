"""What scripts/export_bundle.py knows of the training that it exports: configs, overrides, scores and name."""

from scripts.exporting.trainings import OWN, paths_of, read_cell, title_of, training_arguments

__all__ = ["OWN", "paths_of", "read_cell", "title_of", "training_arguments"]
