r"""The benchmark: methods x shares of labels x seeds under one protocol, from one command that can be stopped.

    python scripts/benchmark.py --output runs/phantom --methods supervised semi_moe --labels 10 100 --size demo
    python scripts/benchmark.py --output runs/glas --data glas --dataset_dir DIR --methods supervised semi_moe \
        --labels 10 20 --budget 120minutes --devices cuda:0 cuda:1

A cell is one method, one share of labels and one seed. It trains and is evaluated in processes of its own, and leaves
OUTPUT/cells/METHOD-LABELS-seedSEED/ with cell.json, log.txt, models/, training/ and evaluation/. The same command again
goes on: finished cells stay as they are, a stopped one loses at most its last epoch. A cell of another configuration is
never overwritten: --force moves it to OUTPUT/replaced/ first.

All cells make the same number of optimizer steps in the same number of epochs, without early stopping, and each keeps
the checkpoint that its protocol chooses. So no method gains by stopping late or by having more images to run through,
and learning rates, ramps and validations follow the same clock. Without --budget an epoch has as many steps as labeled
and unlabeled images together make batches. All epochs are equally long, so steps are rounded up to a multiple of the
epochs: 60steps in 25 epochs come to 75. A budget in minutes is that of one training of the slowest method; it is
measured once, rounded down, and kept in OUTPUT/lengths.json.
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

import yaml

ROOT = Path(__file__).resolve().parents[1]
sys.path.insert(0, str(ROOT))

LISTS = {"authors": "authors"}
"""Protocol -> how the names of its data lists begin, where that is not `heldout`."""


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the benchmark; 0 is good, 1 an error or a failed cell, 2 a wrong command line, 130 stopped."""
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
        print("\nbenchmark: stopped, and all processes with it; the same command goes on from here", file=sys.stderr)
        return 130
    finally:
        signal.signal(signal.SIGTERM, before)


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    what = parser.add_argument_group("what is run (names of overlays in configs/)")
    what.add_argument("--methods", nargs="+", required=True, metavar="METHOD", help="configs/methods")
    what.add_argument("--labels", nargs="+", default=["10"], metavar="PERCENT", help="shares of labels (default 10)")
    what.add_argument("--seeds", nargs="+", type=int, default=[0, 1, 2], help="of draw and training (default 0 1 2)")
    what.add_argument("--protocol", default="heldout", help="configs/protocols (default heldout)")
    what.add_argument("--data", default="phantom", help="configs/data (default phantom)")
    what.add_argument(
        "--postprocessing", help="configs/postprocessing, for methods that have its heads (default: evaluate.json's)"
    )
    what.add_argument("--encoder", help="configs/encoders (default: the plain one of a U-Net)")
    what.add_argument("--size", help="configs/sizes (default: the widths of train.json)")
    what.add_argument("--annotation", help="configs/annotations (default: labeled images are annotated whole)")
    what.add_argument("--schedule", help="configs/schedules (default: that of train.json)")
    what.add_argument("--lists", help="how names of data lists begin (default heldout, or authors under authors)")
    what.add_argument("--set", nargs="+", default=[], metavar="KEY=VALUE", dest="settings", help="other settings")
    what.add_argument("--budget", help="of one training, such as 575steps or 10minutes (default: see above)")
    where = parser.add_argument_group("where")
    where.add_argument("--output", type=Path, required=True, help="folder of cells and logs")
    where.add_argument("--dataset_dir", type=Path, default=ROOT / "dataset", help="of the data (default dataset)")
    where.add_argument("--devices", nargs="+", help="cpu, or cuda:0 cuda:1 ... (default: cuda:0 if there, else cpu)")
    where.add_argument("--jobs", type=int, default=1, help="cells at once on each device (default 1)")
    where.add_argument("--threads", type=int, help="threads of each process (default: the CPUs divided by all jobs)")
    how = parser.add_argument_group("how")
    how.add_argument("--force", action="store_true", help="move cells of another configuration aside and run them")
    how.add_argument("--dry-run", action="store_true", help="say what would be run, and stop")
    return parser


