"""Benchmark: cells of method, share of labels and seed, run under the same settings, with their provenance."""

from scripts.benchmarking.budget import Budget, Length, Pace, length_of, read_budget, steps_within, whole_passes
from scripts.benchmarking.cells import CELL_FORMAT, Cell
from scripts.benchmarking.cli_overrides import settings_of
from scripts.benchmarking.cluster import check_options, connect
from scripts.benchmarking.configs import differences, digest, evaluation_files, merged, overlay_files, resolved
from scripts.benchmarking.files import OutputLock, move_aside, read_json, write_json
from scripts.benchmarking.measure import RunMeasure
from scripts.benchmarking.planning import Experiment
from scripts.benchmarking.preflight import check_company, check_output, faults_of
from scripts.benchmarking.probe import known_length, measured_length
from scripts.benchmarking.processes import Children
from scripts.benchmarking.progress import duration
from scripts.benchmarking.provenance import code_state, processor, versions
from scripts.benchmarking.runner import Runner, Slot, bundle_command

__all__ = [
    "CELL_FORMAT",
    "Budget",
    "Cell",
    "Children",
    "Experiment",
    "Length",
    "OutputLock",
    "Pace",
    "RunMeasure",
    "Runner",
    "Slot",
    "bundle_command",
    "check_company",
    "check_options",
    "check_output",
    "code_state",
    "connect",
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
