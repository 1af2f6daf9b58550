"""Program that makes a data folder: pictures, masks and data lists; and checks one.

Run: python scripts/prepare_data.py folder --images DIR --masks DIR --output DIR [--labeled 10% 20%] [--seeds 0 1 2]
     python scripts/prepare_data.py crag --source DIR --output DIR
     python scripts/prepare_data.py glas --source DIR --output DIR [--mpp 0.62]
     python scripts/prepare_data.py phantom --output DIR [--seed 0]
     python scripts/prepare_data.py check LIST [--json FILE] [--sheet FILE.png] [--classes N] [--workers 2]

A subcommand is two functions: ``add_NAME`` says what may be given, ``run_NAME`` does it.
"""

from __future__ import annotations

import argparse
import errno
import io
import json
import re
import shlex
import sys
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

from tqdm import tqdm

ROOT = Path(__file__).resolve().parents[1]
sys.path.insert(0, str(ROOT))

DEFAULT_LIST = "heldout_10_seed0.json"
"""The list that ``configs/train.json`` takes where none is given."""


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the program; 0 is good, 1 an error that the last line explains, 2 a wrong command line."""
    options = _parser().parse_args(arguments)
    try:
        options.run(options)
    except (OSError, ValueError) as error:
        print(f"prepare_data: {_sentence(error)}", file=sys.stderr)
        return 1
    except KeyboardInterrupt:
        print("prepare_data: stopped; nothing is left behind", file=sys.stderr)
        return 130
    return 0


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(description="Make a data folder (pictures, masks and data lists), or check one.")
    sources = parser.add_subparsers(title="sources", required=True, metavar="SOURCE")
    for add in (add_folder, add_glas, add_crag, add_phantom, add_check):
        add(sources)
    return parser


def add_folder(sources: Any) -> None:
    """Add the subcommand ``folder``."""
    folder = sources.add_parser(
        "folder",
        help="images and masks of your own",
        description="Make a data folder of images and masks of your own: PNG, JPEG, BMP, TIFF or NIfTI.",
    )
    add = folder.add_argument
    add("--images", required=True, metavar="DIR", help="folder of images; those without a mask are unlabeled")
    add("--masks", metavar="DIR", help="folder of masks (default: they lie among the images)")
    add("--output", required=True, metavar="DIR", help="folder to make; must be new or empty")
    add(
        "--mask-suffix",
        default="",
        metavar="TEXT",
        help="what names of masks end in, for instance _mask (default: none)",
    )
    add("--table", metavar="CSV", help="what is known: columns image and any of patient, grade, domain, mpp")
    add(
        "--classes",
        nargs="+",
        metavar="CLASS",
        help="number of classes, background included, or their names, background first (default: masks show glands)",
    )
    add("--axis", type=int, choices=(0, 1, 2), help="cut NIfTI volumes into slices along this axis")
    add("--mpp", type=float, metavar="UM", help="width of a pixel in um (default: not known, images keep their size)")
    add(
        "--labeled",
        nargs="+",
        type=_amount,
        default=["100%"],
        metavar="AMOUNT",
        help="how many of the images with a mask that are not held out are labeled, one list each: 10%% or 7 "
        "(default 100%%)",
    )
    add("--seeds", nargs="+", type=int, default=[0], metavar="N", help="seeds of the labeled draws (default 0)")
    add("--validation", type=_amount, default="20%", metavar="AMOUNT", help="held out to choose a model (default 20%%)")
    add("--test", type=_amount, default="20%", metavar="AMOUNT", help="held out for the final scores (default 20%%)")
    add("--folds", type=int, default=0, metavar="N", help="also lists that cross-validate by patient (default none)")
    folder.set_defaults(run=run_folder)


def run_folder(options: argparse.Namespace) -> None:
    """Prepare a folder of one's own; reads all that ``add_folder`` names."""
    from bundle.data.folder import class_names, prepare_folder  # here, so that --help need not wait for torch
    from bundle.data.plans import Plan

    plan = Plan(options.labeled, options.seeds, options.validation, options.test, options.folds)
    with Bar("folder") as progress:
        made = prepare_folder(
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
        )
    for note in made.notes:
        print(f"Note: {note}.")
    for name, parts in made.lists.items():
        print(f"{name}: {', '.join(f'{count} {part}' for part, count in parts.items())}")
    classes = len(class_names(options.classes)) if options.classes else 2
    _say_end(options.output, list(made.lists), "folder" if classes == 2 else "folder_classes", classes)


