"""End-to-end demo of interactive labeling: a real label server on synthetic tiles, with a simulated pathologist.

    python scripts/dev/label_story.py --output FOLDER

Requires MONAI Label (`make label-install`, then .venv-label/bin/python) and some minutes on two CPU cores. The program
serves a small network with random weights, labels glands on a few tiles, trains, requests predictions, labels the tiles
on which the experts disagree most, corrects a label, trains again, and stops a third training halfway. The masks are
evaluated on held-out tiles of other patients. Prints a table, and writes story.json, story.png and server.log to
FOLDER. The exit code is 0 if all checks pass; otherwise 1, and the last line names the failed check.
"""

from __future__ import annotations

import argparse
import functools
import io
import json
import os
import shutil
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import torch
from PIL import Image

ROOT = Path(__file__).resolve().parents[2]
sys.path.insert(0, str(ROOT))

from bundle.data import load_data_list, read_label, write_phantom
from bundle.engines.error_summary import sentence
from bundle.inference.polygons import outlines
from bundle.metrics import PooledOverlapMetric
from bundle.networks import SemiMoE
from scripts.benchmarking.processes import Children
from scripts.label_app.lib.annotation import Annotation, draw_instances, read_annotations, write_asap
from scripts.reporting.tables import markdown

HERE, MODEL, FINAL, GLAND = "127.0.0.1", "semi_moe", "final", {"Gland": (0, 255, 0)}
HELD_BACK, PATIENTS = 8, 12
"""Number of held-out tiles, each of another patient, and maximum number of patients of the served tiles."""
COLUMNS = ("outlined", "judging", "unlabeled", "dice", "seconds", "reason")
"""Columns of a stage: labeled tiles, those used for validation, unlabeled tiles, held-out Dice, and the training."""
DEADLINE, SHOWN_EVERY, STOPPED = 180, 10, 20
"""Seconds until the server must respond and between progress messages; epochs of the training that is stopped."""
TRAINING = {"learning_rate": 0.003, "batch_size": 4, "val_interval": 3}  # for a short training
PLAIN = {"_target_": "bundle.networks.SemiMoE", "encoder": None, "output_stride": 1}  # a small network
SEED, SAME = 5, 0.95
"""Seed of the random weights (with most others the first masks are all foreground); minimum share of equal pixels."""

Record = dict[str, Any]
say = functools.partial(print, flush=True)


