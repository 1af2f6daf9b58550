"""Start the label server for a folder of tiles or slides.

    python scripts/label_app/start.py --studies FOLDER
    python scripts/label_app/start.py --studies FOLDER --embedded      # fill an empty folder with synthetic tiles

Requires MONAI Label (`make label-install`). The server listens on localhost unless --host is given, and has a labeling
page at its address; stop it with Ctrl-C. docs/monai_label.md describes the page, and how to connect other viewers.
"""

from __future__ import annotations

import argparse
import importlib.util
import os
import socket
import sys
import threading
import time
import webbrowser
from collections.abc import Sequence
from pathlib import Path

APP = Path(__file__).resolve().parent
ROOT = APP.parents[1]
sys.path[:0] = [str(ROOT), str(APP)]

from scripts.interruption import end_without_traceback

end_without_traceback()

HERE = "127.0.0.1"
PORT = 8000
LONGEST_START = 120
"""Seconds after which --open gives up."""
TILES = {"training": (6, 24), "validation": (1, 1), "test": (1, 1)}
"""Numbers of patients and of synthetic tiles; the training part is served."""


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the program. Exit codes: 0 success, 1 error, 2 invalid command line."""
    options = _parser().parse_args(arguments)
    if importlib.util.find_spec("monailabel") is None:
        return _fail("MONAI Label is not installed; run `make label-install`, or see docs/monai_label.md")
    from lib.settings import check_settings

    try:
        check_settings(dict(options.conf or []))
    except ValueError as error:
        return _fail(str(error))
    # Folder of images, or the address of another datastore.
    folder = options.studies
    is_address = folder.startswith(("http://", "https://"))
    if not is_address:
        path = Path(folder).expanduser().absolute()
        if path.exists() and not path.is_dir():
            return _fail(f"{path} is a file; give its folder as --studies")
        if options.embedded:
            embed(path)
        if not path.is_dir():
            return _fail(f"no folder {path}; give a folder of tiles or slides as --studies, or add --embedded")
        folder = str(path)
    # Address: it must be free, and login should be on if others can reach it.
    names = options.host or [HERE]
    host = names[0]
    with socket.socket(socket.AF_INET6 if ":" in host else socket.AF_INET) as probe:
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind((host, options.port))
        except (OSError, OverflowError) as error:
            return _fail(f"cannot listen on {host}:{options.port} ({error}); give another --port")
    if host not in (HERE, "localhost", "::1") and not _requires_login():
        print(
            f"start: anyone who can reach {host} may read and change everything; "
            "MONAI_LABEL_AUTH_ENABLE=true requires a login (docs/monai_label.md)",
            file=sys.stderr,
        )
    # Start MONAI Label's server with this app.
    command = [
        "start_server",
        "--app",
        str(APP),
        "--studies",
        folder,
        "--host",
        host,
        "--port",
        str(options.port),
    ]
    command += ["--uvicorn_app", "lib.server:app", "--log_level", "warning", "--verbose", options.verbose]
    conf = dict(options.conf or [])
    for setting in (conf | {"hosts": _hosts(names, conf.get("hosts"))}).items():
        command += ["--conf", *setting]
    url = f"http://{f'[{host}]' if ':' in host else host}:{options.port}"
    print(f"start: serving {folder}; in some seconds the labeling page is at {url} (Ctrl-C stops)", flush=True)
    if options.open and _has_display():
        threading.Thread(target=open_page, args=(host, options.port, url), daemon=True).start()
    return serve(command)


def open_page(host: str, port: int, url: str) -> None:
    """Open the labeling page in a browser when the server answers."""
    end = time.monotonic() + LONGEST_START
    while time.monotonic() < end:
        try:
            socket.create_connection((host, port), timeout=1).close()
        except OSError:
            time.sleep(0.5)
        else:
            webbrowser.open(url)
            return


def serve(arguments: Sequence[str]) -> int:
    """Run MONAI Label's program."""
    os.environ.setdefault("OMP_WAIT_POLICY", "PASSIVE")  # server and training share the cores (docs/performance.md)
    os.environ["PYTHONPATH"] = os.pathsep.join([str(ROOT), *filter(None, [os.environ.get("PYTHONPATH")])])
    from lib.operators import prepare_torchvision

    prepare_torchvision(os.environ)
    from monailabel.main import Main

    sys.argv = ["monailabel", *arguments]
    Main().run()
    return 0


def embed(folder: Path) -> None:
    """Fill a folder with the synthetic tiles of the training part, if it is empty."""
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


def _hosts(names: Sequence[str], others: str | None) -> str:
    """Return the names by which requests may address the server, separated by commas.

    A server that listens on all addresses may also be addressed by the name of this machine.
    """
    listens_to_all = names[0] in ("0.0.0.0", "::")
    return ",".join([*names, *([socket.gethostname()] if listens_to_all else []), *([others] if others else [])])


def _has_display() -> bool:
    """Return whether a browser could open a window; else ``webbrowser`` would start one in the terminal."""
    return sys.platform in ("darwin", "win32") or bool(os.environ.get("DISPLAY") or os.environ.get("WAYLAND_DISPLAY"))


def _requires_login() -> bool:
    return os.environ.get("MONAI_LABEL_AUTH_ENABLE", "").lower() in ("1", "true", "yes", "on")


def _parser() -> argparse.ArgumentParser:
    from lib.settings import OURS

    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--studies", required=True, help="folder of tiles or slides, or URL of a DSA server")
    parser.add_argument("--embedded", action="store_true", help="fill the folder with synthetic tiles if it is empty")
    parser.add_argument("--open", action="store_true", help="open the labeling page in a browser")
    parser.add_argument(
        "--host",
        action="append",
        help=f"address to listen on (default: {HERE}, this machine only); repeat it to allow further names of this "
        "server in requests",
    )
    parser.add_argument("--port", default=PORT, type=int, help=f"port to listen on (default: {PORT})")
    parser.add_argument(
        "--verbose", default="WARNING", choices=["DEBUG", "INFO", "WARNING"], help="log level (default: WARNING)"
    )
    parser.add_argument(
        "--conf",
        nargs=2,
        action="append",
        metavar=("KEY", "VALUE"),
        help="; ".join(f"{key}: {meaning}" for key, meaning in OURS.items()),
    )
    return parser


def _fail(reason: str) -> int:
    print(f"start: {reason}", file=sys.stderr)
    return 1


if __name__ == "__main__":
    sys.exit(main())