def add_glas(sources: Any) -> None:
    """Add the subcommand ``glas``."""
    glas = sources.add_parser("glas", help="the GlaS (Warwick-QU) set, from its download")
    glas.add_argument("--source", required=True, help="folder that holds train_1.bmp (or .png), ... and Grade.csv")
    glas.add_argument("--output", required=True, help="folder to make; must be new or empty")
    glas.add_argument("--mpp", type=float, default=0.62, help="width of a pixel in um (default 0.62; some take 0.465)")
    glas.set_defaults(run=run_glas)


def run_glas(options: argparse.Namespace) -> None:
    """Prepare GlaS from its download; reads ``source``, ``output`` and ``mpp``."""
    from bundle.data.glas import LICENSE, prepare_glas  # here, so that --help need not wait for torch

    with Bar("GlaS") as progress:
        lists = prepare_glas(options.source, options.output, options.mpp, progress)
    print(LICENSE)
    _say_end(options.output, lists, "glas")


def add_crag(sources: Any) -> None:
    """Add the subcommand ``crag``."""
    crag = sources.add_parser("crag", help="the CRAG set, from its download")
    crag.add_argument("--source", required=True, help="folder that holds train/Images, train/Annotation, valid/...")
    crag.add_argument("--output", required=True, help="folder to make; must be new or empty")
    crag.add_argument("--mpp", type=float, default=0.55, help="width of a pixel in um (default 0.55)")
    crag.set_defaults(run=run_crag)


def run_crag(options: argparse.Namespace) -> None:
    """Prepare CRAG from its download; reads ``source``, ``output`` and ``mpp``."""
    from bundle.data.crag import LICENSE, PATIENTS, prepare_crag

    with Bar("CRAG") as progress:
        lists = prepare_crag(options.source, options.output, options.mpp, progress)
    print(LICENSE)
    print(PATIENTS)
    _say_end(options.output, lists, "crag")


def add_phantom(sources: Any) -> None:
    """Add the subcommand ``phantom``."""
    phantom = sources.add_parser("phantom", help="pictures of glands that a program draws; needs no download")
    phantom.add_argument("--output", required=True, help="folder to make; new, empty, or the same phantom already")
    phantom.add_argument("--seed", type=int, default=0, help="seed of the pictures (default 0)")
    phantom.set_defaults(run=run_phantom)


def run_phantom(options: argparse.Namespace) -> None:
    """Draw the phantom; reads ``output`` and ``seed``."""
    from bundle.data.phantom import write_phantom

    print("drawing 160 tiles, some seconds", file=sys.stderr)
    write_phantom(options.output, seed=options.seed)
    lists = sorted(file.name for file in Path(options.output).expanduser().glob("heldout_*.json"))
    _say_end(options.output, lists, "phantom")


def add_check(sources: Any) -> None:
    """Add the subcommand ``check``."""
    check = sources.add_parser(
        "check",
        help="check a data list and its files",
        description="Tell what a data list holds and all that is wrong with it. Problems end with exit code 1.",
    )
    check.add_argument("list", metavar="LIST", help="path of the data list; its folder is the data folder")
    check.add_argument(
        "--json", metavar="FILE", help="also write all facts as JSON; - writes them instead of the table"
    )
    check.add_argument("--sheet", metavar="FILE.png", help="also draw some images of each part with their masks")
    check.add_argument("--classes", type=_whole, metavar="N", help="number of classes, background included")
    check.add_argument("--workers", type=_whole, default=2, metavar="N", help="threads that decode (default 2)")
    check.set_defaults(run=run_check)


