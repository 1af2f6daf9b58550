"""Program that makes a data folder: pictures, masks and data lists.

Run: python scripts/prepare_data.py glas --source DIR --output DIR [--mpp 0.62]
     python scripts/prepare_data.py phantom --output DIR [--seed 0]
"""

from __future__ import annotations

import argparse
import shlex
import sys
from collections.abc import Callable, Sequence
from pathlib import Path

from tqdm import tqdm

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))


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
    parser = argparse.ArgumentParser(description="Make a data folder: pictures, masks and data lists.")
    sources = parser.add_subparsers(title="sources", required=True, metavar="SOURCE")
    glas = sources.add_parser("glas", help="the GlaS (Warwick-QU) set, from its download")
    glas.add_argument("--source", required=True, help="folder that holds train_1.bmp (or .png), ... and Grade.csv")
    glas.add_argument("--mpp", type=float, default=0.62, help="width of a pixel in um (default 0.62; some take 0.465)")
    glas.set_defaults(run=run_glas)
    phantom = sources.add_parser("phantom", help="pictures of glands that a program draws; needs no download")
    phantom.add_argument("--seed", type=int, default=0, help="seed of the pictures (default 0)")
    phantom.set_defaults(run=run_phantom)
    glas.add_argument("--output", required=True, help="folder to make; must be new or empty")
    phantom.add_argument("--output", required=True, help="folder to make; new, empty, or the same phantom already")
    return parser


def run_glas(options: argparse.Namespace) -> None:
    """Prepare GlaS from its download; reads ``source``, ``output`` and ``mpp``."""
    from bundle.data.glas import LICENCE, prepare_glas  # here, so that --help need not wait for torch

    with Bar("GlaS") as progress:
        lists = prepare_glas(options.source, options.output, options.mpp, progress)
    print(LICENCE)
    _say_end(options.output, lists, "glas")


def run_phantom(options: argparse.Namespace) -> None:
    """Draw the phantom; reads ``output`` and ``seed``."""
    from bundle.data.phantom import write_phantom

    print("drawing 160 tiles, some seconds", file=sys.stderr)
    write_phantom(options.output, seed=options.seed)
    lists = sorted(file.name for file in Path(options.output).expanduser().glob("heldout_*.json"))
    _say_end(options.output, lists, "phantom")


class Bar:
    """Progress bar on the error stream, told how many images are done and of how many."""

    def __init__(self, name: str) -> None:
        self.bar = tqdm(desc=name, unit="image", leave=False)

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


def _say_end(output: str, lists: Sequence[str], name: str) -> None:
    folder = shlex.quote(str(Path(output).expanduser().absolute()))
    configs = f"\"['configs/train.json','configs/data/{name}.yaml']\""
    usual = "heldout_10_seed0.json" if "heldout_10_seed0.json" in lists else lists[0]
    print(f"Train from the repository's root on {usual}, one of {len(lists)} data lists in {folder}:")
    print(f"python -m monai.bundle run training --config_file {configs} --dataset_dir {folder}")


def _sentence(error: Exception) -> str:
    if isinstance(error, OSError) and error.strerror:
        return f"{error.strerror}: {error.filename}; give folders that can be read and written"
    return " ".join(str(error).split())


if __name__ == "__main__":
    sys.exit(main())
