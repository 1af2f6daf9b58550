r"""Benchmark methods x label percentages x seeds under one protocol; a stopped run can be resumed.

    python scripts/benchmark.py --output runs/phantom --methods supervised semi_moe --labels 10 100 --size demo
    python scripts/benchmark.py --output runs/glas --data glas --dataset_dir DIR --methods supervised semi_moe \
        --labels 10 20 --budget 120minutes --devices cuda:0 cuda:1

A cell is one method, one label percentage and one seed. It is trained and evaluated in separate processes, and writes
cell.json, log.txt, models/, training/ and evaluation/ to OUTPUT/cells/METHOD-LABELS-seedSEED/. Repeat the command to
resume: finished cells are kept, and a stopped cell loses at most its last epoch. A cell of another configuration is
never overwritten; --force first moves it to OUTPUT/replaced/.

All cells make the same number of optimizer steps in the same number of epochs, without early stopping, and each keeps
the checkpoint that its protocol selects. Thus no method benefits from stopping late or from having more images, and
learning rates, ramps and validations have the same schedule. By default, an epoch has one step for each batch of the
labeled and unlabeled images together. All epochs are equally long, so steps are rounded up to a multiple of the epochs:
60steps in 25 epochs become 75. A budget in minutes is the training time of the slowest method; the speed is measured
once, the steps are rounded down, and the result is stored in OUTPUT/lengths.json.

With --engine ray the processes run on the machines of a Ray cluster (docs/performance.md).
"""

from __future__ import annotations

import argparse
import logging
import os
import re
import signal
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parents[1]
sys.path.insert(0, str(ROOT))

from scripts.interruption import end_without_traceback

end_without_traceback()

import yaml