def _check(options: argparse.Namespace) -> None:
    """Refuse a command line that cannot be meant; bring texts into their form."""
    from bundle.benchmark import check_output, evaluation_files, overlay_files, read_budget

    if os.name != "posix":
        raise ValueError("the benchmark needs Linux or macOS")
    for method in options.methods:
        files = overlay_files(ROOT, {"method": method, **axes(options)})
        evaluation_files(ROOT, files, options.postprocessing)
    for labels in options.labels:
        if not re.fullmatch(r"[0-9]+(\.[0-9]+)?", labels) or not 0 < float(labels) <= 100:
            raise ValueError(f"--labels {labels} is no percentage above 0 and up to 100")
    if options.jobs < 1 or (options.threads is not None and options.threads < 1):
        raise ValueError("--jobs and --threads are at least 1")
    options.budget = None if options.budget is None else read_budget(options.budget)
    options.overrides = dict(_setting(word) for word in options.settings)
    for name in ("methods", "labels", "seeds"):
        setattr(options, name, list(dict.fromkeys(getattr(options, name))))
    options.output = options.output.expanduser().absolute()
    options.dataset_dir = options.dataset_dir.expanduser().absolute()
    check_output(ROOT, options.output, options.dataset_dir)


def _setting(word: str) -> tuple[str, Any]:
    """``KEY=VALUE``, the value read as YAML: numbers, lists, true and false."""
    key, equals, value = word.partition("=")
    if not equals or not key:
        raise ValueError(f"--set {word} is no KEY=VALUE")
    fixed = ("seed", "data_list", "epoch_length", "patience", "resume", "output_dir", "ckpt_dir")
    if key in (*fixed, "dataset_dir", "device", "bundle_root"):
        raise ValueError(f"--set {key}: the benchmark sets that itself; see --budget, --seeds, --output, --devices")
    try:
        return key, yaml.safe_load(value)
    except yaml.YAMLError as error:
        raise ValueError(f"--set {word}: the value cannot be read") from error


def axes(options: argparse.Namespace) -> dict[str, str | None]:
    """Overlay of each axis but the method."""
    return {name: getattr(options, name) for name in ("data", "annotation", "encoder", "size", "schedule", "protocol")}


def run(options: argparse.Namespace) -> int:
    """Plan all cells, refuse what cannot be run before anything runs, then run them."""
    from bundle.benchmark import Experiment, OutputLock, Runner
    from bundle.report import protocol_note

    lists = options.lists or LISTS.get(options.protocol, "heldout")
    settings = (options.dataset_dir, axes(options), lists, options.overrides)
    asked = None if options.budget is None else str(options.budget)
    which = (options.methods, options.labels, options.seeds, options.postprocessing)
    experiment = Experiment(ROOT, options.output, *settings, *which, budget=asked)
    experiment.check_numbers()
    say("reading configs and data lists")
    logging.getLogger("bundle.data").setLevel(logging.ERROR)  # the log of each cell has the warnings of its list
    if options.dry_run:
        return dry_run(experiment, options)
    with OutputLock(options.output) as lock:
        places = slots(options)
        length = length_of(experiment, options, places[0], lock)
        if options.budget is not None:
            say(options.budget.comes_to(length))
        cells = experiment.cells(length)
        make_room(cells, options)
        what = f"{len(cells)} cell{'s' * (len(cells) > 1)} of {cells[0].plan['steps']} steps ({cells[0].epochs} epochs)"
        say(f"{what}, data {options.data}, protocol {options.protocol}, on {len(places)} places")
        interval = 60.0 if sys.stdout.isatty() else 300.0
        failures = Runner(ROOT, sys.executable, places, lock, say, interval).run(cells)
    say(f"protocol {options.protocol}: {protocol_note(options.protocol)}")
    say(f"{len(cells) - len(failures)} of {len(cells)} cells are finished, in {options.output / 'cells'}")
    for name, reason in failures.items():
        log = options.output / "cells" / name / "log.txt"
        print(f"benchmark: {name} failed: {reason} (log: {log})", file=sys.stderr)
    return 1 if failures else 0


