"""Prepare a data folder with images, masks and data lists, or check a data list.

Run: python scripts/prepare_data.py folder --images DIR [--masks DIR] --output DIR [--labeled 10% 20%] [--seeds 0 1 2]
     python scripts/prepare_data.py crag --source DIR --output DIR
     python scripts/prepare_data.py glas --source DIR --output DIR [--mpp 0.62]
     python scripts/prepare_data.py phantom --output DIR [--seed 0]
     python scripts/prepare_data.py check LIST [--json FILE] [--sheet FILE.png] [--classes N] [--workers 2]
"""

from __future__ import annotations

import argparse
import errno
import re
import shlex
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parents[1]
sys.path.insert(0, str(ROOT))

from scripts.interruption import end_without_traceback

end_without_traceback()

from scripts.dataset_check.command import add_check
from scripts.dataset_check.progress import Bar

DEFAULT_LIST = "heldout_10_seed0.json"
"""Default data list of ``configs/train.json``."""


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the program. Exit codes: 0 success, 1 error, 2 invalid command line, 130 interrupted."""
    options = _parser().parse_args(arguments)
    try:
        output = getattr(options, "output", None)
        if output and re.search("#|::", str(Path(output).expanduser().absolute())):
            raise ValueError(f"the path of --output {output} holds #, which MONAI reads as a separator; give another")
        options.run(options)
    except (OSError, ValueError) as error:
        print(f"prepare_data: {_sentence(error)}", file=sys.stderr)
        return 1
    except KeyboardInterrupt:
        print("prepare_data: stopped; nothing was written", file=sys.stderr)
        return 130
    return 0


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(description="Prepare a data folder (images, masks and data lists), or check one.")
    sources = parser.add_subparsers(title="sources", required=True, metavar="SOURCE")
    for add in (add_folder, add_glas, add_crag, add_phantom, add_check):
        add(sources)
    return parser


def add_folder(sources: Any) -> None:
    """Add the subcommand ``folder``."""
    folder = sources.add_parser(
        "folder",
        help="your own images and masks",
        description="Prepare your own images and masks: PNG, JPEG, BMP, TIFF or NIfTI.",
    )
    add = folder.add_argument
    add("--images", required=True, metavar="DIR", help="images, also in folders inside; without a mask: unlabeled")
    add("--masks", metavar="DIR", help="masks (default: among images, or in folders like label inside)")
    add("--output", required=True, metavar="DIR", help="output folder; must be new or empty")
    add("--mask-suffix", default="", metavar="TEXT", help="suffix of mask names, for example _mask (default: none)")
    add("--table", metavar="CSV", help="metadata: column image, and any of patient, grade, domain, mpp")
    add(
        "--classes",
        nargs="+",
        metavar="CLASS",
        help="number of classes including background, or class names, background first (default: gland masks)",
    )
    coding = folder.add_mutually_exclusive_group()
    coding.add_argument("--threshold", type=float, metavar="N", help="mask values above it are 1, others 0")
    coding.add_argument(
        "--colors",
        nargs="+",
        type=_color,
        metavar="R,G,B=VALUE",
        help="values of the colors of masks, for example 0,0,0=0 255,0,0=1; others are an error",
    )
    add("--axis", type=int, choices=(0, 1, 2), help="slice NIfTI volumes along this axis")
    add("--mpp", type=float, metavar="UM", help="pixel size, um/px (default: unknown; images are not resampled)")
    add(
        "--labeled",
        nargs="+",
        type=_amount,
        default=["100%"],
        metavar="AMOUNT",
        help="labeled images among the training images with a mask, such as 10%% or 7; one list for each (default: "
        "100%%)",
    )
    add("--seeds", nargs="+", type=int, default=[0], metavar="N", help="seeds of the labeled subsets (default: 0)")
    add("--validation", type=_amount, default="20%", metavar="AMOUNT", help="validation images (default: 20%%)")
    add("--test", type=_amount, default="20%", metavar="AMOUNT", help="test images (default: 20%%)")
    add("--folds", type=int, default=0, metavar="N", help="also write lists for patient-level cross-validation")
    folder.set_defaults(run=run_folder)


def run_folder(options: argparse.Namespace) -> None:
    """Prepare the user's own images and masks."""
    from bundle.data.image_io.conversion import MaskCoding
    from scripts.data_preparation.folder import (  # imported here, so that --help does not import torch
        class_names,
        prepare_folder,
    )
    from scripts.data_preparation.split_plan import Plan

    coding = None
    if options.threshold is not None or options.colors:
        colors = dict(options.colors or [])
        if len(colors) < len(options.colors or []):
            raise ValueError("--colors gives a color twice; give each color one value")
        coding = MaskCoding(options.threshold, colors or None)
    plan = Plan(options.labeled, options.seeds, options.validation, options.test, options.folds)
    with Bar("folder") as progress:
        prepared = prepare_folder(
            options.images,
            options.output,
            masks=options.masks,
            mask_suffix=options.mask_suffix,
            table=options.table,
            classes=class_names(options.classes) if options.classes else (),
            axis=options.axis,
            mpp=options.mpp,
            plan=plan,
            progress=progress,
            coding=coding,
        )
    for note in prepared.notes:
        print(f"Note: {note}.")
    for name, parts in prepared.lists.items():
        print(f"{name}: {', '.join(f'{count} {part}' for part, count in parts.items())}")
    classes = len(class_names(options.classes)) if options.classes else 2
    _print_command(options.output, list(prepared.lists), "folder" if classes == 2 else "folder_classes", classes)