def run_check(options: argparse.Namespace) -> None:
    """Check a data list; reads all that ``add_check`` names."""
    from monai.bundle import ConfigParser
    from PIL import Image

    from bundle.data.check import check_list
    from bundle.data.check_findings import find_faults
    from bundle.data.check_pictures import to_show
    from bundle.data.check_report import as_data, table, verdict
    from bundle.data.lists import PARTS
    from bundle.handlers.contact_sheet import Tile, contact_sheet

    parser = ConfigParser()
    parser.read_config(str(ROOT / "configs" / "train.json"))
    crop, pixel_size = (parser.get_parsed_content(key) for key in ("crop_size", "pixel_size"))
    with Bar("check", unit="file") as progress:
        checked = check_list(options.list, options.classes, options.workers, progress)
        findings = find_faults(checked, crop, pixel_size)
    if options.sheet is not None:
        parts = {part: [Tile(*shown) for shown in to_show(checked, part)] for part in PARTS}
        picture = io.BytesIO()
        Image.fromarray(contact_sheet(checked.path.name, parts)).save(picture, "PNG", optimize=True)
        _write(options.sheet, picture.getvalue())
    data = json.dumps(as_data(checked, findings), ensure_ascii=False, indent=1) if options.json is not None else ""
    if options.json not in (None, "-"):
        _write(options.json, f"{data}\n".encode())
    print(data if options.json == "-" else f"{table(checked, findings)}\n")
    if any(finding.problem for finding in findings):
        raise ValueError(verdict(checked, findings))
    if options.json != "-":
        print(f"{verdict(checked, findings)}.")


def _write(target: str, content: bytes) -> None:
    """Write a file that appears when it is complete."""
    path = Path(target).expanduser()
    unfinished = path.with_name(f".{path.name}.part")
    try:
        unfinished.write_bytes(content)
        unfinished.replace(path)
    except OSError as error:
        unfinished.unlink(missing_ok=True)
        raise OSError(error.errno, error.strerror, str(path)) from error


class Bar:
    """Progress bar on the error stream of a terminal, told how many images are done and of how many."""

    def __init__(self, name: str, unit: str = "image") -> None:
        self.bar = tqdm(desc=name, unit=unit, leave=False, disable=None)

    def __call__(self, done: int, total: int) -> None:
        """Show that ``done`` of ``total`` images are finished."""
        self.bar.total = total
        self.bar.update(done - self.bar.n)

    def __enter__(self) -> Callable[[int, int], None]:
        """Give the bar itself."""
        return self

    def __exit__(self, *error: object) -> None:
        """Take the bar away, so that an error has the last line."""
        self.bar.close()


def _amount(text: str) -> str:
    """Text that is a share or a number of images, so that another is a wrong command line."""
    if not re.fullmatch(r"\d+(\.\d+)?%|\d+", text):
        raise argparse.ArgumentTypeError(f"{text!r} is no amount: write 20% for a share, 12 for a number of images")
    return text


def _whole(text: str) -> int:
    """Whole number above 0, so that another is a wrong command line."""
    if not re.fullmatch(r"0*[1-9]\d*", text):
        raise argparse.ArgumentTypeError(f"{text!r} is no whole number above 0")
    return int(text)


def _say_end(output: str, lists: Sequence[str], name: str, classes: int = 2) -> None:
    """Say how to train: ``name`` is that of the overlay in ``configs/data``."""
    folder = shlex.quote(str(Path(output).expanduser().absolute()))
    configs = f"\"['configs/train.json','configs/data/{name}.yaml']\""
    usual = DEFAULT_LIST if DEFAULT_LIST in lists else lists[0]
    command = f"python -m monai.bundle run training --config_file {configs} --dataset_dir {folder}"
    command += f" --classes {classes}" if classes > 2 else ""
    which = f"one of {len(lists)} data lists" if len(lists) > 1 else "the only data list"
    print(f"Train from the repository's root on {usual}, {which} in {folder}:")
    print(command if usual == DEFAULT_LIST else f"{command} --data_list {usual}")


def _sentence(error: Exception) -> str:
    if isinstance(error, OSError) and error.strerror:
        full = error.errno in (errno.ENOSPC, errno.EDQUOT, errno.EFBIG)
        advice = "make room there, or write elsewhere" if full else "give folders that can be read and written"
        place = f": {error.filename}" if error.filename else ""
        return f"{error.strerror}{place}; {advice}"
    return " ".join(str(error).split())


if __name__ == "__main__":
    sys.exit(main())