def length_of(experiment: Any, options: argparse.Namespace, slot: Any, lock: Any) -> Any:
    """Length of all trainings; a budget in minutes is measured where no earlier run did."""
    from bundle.benchmark import known_length, measured_length

    budget = options.budget
    if budget is None or budget.unit == "steps":
        return experiment.length(budget)
    known = known_length(experiment, budget)
    if known is not None:
        return known
    say("measuring how fast each method is")
    return measured_length(experiment, budget, slot, sys.executable, lock, say)


def make_room(cells: Sequence[Any], options: argparse.Namespace) -> None:
    """Refuse cells of another configuration and damaged ones, all at once, or move them aside; warn of other code."""
    from bundle.benchmark import check_company, faults_of, move_aside

    faults = faults_of(cells)
    if faults and not options.force:
        for fault in faults.values():
            print(f"benchmark: {fault}", file=sys.stderr)
        raise ValueError(
            f"{len(faults)} of {len(cells)} cells are in the way, and nothing was run; give the settings of then, "
            f"another --output, or --force, which moves them to {options.output / 'replaced'} and runs them anew"
        )
    check_company(cells, leaving=faults)
    for cell in cells:
        if cell.name in faults:
            say(f"{cell.name} was moved to {move_aside(cell.folder, options.output / 'replaced')}")
    others = [f"{cell.name} ({commit[:10]})" for cell in cells if (commit := cell.other_commit()) is not None]
    if others:
        print(f"benchmark: made by another commit of the code: {', '.join(others)}", file=sys.stderr)


def dry_run(experiment: Any, options: argparse.Namespace) -> int:
    """Say what would be run; writes nothing but data that are drawn on first use."""
    from bundle.benchmark import Length, check_company, faults_of, known_length

    minutes = options.budget is not None and options.budget.unit == "minutes"
    length = known_length(experiment, options.budget) if minutes else experiment.length(options.budget)
    if length is None:
        say("the steps would be measured first")
    elif options.budget is not None:
        say(options.budget.comes_to(length))
    cells = experiment.cells(length or Length(1, 1))
    faults = faults_of(cells) if length is not None else {}
    for cell in cells:
        state = faults.get(cell.name) or (cell.standing() if length is not None else "to be planned")
        counts = ", ".join(f"{count} {part}" for part, count in cell.plan["counts"].items())
        steps = f"{cell.plan['steps']} steps; " if length is not None else ""
        say(f"{cell.name}: {state}; {steps}{cell.plan['data_list']}: {counts}")
    say(f"configs of the first: {', '.join(cells[0].plan['config']['files'])}")
    if length is not None:
        check_company(cells, leaving=faults)
    return 1 if faults else 0


def slots(options: argparse.Namespace) -> list[Any]:
    """Places to run: each device as often as there are jobs, one of each device first."""
    import torch

    from bundle.benchmark import Slot

    count = torch.cuda.device_count()
    devices = options.devices or ["cuda:0" if count else "cpu"]
    visible = [number for number in os.environ.get("CUDA_VISIBLE_DEVICES", "").split(",") if number]
    visible = visible or [str(number) for number in range(count)]
    cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
    threads = options.threads or max(1, cores // (len(devices) * options.jobs))
    found = []
    for device in devices:
        kind, _, number = device.partition(":")
        if device != "cpu" and (kind != "cuda" or not number.isdigit() or int(number) >= count):
            raise ValueError(f"no device {device!r} here; there are cpu and {count} CUDA devices (cuda:0, ...)")
        own = {"CUDA_VISIBLE_DEVICES": "" if device == "cpu" else visible[int(number)], "OMP_NUM_THREADS": str(threads)}
        found.append(Slot(device, {**os.environ, **own}))
    return found * options.jobs


def say(line: str) -> None:
    """A line of progress."""
    print(line, flush=True)


def _sentence(error: Exception) -> str:
    if isinstance(error, OSError) and error.strerror:
        return f"{error.strerror}: {error.filename}; give folders that can be read and written"
    return " ".join(str(error).split())


def _interrupt(*_: object) -> None:
    raise KeyboardInterrupt


if __name__ == "__main__":
    sys.exit(main())
