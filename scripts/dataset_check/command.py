"""Subcommand ``check`` of ``prepare_data.py``: check a data list and its files."""

from __future__ import annotations

import argparse
import errno
import io
import json
import os
import re
from pathlib import Path
from typing import Any

from scripts.dataset_check.progress import Bar

ROOT = Path(__file__).resolve().parents[2]


def add_check(sources: Any) -> None:
    """Add the subcommand ``check``."""
    check = sources.add_parser(
        "check",
        help="check a data list and its files",
        description="Summarize a data list and report its problems. The exit code is 1 if there are problems.",
    )
    check.add_argument("list", metavar="LIST", help="path of the data list; its folder is the data folder")
    check.add_argument("--json", metavar="FILE", help="also write the results as JSON; - prints only the JSON")
    check.add_argument("--sheet", metavar="FILE.png", help="also draw some images of each part with their masks")
    check.add_argument("--classes", type=_positive, metavar="N", help="number of classes, including background")
    check.add_argument("--workers", type=_positive, default=2, metavar="N", help="decoding threads (default: 2)")
    check.set_defaults(run=run_check)


def run_check(options: argparse.Namespace) -> None:
    """Check a data list."""
    from monai.bundle import ConfigParser
    from PIL import Image

    from bundle.data.lists import PARTS
    from bundle.handlers.contact_sheet import Tile, contact_sheet
    from scripts.dataset_check.checked_list import check_list
    from scripts.dataset_check.findings import find_faults
    from scripts.dataset_check.pictures import to_show
    from scripts.dataset_check.report import as_data, table, verdict

    parser = ConfigParser(ConfigParser.load_config_file(ROOT / "configs" / "train.json"))
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
    """Write a file atomically."""
    from bundle.utils import atomic_path

    path = Path(target).expanduser()
    if not path.parent.is_dir():
        raise FileNotFoundError(errno.ENOENT, os.strerror(errno.ENOENT), str(path))
    with atomic_path(path) as temporary:
        temporary.write_bytes(content)


def _positive(text: str) -> int:
    """Parse a positive integer."""
    if re.fullmatch(r"0*[1-9]\d*", text):
        return int(text)
    raise argparse.ArgumentTypeError(f"{text!r} is not a positive integer")
