"""The labeling loop from start to end: a real label server on drawn tiles, and this program as the pathologist.

    python scripts/label_story.py --output FOLDER

It needs MONAI Label (`make label-install`, then .venv-label/bin/python) and some minutes on two CPU cores. It
serves a narrow network with random weights, outlines glands on a few tiles, presses train, presses run, outlines the
tiles on which the experts disagree most, mends a label, trains again, and stops a third training half way. Tiles of
other patients are held back and tell how good the masks are. A table is printed; FOLDER gets story.json, story.png and
server.log. Exit code 0: every step held; 1: the last line says which one did not.
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
import torch
from PIL import Image

ROOT = Path(__file__).resolve().parents[1]
sys.path.insert(0, str(ROOT))

from bundle.annotation import Annotation, draw_instances, read_annotations, write_asap
from bundle.benchmark.processes import Children
from bundle.data import load_data_list, read_label, write_phantom
from bundle.engines.error_summary import sentence
from bundle.inference.polygons import outlines
from bundle.metrics import PooledOverlapMetric
from bundle.networks import SemiMoE
from bundle.report import markdown

HERE, MODEL, FINAL, GLAND = "127.0.0.1", "semi_moe", "final", {"Gland": (0, 255, 0)}
HELD_BACK, PATIENTS = 8, 12
"""Tiles that are held back, each of a patient of its own, and at most so many patients for the others."""
COLUMNS = ("outlined", "judging", "unlabeled", "dice", "seconds", "reason")
"""Of a stage: tiles with outlines, those of them that judge, and without; held-back Dice; the training, and its end."""
DEADLINE, SHOWN_EVERY, STOPPED = 180, 10, 20
"""Seconds until the server must answer and between lines of progress; epochs of a training that is stopped half way."""
TRAINING = {"learning_rate": 0.003, "batch_size": 4, "val_interval": 3}  # so that minutes are enough
SEED, SAME = 5, 0.95
"""Of the random weights: with most others all is a gland at first, and that has a Dice of 0.6. And the share of pixels
at which outlines agree with the mask; they are smoothed by half a pixel."""

Record = dict[str, Any]
say = functools.partial(print, flush=True)


def holds(step: bool, what: str) -> None:
    """End the story where a step does not hold; ``what`` says what is wrong then."""
    if not step:
        raise RuntimeError(what)


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the program; 0 is good, 1 an error that the last line explains, 2 a wrong command line, 130 a Ctrl-C."""
    given = _parser().parse_args(arguments)
    output = given.output = given.output.expanduser().absolute()
    before = signal.signal(signal.SIGTERM, signal.default_int_handler)
    try:
        holds(bool(find_spec("monailabel")), "MONAI Label is not installed here; run `make label-install`")
        holds(not output.exists() or not any(output.iterdir()), f"{output} is not empty; give --output a new folder")
        holds(2 <= given.outlined <= given.tiles // 3, "--outlined is 2 or more, and a third of --tiles at most")
        tell(given)
    except (OSError, ValueError, RuntimeError) as error:
        print(f"label_story: {error if isinstance(error, RuntimeError) else sentence(error)}", file=sys.stderr)
        return 1
    except KeyboardInterrupt:
        print("label_story: stopped, and the server too", file=sys.stderr)
        return 130
    finally:
        signal.signal(signal.SIGTERM, before)
    return 0


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--output", type=Path, required=True, help="new folder for all that the story leaves")
    add = functools.partial(parser.add_argument, type=int)
    add("--tiles", default=24, help="tiles in the folder that is served (default 24)")
    add("--outlined", default=4, help="tiles that are outlined before each training (default 4)")
    add("--epochs", default=30, help="of each training (default 30)")
    add("--size", default=256, help="sides of a tile, px (default 256)")
    add("--crop", default=96, help="sides of a training crop, px (default 96)")
    add("--widths", nargs=5, default=[8, 16, 32, 64, 128], help="of the network (default 8 16 32 64 128)")
    return parser


def tell(given: argparse.Namespace) -> None:
    """Tell the story, and write down how far it came, also where a step does not hold."""
    output, begun = given.output, time.monotonic()
    told: Record = {"held": False, "settings": {**vars(given), "output": str(output)}, "stages": []}
    try:
        held_back = prepare(given)
        with serving(output) as url:
            say(f"the server answers at {url}; its log is {output / 'server.log'}")
            Story(given, url, held_back, told).run()
        told["held"] = True
    finally:
        told["seconds"] = round(time.monotonic() - begun, 1)
        (output / "story.json").write_text(json.dumps(told, indent=2) + "\n", encoding="utf-8")
    drawn = subprocess.run([sys.executable, str(ROOT / "scripts" / "draw_story.py"), str(output)])
    holds(drawn.returncode == 0, "the picture could not be drawn; the lines above say why")
    say("", markdown((["", *COLUMNS], [[*map(str, stage.values())] for stage in told["stages"]])), "", sep="\n")
    say(f"Every step held, in {told['seconds'] / 60:.1f} minutes. Look at {output / 'story.png'}")


def prepare(given: argparse.Namespace) -> list[tuple[Path, Path]]:
    """Draw tiles, and make a bundle that has learned nothing; gives image and mask of the tiles that are held back."""
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
        content["network_def"]["widths"] = given.widths
        path.write_text(json.dumps(content, indent=4), encoding="utf-8")
    torch.manual_seed(SEED)
    (bundle / "models").mkdir()
    torch.save(SemiMoE(3, 2, widths=given.widths).state_dict(), bundle / "models" / "model.pt")
    say(f"{given.tiles} tiles in {output / 'tiles'}, {HELD_BACK} of other patients held back; nothing is learned yet")
    return [(Path(entry["image"]), Path(entry["label"])) for entry in entries["test"]]


@contextmanager
def serving(output: Path) -> Iterator[str]:
    """The label server, in a process of its own until the end; gives its address."""
    children, path = Children(), output / "server.log"
    with socket.socket() as probe:
        probe.bind((HERE, 0))
        address = probe.getsockname()
        if sys.platform == "linux":  # the server can listen there beside it, and nobody else is given the port
            probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        else:
            probe.close()
        words = [sys.executable, str(ROOT / "scripts" / "label_app" / "start.py"), "--studies", str(output / "tiles")]
        words += ["--port", str(address[1]), "--conf", "bundle", str(output / "bundle")]
        try:
            sessions = {"MONAI_LABEL_SESSION_PATH": str(output / "sessions")}
            children.start("server", words, path, output, {**os.environ, **sessions})
            end = time.monotonic() + DEADLINE
            while True:
                with suppress(OSError), socket.create_connection(address):
                    break
                waits = not children.wait(0.2) and time.monotonic() < end
                lines = path.read_text("utf-8", "replace").split("\n")  # those of a diary begin with "[" and the time
                said = [line for line in lines if line and line[0] not in " [$"] or ["nothing"]
                holds(waits, f"the server did not come up: {said[-1]} (log: {path})")
            yield f"http://{HERE}:{address[1]}"
        finally:
            children.stop()  # its trainings, too


class Story:
    """The steps, asked of the server as QuPath asks; ``told`` collects what happened."""

    def __init__(self, given: argparse.Namespace, url: str, held_back: list[tuple[Path, Path]], told: Record) -> None:
        import requests  # it comes with MONAI Label

        self.given, self.url, self.held_back, self.told = given, url, held_back, told
        self.output, self.tiles, self.answers = given.output, given.output / "tiles", given.output / "answers"
        self.handed_in: dict[str, bytes] = {}
        self.session = requests.Session()
        self.session.trust_env = False  # no proxy

    def run(self) -> None:
        """Tell it all."""
        names = sorted(path.stem for path in self.tiles.glob("*.png"))
        first = names[:: len(names) // self.given.outlined][: self.given.outlined]
        self.measure("before", {"unlabeled": len(names)})
        self.outline(first, hurried=first[0])
        rough = self.handed_in[first[0]]
        self.measure("after first", self.train(self.given.epochs))
        self.outline([*self.led_to(), first[0]])
        replaced = [path.read_bytes() for path in (self.tiles / "history" / FINAL).glob(f"{first[0]}_*.xml")]
        holds(rough in replaced, f"the rough label of {first[0]}, which was mended, is not kept in history")
        self.measure("after second", self.train(self.given.epochs))
        mask = self.mask(self.held_back[0][0])
        self.told["stopped"] = self.train(STOPPED, until=0.5)
        holds(np.array_equal(self.mask(self.held_back[0][0]), mask), "the training that was stopped changed an answer")
        for name, content in self.handed_in.items():
            there = self.send("GET", f"/datastore/label?label={name}&tag={FINAL}").content
            holds(there == content, f"the label of {name} is not what was handed in")
        self.told |= {"labels": sorted(self.handed_in), "models": sorted(self.models())}
        say(f"all {len(self.handed_in)} labels are there, and the rough one; models: {', '.join(self.told['models'])}")

    def send(self, method: str, path: str, **more: Any) -> Any:
        """Send a request; gives the response, and ends the story where the server refuses."""
        try:
            answer = self.session.request(method, self.url + path, timeout=DEADLINE, **more)
        except OSError as error:
            raise RuntimeError(f"{method} {path} was not answered ({error}); server.log says why") from error
        holds(answer.ok, f"{method} {path} was answered {answer.status_code}: {answer.text[:300]}")
        return answer

    def mask(self, picture: Path) -> np.ndarray:
        """Glands of a picture that is sent, bool (H, W)."""
        files = {"file": (picture.name, picture.read_bytes())}
        answer = self.send("POST", f"/infer/{MODEL}?output=image", files=files)
        return np.asarray(Image.open(io.BytesIO(answer.content))) > 0

    def polygons(self, picture: Path, folder: Path) -> list[Annotation]:
        """Glands of a picture that is sent, as polygons, which are kept in a folder."""
        region = {"level": 0, "location": [0, 0], "size": [0, 0], "min_poly_area": 0, "params": {"max_workers": 1}}
        files, data = {"file": (picture.name, picture.read_bytes())}, {"wsi": json.dumps(region)}
        answer = self.send("POST", f"/infer/wsi_v2/{MODEL}?output=asap", files=files, data=data)
        place = folder / f"{picture.stem}.xml"
        folder.mkdir(parents=True, exist_ok=True)
        place.write_bytes(answer.content)
        return read_annotations(place)

    def models(self) -> dict[str, bytes]:
        """All models in the folder of images, and the one that came with the bundle, by name."""
        paths = [*(self.tiles / "model").glob("*.pt"), self.output / "bundle" / "models" / "model.pt"]
        return {path.relative_to(self.output).as_posix(): path.read_bytes() for path in sorted(paths)}

    def outline(self, names: Sequence[str], hurried: str = "") -> None:
        """Hand in the outlines of tiles; those of a hurried one are rough, and lack the smallest gland."""
        for name in names:
            truth, place = self.output / "drawn" / "label" / f"{name}.png", self.output / "outlined" / f"{name}.xml"
            found = outlines(read_label(truth).pixels, tolerance=2.5 if name == hurried else 0.5)
            if name == hurried and len(found) > 1:
                found.remove(min(found, key=lambda gland: gland.shape.area))
            write_asap(place, [Annotation("Gland", gland.shape) for gland in found], GLAND, name)
            content = self.handed_in[name] = place.read_bytes()
            files, data = {"label": (place.name, content)}, {"params": "{}"}
            self.send("PUT", f"/datastore/label?image={name}&tag={FINAL}", files=files, data=data)
            say(f"outlined {len(found)} glands on {name}{', in a hurry' if name == hurried else ''}")

    def measure(self, stage: str, learned: Record) -> None:
        """Press run on the tiles that are held back, for a mask and for polygons, and compare with the truth."""
        pooled = PooledOverlapMetric()
        for picture, label in self.held_back:
            truth = read_label(label).pixels > 0
            mask, shapes = self.mask(picture), self.polygons(picture, self.answers / stage)
            alike = mask.shape == truth.shape and ((draw_instances(shapes, mask.shape[::-1]) > 0) == mask).mean()
            holds(alike > SAME, f"the polygons of {picture.stem} {stage} are not those of its mask")
            pooled(*(torch.from_numpy(plane)[None, None].long() for plane in (mask, truth)))
        dice = round(float(pooled.aggregate()), 4)
        teaching, judging, *more = (learned.get(key, 0) for key in ("labeled", "validation", "unlabeled", "seconds"))
        counts = (teaching + judging, judging, more[0], dice, more[1], learned.get("reason", ""))
        self.told["stages"].append({"stage": stage, **dict(zip(COLUMNS, counts, strict=True))})
        say(f"{stage}: Dice {dice} on {len(self.held_back)} tiles that are held back")

    def train(self, epochs: int, until: float = 2.0) -> Record:
        """Press train; watch it to its end, or stop it at a share of its steps. Gives what the server says of it."""
        had, shown = self.models(), time.monotonic()
        self.send("POST", f"/train/{MODEL}", json={"max_epochs": epochs, "pretrained": True})
        while (task := self.send("GET", "/train/").json())["status"] in ("SUBMITTED", "RUNNING"):
            progress = self.send("GET", "/info/").json()["train_stats"][MODEL].get("progress")
            if progress and progress["step"] >= until * progress["steps"]:
                self.send("DELETE", "/train/")
            elif progress and progress["step"] and time.monotonic() - shown > SHOWN_EVERY:
                shown = time.monotonic()
                say("  epoch {epoch} of {epochs}, loss {loss}, {seconds_left} s left".format(**progress))
            time.sleep(0.5)
        state, has = self.send("GET", "/info/").json()["train_stats"][MODEL], self.models()
        said = f"training {task['status'].lower()}: {state.get('reason')}"
        holds(task["status"] == ("DONE" if until > 1 else "STOPPED"), said)
        say(said)
        holds(set(had.values()) <= set(has.values()), "a model that served is lost")
        holds((has != had) is state.get("taken", False), "the models are not what the server says of them")
        return state

    def led_to(self) -> list[str]:
        """The tiles on which the experts disagree most, as the server leads to them one after the other."""
        scores = self.send("GET", "/info/").json()["scoring"]["disagreement"]["scores"]
        ranked = sorted(scores, key=lambda name: (-scores[name], name))
        asked = [self.send("POST", "/activelearning/disagreement", json={}) for _ in range(self.given.outlined)]
        chosen = [answer.json()["id"] for answer in asked]
        holds(chosen == ranked[: len(chosen)], f"the server leads to {chosen}, and its scores are {scores}")
        for name in [*chosen, *ranked[-len(chosen) :]]:
            seen = self.polygons(self.tiles / f"{name}.png", self.answers / "ranking")
            say(f"{'led' if name in chosen else 'not led'} to {name} ({scores[name]:.3f}): {len(seen)} glands seen")
        self.told["ranking"] = {name: scores[name] for name in ranked}
        return chosen


if __name__ == "__main__":
    sys.exit(main())