def add_glas(sources: Any) -> None:
    """Add the subcommand ``glas``."""
    glas = sources.add_parser("glas", help="the downloaded GlaS (Warwick-QU) dataset")
    glas.add_argument("--source", required=True, help="folder with train_1.bmp (or .png), ... and Grade.csv")
    glas.add_argument("--output", required=True, help="output folder; must be new or empty")
    glas.add_argument(
        "--mpp", type=float, default=0.62, help="pixel size, um/px (default: 0.62; some papers use 0.465)"
    )
    glas.set_defaults(run=run_glas)


def run_glas(options: argparse.Namespace) -> None:
    """Prepare the downloaded GlaS dataset."""
    from scripts.data_preparation.glas import (  # imported here, so that --help does not import torch
        LICENSE,
        prepare_glas,
    )

    with Bar("GlaS") as progress:
        lists = prepare_glas(options.source, options.output, options.mpp, progress)
    print(LICENSE)
    _print_command(options.output, lists, "glas")


def add_crag(sources: Any) -> None:
    """Add the subcommand ``crag``."""
    crag = sources.add_parser("crag", help="the downloaded CRAG dataset")
    crag.add_argument("--source", required=True, help="folder with train/Images, train/Annotation, valid/...")
    crag.add_argument("--output", required=True, help="output folder; must be new or empty")
    crag.add_argument("--mpp", type=float, default=0.55, help="pixel size, um/px (default: 0.55)")
    crag.set_defaults(run=run_crag)


def run_crag(options: argparse.Namespace) -> None:
    """Prepare the downloaded CRAG dataset."""
    from scripts.data_preparation.crag import LICENSE, PATIENTS, prepare_crag

    with Bar("CRAG") as progress:
        lists = prepare_crag(options.source, options.output, options.mpp, progress)
    print(LICENSE)
    print(PATIENTS)
    _print_command(options.output, lists, "crag")


def add_phantom(sources: Any) -> None:
    """Add the subcommand ``phantom``."""
    phantom = sources.add_parser("phantom", help="synthetic images of glands; no download needed")
    phantom.add_argument("--output", required=True, help="output folder; new, empty, or with the same phantom")
    phantom.add_argument("--seed", type=int, default=0, help="seed of the images (default: 0)")
    phantom.set_defaults(run=run_phantom)


def run_phantom(options: argparse.Namespace) -> None:
    """Draw the phantom."""
    from bundle.data.phantom import write_phantom

    print("drawing 160 tiles, which takes some seconds", file=sys.stderr)
    write_phantom(options.output, seed=options.seed)
    lists = sorted(file.name for file in Path(options.output).expanduser().glob("heldout_*.json"))
    _print_command(options.output, lists, "phantom")


def _amount(text: str) -> str:
    """Parse a percentage or a number of images."""
    if not re.fullmatch(r"\d+(\.\d+)?%|\d+", text):
        raise argparse.ArgumentTypeError(f"{text!r} is not an amount; write a percentage (20%) or a number (12)")
    return text


def _color(text: str) -> tuple[tuple[int, int, int], int]:
    """Parse a color and its value."""
    match = re.fullmatch(r"(\d{1,3}),(\d{1,3}),(\d{1,3})=(\d{1,3})", text)
    if match is None or max(numbers := [int(number) for number in match.groups()]) > 255:
        raise argparse.ArgumentTypeError(f"{text!r} is not RED,GREEN,BLUE=VALUE with numbers up to 255")
    return (numbers[0], numbers[1], numbers[2]), numbers[3]


def _print_command(output: str, lists: Sequence[str], name: str, classes: int = 2) -> None:
    """Print the command for training; ``name`` is the overlay in ``configs/data``."""
    folder = shlex.quote(str(Path(output).expanduser().absolute()))
    configs = f"\"['configs/train.json','configs/data/{name}.yaml']\""
    data_list = DEFAULT_LIST if DEFAULT_LIST in lists else lists[0]
    target = f"{folder} --classes {classes}" if classes > 2 else folder
    command = f"python -m monai.bundle run training --config_file {configs} --dataset_dir {target}"
    which = f"one of {len(lists)} data lists" if len(lists) > 1 else "the only data list"
    print(f"To train on {data_list}, {which} in {folder}, run in the root of the repository:")
    print(command if data_list == DEFAULT_LIST else f"{command} --data_list {data_list}")


def _sentence(error: Exception) -> str:
    if isinstance(error, OSError) and error.strerror:
        full = error.errno in (errno.ENOSPC, errno.EDQUOT, errno.EFBIG)
        advice = "free disk space, or write to another disk" if full else "check that it is readable and writable"
        return f"{error.strerror}{f': {error.filename}' if error.filename else ''}; {advice}"
    return " ".join(str(error).split())


if __name__ == "__main__":
    sys.exit(main())
