"""Benchmark: cells of method, share of labels and seed, run under the same settings, with their provenance."""

from bundle.benchmark.budget import Budget, Length, Pace, length_of, read_budget, steps_within, whole_passes
from bundle.benchmark.cells import CELL_FORMAT, Cell
from bundle.benchmark.cli_overrides import settings_of
from bundle.benchmark.configs import differences, digest, evaluation_files, merged, overlay_files, resolved
from bundle.benchmark.files import OutputLock, move_aside, read_json, write_json
from bundle.benchmark.measure import RunMeasure
from bundle.benchmark.planning import Experiment
from bundle.benchmark.preflight import check_company, check_output, faults_of
from bundle.benchmark.probe import known_length, measured_length
from bundle.benchmark.progress import duration
from bundle.benchmark.provenance import code_state, processor, versions
from bundle.benchmark.runner import Runner, Slot, bundle_command

__all__ = [
    "CELL_FORMAT",
    "Budget",
    "Cell",
    "Experiment",
    "Length",
    "OutputLock",
    "Pace",
    "RunMeasure",
    "Runner",
    "Slot",
    "bundle_command",
    "check_company",
    "check_output",
    "code_state",
    "differences",
    "digest",
    "duration",
    "evaluation_files",
    "faults_of",
    "known_length",
    "length_of",
    "measured_length",
    "merged",
    "move_aside",
    "overlay_files",
    "processor",
    "read_budget",
    "read_json",
    "resolved",
    "settings_of",
    "steps_within",
    "versions",
    "whole_passes",
    "write_json",
]