LISTS = {"authors": "authors"}
"""Protocol -> prefix of its data lists, if that is not `heldout`."""


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the program. Exit codes: 0 success, 1 error or failed cell, 2 invalid command line, 130 interrupted."""
    parser = _parser()
    options = parser.parse_args(arguments)
    try:
        _check(options)
    except ValueError as error:
        parser.error(str(error))
    before = signal.signal(signal.SIGTERM, _interrupt)
    try:
        return run(options)
    except (OSError, ValueError) as error:
        print(f"benchmark: {_sentence(error)}", file=sys.stderr)
        return 1
    except KeyboardInterrupt:
        print("\nbenchmark: stopped, with all its processes; repeat the command to resume", file=sys.stderr)
        return 130
    finally:
        signal.signal(signal.SIGTERM, before)


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    what = parser.add_argument_group("experiments (names of overlays in configs/)")
    what.add_argument("--methods", nargs="+", required=True, metavar="METHOD", help="names in configs/methods")
    what.add_argument("--labels", nargs="+", default=["10"], metavar="PERCENT", help="label percentages (default: 10)")
    what.add_argument("--seeds", nargs="+", type=int, default=[0, 1, 2], help="random seeds (default: 0 1 2)")
    what.add_argument("--protocol", default="heldout", help="name in configs/protocols (default: heldout)")
    what.add_argument("--data", default="phantom", help="name in configs/data (default: phantom)")
    what.add_argument(
        "--postprocessing",
        help="name in configs/postprocessing, for methods with the heads that it needs (default: as in evaluate.json)",
    )
    what.add_argument("--encoder", help="name in configs/encoders (default: as in train.json)")
    what.add_argument("--size", help="name in configs/sizes (default: widths of train.json)")
    what.add_argument("--annotation", help="name in configs/annotations (default: full annotation)")
    what.add_argument("--schedule", help="name in configs/schedules (default: as in train.json)")
    what.add_argument("--lists", help="prefix of the data lists (default: heldout; authors for protocol authors)")
    what.add_argument("--set", nargs="+", default=[], metavar="KEY=VALUE", dest="settings", help="other settings")
    what.add_argument("--budget", help="length of one training, such as 575steps or 10minutes (default: see above)")
    where = parser.add_argument_group("paths and devices")
    where.add_argument("--output", type=Path, required=True, help="output folder for cells and logs")
    where.add_argument("--dataset_dir", type=Path, default=ROOT / "dataset", help="data folder (default: dataset)")
    where.add_argument("--devices", nargs="+", help="cpu, or cuda:0 cuda:1 ... (default: cuda:0 if available, or cpu)")
    where.add_argument("--jobs", type=int, default=1, help="parallel cells per device (default: 1)")
    where.add_argument("--threads", type=int, help="threads per process (default: CPU cores divided by all jobs)")
    where.add_argument("--engine", choices=["local", "ray"], default="local", help="what runs cells (default: local)")
    where.add_argument("--address", help="HOST:PORT of a Ray cluster (default: auto, that of this machine)")
    how = parser.add_argument_group("execution")
    how.add_argument("--force", action="store_true", help="move cells of another configuration aside and rerun them")
    how.add_argument("--dry-run", action="store_true", help="print what would run, and exit")
    return parser


def _check(options: argparse.Namespace) -> None:
    """Check the command line and parse its budget, settings and paths.

    Raises:
        ValueError: if an option is invalid.
    """
    from scripts.benchmarking import check_options, check_output, evaluation_files, overlay_files, read_budget

    if os.name != "posix":
        raise ValueError("the benchmark needs Linux or macOS")
    for method in options.methods:
        files = overlay_files(ROOT, {"method": method, **axes(options)})
        evaluation_files(ROOT, files, options.postprocessing)
    for labels in options.labels:
        if not re.fullmatch(r"[0-9]+(\.[0-9]+)?", labels) or not 0 < float(labels) <= 100:
            raise ValueError(f"--labels {labels} must be a percentage above 0 and up to 100")
    if options.jobs < 1 or (options.threads is not None and options.threads < 1):
        raise ValueError("--jobs and --threads must be at least 1")
    check_options(options.engine, options.address, options.devices)
    options.budget = None if options.budget is None else read_budget(options.budget)
    options.overrides = dict(_setting(word) for word in options.settings)
    for name in ("methods", "labels", "seeds"):
        setattr(options, name, list(dict.fromkeys(getattr(options, name))))
    options.output = options.output.expanduser().absolute()
    options.dataset_dir = options.dataset_dir.expanduser().absolute()
    check_output(ROOT, options.output, options.dataset_dir)


def _setting(word: str) -> tuple[str, Any]:
    """Parse ``KEY=VALUE``; the value is YAML: a number, list, boolean or string."""
    key, equals, value = word.partition("=")
    if not equals or not key:
        raise ValueError(f"--set {word} must have the form KEY=VALUE")
    fixed = ("train#trainer#epoch_length", "train#early_stop#patience", "seed", "data_list", "resume", "output_dir")
    if key in (*fixed, "ckpt_dir", "dataset_dir", "device", "bundle_root"):
        raise ValueError(f"--set {key}: the benchmark sets this; use --budget, --seeds, --output or --devices")
    try:
        return key, yaml.safe_load(value)
    except yaml.YAMLError as error:
        raise ValueError(f"--set {word}: the value is not valid YAML") from error


def axes(options: argparse.Namespace) -> dict[str, str | None]:
    """Return the overlay of each axis except the method."""
    return {name: getattr(options, name) for name in ("data", "annotation", "encoder", "size", "schedule", "protocol")}


def run(options: argparse.Namespace) -> int:
    """Plan and check all cells, then run them."""
    from scripts.benchmarking import Experiment, OutputLock, Runner
    from scripts.reporting.definitions import protocol_note

    lists = options.lists or LISTS.get(options.protocol, "heldout")
    settings = (options.dataset_dir, axes(options), lists, options.overrides)
    budget = None if options.budget is None else str(options.budget)
    which = (options.methods, options.labels, options.seeds, options.postprocessing)
    experiment = Experiment(ROOT, options.output, *settings, *which, budget=budget)
    experiment.check_numbers()
    say("reading configs and data lists")
    logging.getLogger("bundle.data").setLevel(logging.ERROR)  # the log of each cell contains the warnings of its list
    if options.dry_run:
        return dry_run(experiment, options)
    with OutputLock(options.output) as lock:
        workers, children = engine_of(options, lock)
        length = length_of(experiment, options, workers[0], lock, children)
        if options.budget is not None:
            say(options.budget.comes_to(length))
        cells = experiment.cells(length)
        check_existing(cells, options)
        work = f"{len(cells)} cell{'s' * (len(cells) > 1)} of {cells[0].plan['steps']} steps ({cells[0].epochs} epochs)"
        say(f"{work}, data {options.data}, protocol {options.protocol}, {len(workers)} at once")
        interval = 60.0 if sys.stdout.isatty() else 300.0
        failures = Runner(ROOT, sys.executable, workers, lock, children, say, interval).run(cells)
    say(f"protocol {options.protocol}: {protocol_note(options.protocol)}")
    say(f"{len(cells) - len(failures)} of {len(cells)} cells are finished; results are in {options.output / 'cells'}")
    for name, reason in failures.items():
        log = options.output / "cells" / name / "log.txt"
        print(f"benchmark: {name} failed: {reason} (see {log})", file=sys.stderr)
    return 1 if failures else 0


def length_of(experiment: Any, options: argparse.Namespace, slot: Any, lock: Any, children: Any) -> Any:
    """Return the length of all trainings; a budget in minutes is measured unless an earlier run did so."""
    from scripts.benchmarking import known_length, measured_length

    budget = options.budget
    if budget is None or budget.unit == "steps":
        return experiment.length(budget)
    known = known_length(experiment, budget)
    if known is not None:
        return known
    say("measuring the speed of each method")
    return measured_length(experiment, budget, slot, sys.executable, lock, children, say)


def check_existing(cells: Sequence[Any], options: argparse.Namespace) -> None:
    """Move invalid cells aside with ``--force``, and warn of cells of another commit.

    Raises:
        ValueError: if cells are damaged or of another configuration, without ``--force``.
    """
    from scripts.benchmarking import check_company, faults_of, move_aside

    faults = faults_of(cells)
    if faults and not options.force:
        for fault in faults.values():
            print(f"benchmark: {fault}", file=sys.stderr)
        raise ValueError(
            f"{len(faults)} of {len(cells)} cells cannot be resumed, and nothing was run; use their settings, another "
            f"--output, or --force to move them to {options.output / 'replaced'} and rerun them"
        )
    check_company(cells, leaving=faults)
    for cell in cells:
        if cell.name in faults:
            say(f"{cell.name} was moved to {move_aside(cell.folder, options.output / 'replaced')}")
    others = [f"{cell.name} ({commit[:10]})" for cell in cells if (commit := cell.other_commit()) is not None]
    if others:
        print(f"benchmark: these cells were made with another commit: {', '.join(others)}", file=sys.stderr)


def dry_run(experiment: Any, options: argparse.Namespace) -> int:
    """Print what would run; nothing is written except the phantom on first use."""
    from scripts.benchmarking import Length, check_company, faults_of, known_length

    minutes = options.budget is not None and options.budget.unit == "minutes"
    length = known_length(experiment, options.budget) if minutes else experiment.length(options.budget)
    if length is None:
        say("the number of steps would be measured first")
    elif options.budget is not None:
        say(options.budget.comes_to(length))
    cells = experiment.cells(length or Length(1, 1))
    faults = faults_of(cells) if length is not None else {}
    for cell in cells:
        state = faults.get(cell.name) or (cell.standing() if length is not None else "to be planned")
        counts = ", ".join(f"{count} {part}" for part, count in cell.plan["counts"].items())
        steps = f"{cell.plan['steps']} steps; " if length is not None else ""
        say(f"{cell.name}: {state}; {steps}{cell.plan['data_list']}: {counts}")
    say(f"configs of the first cell: {', '.join(cells[0].plan['config']['files'])}")
    if length is not None:
        check_company(cells, leaving=faults)
    return 1 if faults else 0


def engine_of(options: argparse.Namespace, lock: Any) -> tuple[list[Any], Any]:
    """Return the slots that run cells and the engine that runs their processes."""
    from scripts.benchmarking import Children, Slot, connect

    if options.engine == "local":
        return slots(options), Children(lock.inherited)
    device = None if options.devices is None else options.devices[0]
    count, environment, tasks = connect(options.address or "auto", device, options.jobs, options.threads)
    return [Slot("Ray", environment)] * count, tasks


def slots(options: argparse.Namespace) -> list[Any]:
    """Return the slots that run cells: each device ``--jobs`` times, in turns."""
    import torch

    from scripts.benchmarking import Slot

    count = torch.cuda.device_count()
    devices = options.devices or ["cuda:0" if count else "cpu"]
    visible = [number for number in os.environ.get("CUDA_VISIBLE_DEVICES", "").split(",") if number]
    visible = visible or [str(number) for number in range(count)]
    cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
    threads = options.threads or max(1, cores // (len(devices) * options.jobs))
    per_device = []
    for device in devices:
        kind, _, number = device.partition(":")
        if device != "cpu" and (kind != "cuda" or not number.isdigit() or int(number) >= count):
            raise ValueError(
                f"device {device!r} is not available; use cpu or one of {count} CUDA devices (cuda:0, ...)"
            )
        own = {"CUDA_VISIBLE_DEVICES": "" if device == "cpu" else visible[int(number)], "OMP_NUM_THREADS": str(threads)}
        per_device.append(Slot(device, {**os.environ, **own}))
    return per_device * options.jobs


def say(line: str) -> None:
    """Print a progress message."""
    print(line, flush=True)


def _sentence(error: Exception) -> str:
    if isinstance(error, OSError) and error.strerror:
        return f"{error.strerror}: {error.filename}; check that it exists and can be read and written"
    return " ".join(str(error).split())


def _interrupt(*_: object) -> None:
    raise KeyboardInterrupt


if __name__ == "__main__":
    sys.exit(main())
