"""Start the label server on a folder of tiles or slides.

    python scripts/label_app/start.py --studies FOLDER
    python scripts/label_app/start.py --studies FOLDER --embedded      # fills an empty folder with drawn tiles

It needs MONAI Label (`make label-install`), listens on this machine alone unless --host says otherwise, and ends with
Ctrl-C. Then connect a viewer: docs/monai_label.md.
"""

from __future__ import annotations

import argparse
import importlib.util
import os
import socket
import sys
from collections.abc import Sequence
from pathlib import Path

APP = Path(__file__).resolve().parent
ROOT = APP.parents[1]
sys.path[:0] = [str(ROOT), str(APP)]

HERE = "127.0.0.1"
PORT = 8000
TILES = {"training": (6, 24), "validation": (1, 1), "test": (1, 1)}
"""Patients and tiles of the embedded folder; the training part is served."""


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the program; 0 is good, 1 an error that the last line explains, 2 a wrong command line."""
    options = _parser().parse_args(arguments)
    if importlib.util.find_spec("monailabel") is None:
        return _fails("MONAI Label is not installed here; run `make label-install`, or see docs/monai_label.md")
    from lib.settings import check_settings

    try:
        check_settings(dict(options.conf or []))
    except ValueError as error:
        return _fails(str(error))
    folder = options.studies
    is_address = folder.startswith(("http://", "https://"))
    if not is_address:
        path = Path(folder).expanduser().absolute()
        if path.exists() and not path.is_dir():
            return _fails(f"{path} is a file; give --studies the folder that holds it")
        if options.embedded:
            embed(path)
        if not path.is_dir():
            return _fails(f"no folder {path}; give --studies a folder of tiles or slides, or add --embedded")
        folder = str(path)
    with socket.socket(socket.AF_INET6 if ":" in options.host else socket.AF_INET) as probe:
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind((options.host, options.port))
        except (OSError, OverflowError) as error:
            return _fails(f"{options.host}:{options.port} cannot be listened on ({error}); give another --port")
    if options.host not in (HERE, "localhost", "::1") and not _asks_who():
        print(
            f"start: anybody who reaches {options.host} may read and change everything; MONAI_LABEL_AUTH_ENABLE=true "
            "asks who it is (docs/monai_label.md)",
            file=sys.stderr,
        )
    words = [
        "start_server",
        "--app",
        str(APP),
        "--studies",
        folder,
        "--host",
        options.host,
        "--port",
        str(options.port),
    ]
    words += ["--uvicorn_app", "lib.server:app", "--log_level", "warning", "--verbose", options.verbose]
    for setting in options.conf or []:
        words += ["--conf", *setting]
    print(f"start: {folder} at http://{options.host}:{options.port}, ready in some seconds; Ctrl-C ends it", flush=True)
    return serve(words)


def serve(words: Sequence[str]) -> int:
    """Hand over to MONAI Label's own program."""
    os.environ["PYTHONPATH"] = os.pathsep.join([str(ROOT), *filter(None, [os.environ.get("PYTHONPATH")])])
    from lib.operators import prepare_torchvision

    prepare_torchvision(os.environ)
    from monailabel.main import Main

    sys.argv = ["monailabel", *words]
    Main().run()
    return 0


def embed(folder: Path) -> None:
    """Fill a folder with the drawn tiles of the training part, unless it holds something already."""
    import shutil
    import tempfile

    from bundle.data import load_data_list, write_phantom

    if folder.is_dir() and any(folder.iterdir()):
        return
    folder.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(dir=folder.parent, prefix=".tiles-") as draft:
        write_phantom(Path(draft) / "phantom", parts=TILES)
        for entry in load_data_list(Path(draft) / "phantom", "heldout_100_seed0.json")["training"]:
            shutil.move(entry["image"], folder / Path(entry["image"]).name)


def _asks_who() -> bool:
    return os.environ.get("MONAI_LABEL_AUTH_ENABLE", "").lower() in ("1", "true", "yes", "on")


def _parser() -> argparse.ArgumentParser:
    from lib.settings import OURS

    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--studies", required=True, help="folder of tiles or slides, or address of a DSA server")
    parser.add_argument("--embedded", action="store_true", help="fill the folder with drawn tiles if it is empty")
    parser.add_argument("--host", default=HERE, help=f"address to listen on (default {HERE}: this machine alone)")
    parser.add_argument("--port", default=PORT, type=int, help=f"default {PORT}")
    parser.add_argument("--verbose", default="WARNING", choices=["DEBUG", "INFO", "WARNING"], help="what is told")
    parser.add_argument(
        "--conf",
        nargs=2,
        action="append",
        metavar=("KEY", "VALUE"),
        help="; ".join(f"{key}: {meaning}" for key, meaning in OURS.items()),
    )
    return parser


def _fails(reason: str) -> int:
    print(f"start: {reason}", file=sys.stderr)
    return 1


if __name__ == "__main__":
    sys.exit(main())