def check(passed: bool, message: str) -> None:
    """End the program with ``message`` if a check fails."""
    if not passed:
        raise RuntimeError(message)


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the program. Exit codes: 0 success, 1 error, 2 invalid command line, 130 interrupted."""
    given = _parser().parse_args(arguments)
    output = given.output = given.output.expanduser().absolute()
    before = signal.signal(signal.SIGTERM, signal.default_int_handler)
    try:
        check(bool(find_spec("monailabel")), "MONAI Label is not installed; run `make label-install`")
        check(not output.exists() or not any(output.iterdir()), f"{output} is not empty; give --output a new folder")
        check(2 <= given.outlined <= given.tiles // 3, "--outlined must be at least 2 and at most a third of --tiles")
        run_story(given)
    except (OSError, ValueError, RuntimeError) as error:
        print(f"label_story: {error if isinstance(error, RuntimeError) else sentence(error)}", file=sys.stderr)
        return 1
    except KeyboardInterrupt:
        print("label_story: stopped, with its server", file=sys.stderr)
        return 130
    finally:
        signal.signal(signal.SIGTERM, before)
    return 0


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--output", type=Path, required=True, help="output folder; it must be new or empty")
    add = functools.partial(parser.add_argument, type=int)
    add("--tiles", default=24, help="number of served tiles (default: 24)")
    add("--outlined", default=4, help="number of tiles to label before each training (default: 4)")
    add("--epochs", default=30, help="epochs of each training (default: 30)")
    add("--size", default=256, help="side of a tile, px (default: 256)")
    add("--crop", default=96, help="side of a training crop, px (default: 96)")
    add("--widths", nargs=5, default=[8, 16, 32, 64, 128], help="channels per level (default: 8 16 32 64 128)")
    return parser


def run_story(given: argparse.Namespace) -> None:
    """Run all steps and write story.json, also after a failed check."""
    output, started = given.output, time.monotonic()
    record: Record = {"held": False, "settings": {**vars(given), "output": str(output)}, "stages": []}
    try:
        held_out = prepare(given)
        with serving(output) as url:
            say(f"the server runs at {url}; its log is {output / 'server.log'}")
            Story(given, url, held_out, record).run()
        record["held"] = True
    finally:
        record["seconds"] = round(time.monotonic() - started, 1)
        (output / "story.json").write_text(json.dumps(record, indent=2) + "\n", encoding="utf-8")
    drawing = subprocess.run([sys.executable, str(ROOT / "scripts" / "dev" / "draw_story.py"), str(output)])
    check(drawing.returncode == 0, "the figure could not be drawn; see the messages above")
    rows = [[*map(str, stage.values())] for stage in record["stages"]]
    say("", markdown(pd.DataFrame(rows, columns=["", *COLUMNS])), "", sep="\n")
    say(f"All checks passed in {record['seconds'] / 60:.1f} minutes. See {output / 'story.png'}")


def prepare(given: argparse.Namespace) -> list[tuple[Path, Path]]:
    """Draw tiles and create a bundle with random weights; return image and mask of each held-out tile."""
    output, bundle = given.output, given.output / "bundle"
    parts = {"training": (min(PATIENTS, given.tiles), given.tiles), "validation": (1, 1), "test": [HELD_BACK] * 2}
    write_phantom(output / "drawn", size=(given.size, given.size), parts=parts)
    entries = load_data_list(output / "drawn", "heldout_100_seed0.json")
    (output / "tiles").mkdir()
    for entry in entries["training"]:
        shutil.copy(entry["image"], output / "tiles")
    for name in ("configs", "bundle"):
        shutil.copytree(ROOT / name, bundle / name, ignore=shutil.ignore_patterns("__pycache__"))
    for name, more in (("inference", {}), ("train", TRAINING)):
        path = bundle / "configs" / f"{name}.json"
        content = json.loads(path.read_text(encoding="utf-8")) | {"crop_size": [given.crop] * 2, **more}
        content["network_def"] |= PLAIN | {"widths": given.widths}
        path.write_text(json.dumps(content, indent=4), encoding="utf-8")
    torch.manual_seed(SEED)
    (bundle / "models").mkdir()
    torch.save(SemiMoE(3, 2, widths=given.widths).state_dict(), bundle / "models" / "model.pt")
    say(f"{given.tiles} tiles in {output / 'tiles'}, {HELD_BACK} held-out tiles of other patients; random weights")
    return [(Path(entry["image"]), Path(entry["label"])) for entry in entries["test"]]


@contextmanager
def serving(output: Path) -> Iterator[str]:
    """Run the label server in a separate process; yield its URL."""
    children, path = Children(), output / "server.log"
    with socket.socket() as probe:
        probe.bind((HERE, 0))
        address = probe.getsockname()
        if sys.platform == "linux":  # reserves the port, while the server can still listen on it
            probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        else:
            probe.close()
        command = [sys.executable, str(ROOT / "scripts" / "label_app" / "start.py"), "--studies", str(output / "tiles")]
        command += ["--port", str(address[1]), "--conf", "bundle", str(output / "bundle")]
        try:
            sessions = {"MONAI_LABEL_SESSION_PATH": str(output / "sessions")}
            children.start("server", command, path, output, {**os.environ, **sessions})
            end = time.monotonic() + DEADLINE
            while True:
                with suppress(OSError), socket.create_connection(address):
                    break
                waits = not children.wait(0.2) and time.monotonic() < end
                lines = path.read_text("utf-8", "replace").split("\n")  # log records begin with "[" and the time
                messages = [line for line in lines if line and line[0] not in " [$"] or ["no message"]
                check(waits, f"the server did not start: {messages[-1]} (see {path})")
            yield f"http://{HERE}:{address[1]}"
        finally:
            children.stop()  # including its trainings


class Story:
    """The steps, with the requests that QuPath sends; the results are collected in ``record``."""

    def __init__(self, given: argparse.Namespace, url: str, held_out: list[tuple[Path, Path]], record: Record) -> None:
        import requests  # installed with MONAI Label

        self.given, self.url, self.held_out, self.record = given, url, held_out, record
        self.output, self.tiles, self.answers = given.output, given.output / "tiles", given.output / "answers"
        self.submitted: dict[str, bytes] = {}
        self.session = requests.Session()
        self.session.trust_env = False  # no proxy

    def run(self) -> None:
        """Run all steps."""
        names = sorted(path.stem for path in self.tiles.glob("*.png"))
        first = names[:: len(names) // self.given.outlined][: self.given.outlined]
        self.measure("before", {"unlabeled": len(names)})
        self.outline(first, rough=first[0])
        rough = self.submitted[first[0]]
        self.measure("after first", self.train(self.given.epochs))
        self.outline([*self.suggested(), first[0]])
        replaced = [path.read_bytes() for path in (self.tiles / "history" / FINAL).glob(f"{first[0]}_*.xml")]
        check(rough in replaced, f"the replaced label of {first[0]} is not in the history")
        self.measure("after second", self.train(self.given.epochs))
        mask = self.mask(self.held_out[0][0])
        self.record["stopped"] = self.train(STOPPED, until=0.5)
        check(np.array_equal(self.mask(self.held_out[0][0]), mask), "the stopped training changed a prediction")
        for name, content in self.submitted.items():
            stored = self.send("GET", f"/datastore/label?label={name}&tag={FINAL}").content
            check(stored == content, f"the stored label of {name} differs from the submitted one")
        self.record |= {"labels": sorted(self.submitted), "models": sorted(self.models())}
        say(f"all {len(self.submitted)} labels and the replaced one exist; models: {', '.join(self.record['models'])}")

    def send(self, method: str, path: str, **more: Any) -> Any:
        """Send a request and return the response; an error status ends the program."""
        try:
            response = self.session.request(method, self.url + path, timeout=DEADLINE, **more)
        except OSError as error:
            raise RuntimeError(f"{method} {path} got no response ({error}); see server.log") from error
        check(response.ok, f"{method} {path} returned {response.status_code}: {response.text[:300]}")
        return response

    def mask(self, image: Path) -> np.ndarray:
        """Upload an image and return the predicted glands, bool (H, W)."""
        files = {"file": (image.name, image.read_bytes())}
        response = self.send("POST", f"/infer/{MODEL}?output=image", files=files)
        return np.asarray(Image.open(io.BytesIO(response.content))) > 0

    def polygons(self, image: Path, folder: Path) -> list[Annotation]:
        """Upload an image and return the predicted glands as polygons, which are also saved in a folder."""
        region = {"level": 0, "location": [0, 0], "size": [0, 0], "min_poly_area": 0, "params": {"max_workers": 1}}
        files, data = {"file": (image.name, image.read_bytes())}, {"wsi": json.dumps(region)}
        response = self.send("POST", f"/infer/wsi_v2/{MODEL}?output=asap", files=files, data=data)
        path = folder / f"{image.stem}.xml"
        folder.mkdir(parents=True, exist_ok=True)
        path.write_bytes(response.content)
        return read_annotations(path)

    def models(self) -> dict[str, bytes]:
        """Return all models of the image folder and that of the bundle, by path."""
        paths = [*(self.tiles / "model").glob("*.pt"), self.output / "bundle" / "models" / "model.pt"]
        return {path.relative_to(self.output).as_posix(): path.read_bytes() for path in sorted(paths)}

    def outline(self, names: Sequence[str], rough: str = "") -> None:
        """Submit outlines of tiles; those of the ``rough`` tile are coarse and lack the smallest gland."""
        for name in names:
            truth, path = self.output / "drawn" / "label" / f"{name}.png", self.output / "outlined" / f"{name}.xml"
            glands = outlines(read_label(truth).pixels, tolerance=2.5 if name == rough else 0.5)
            if name == rough and len(glands) > 1:
                glands.remove(min(glands, key=lambda gland: gland.shape.area))
            write_asap(path, [Annotation("Gland", gland.shape) for gland in glands], GLAND, name)
            content = self.submitted[name] = path.read_bytes()
            files, data = {"label": (path.name, content)}, {"params": "{}"}
            self.send("PUT", f"/datastore/label?image={name}&tag={FINAL}", files=files, data=data)
            say(f"labeled {len(glands)} glands on {name}{', roughly' if name == rough else ''}")

    def measure(self, stage: str, training: Record) -> None:
        """Request masks and polygons of the held-out tiles and compare them with the ground truth."""
        pooled = PooledOverlapMetric()
        for image, label in self.held_out:
            truth = read_label(label).pixels > 0
            mask, shapes = self.mask(image), self.polygons(image, self.answers / stage)
            agreement = mask.shape == truth.shape and ((draw_instances(shapes, mask.shape[::-1]) > 0) == mask).mean()
            check(agreement > SAME, f"the polygons of {image.stem} {stage} do not agree with its mask")
            pooled(*(torch.from_numpy(plane)[None, None].long() for plane in (mask, truth)))
        dice = round(float(pooled.aggregate()), 4)
        labeled, validation, *rest = (training.get(key, 0) for key in ("labeled", "validation", "unlabeled", "seconds"))
        values = (labeled + validation, validation, rest[0], dice, rest[1], training.get("reason", ""))
        self.record["stages"].append({"stage": stage, **dict(zip(COLUMNS, values, strict=True))})
        say(f"{stage}: Dice {dice} on {len(self.held_out)} held-out tiles")

    def train(self, epochs: int, until: float = 2.0) -> Record:
        """Train to the end, or stop after a share of the steps; return the server's record of the training."""
        before, shown = self.models(), time.monotonic()
        self.send("POST", f"/train/{MODEL}", json={"max_epochs": epochs, "pretrained": True})
        while (task := self.send("GET", "/train/").json())["status"] in ("SUBMITTED", "RUNNING"):
            progress = self.send("GET", "/info/").json()["train_stats"][MODEL].get("progress")
            if progress and progress["step"] >= until * progress["steps"]:
                self.send("DELETE", "/train/")
            elif progress and progress["step"] and time.monotonic() - shown > SHOWN_EVERY:
                shown = time.monotonic()
                say("  epoch {epoch} of {epochs}, loss {loss}, {seconds_left} s left".format(**progress))
            time.sleep(0.5)
        state, after = self.send("GET", "/info/").json()["train_stats"][MODEL], self.models()
        say(message := f"training {task['status'].lower()}: {state.get('reason')}")
        check(task["status"] == ("DONE" if until > 1 else "STOPPED"), message)
        check(set(before.values()) <= set(after.values()), "a previous model is lost")
        check((after != before) is state.get("taken", False), "the models do not agree with the server's record")
        return state

    def suggested(self) -> list[str]:
        """Return the tiles that the server suggests to label next; they must have the highest disagreement."""
        scores = self.send("GET", "/info/").json()["scoring"]["disagreement"]["scores"]
        ranked, ask = sorted(scores, key=lambda name: (-scores[name], name)), ("POST", "/activelearning/disagreement")
        chosen = [self.send(*ask, json={}).json()["id"] for _ in range(self.given.outlined)]
        check(chosen == ranked[: len(chosen)], f"the server suggests {chosen}, but its scores are {scores}")
        for name in [*chosen, *ranked[-len(chosen) :]]:
            glands = self.polygons(self.tiles / f"{name}.png", self.answers / "ranking")
            say(f"{'' if name in chosen else 'not '}suggested: {name} ({scores[name]:.3f}), {len(glands)} glands")
        self.record["ranking"] = {name: scores[name] for name in ranked}
        return chosen


if __name__ == "__main__":
    sys.exit(main())
