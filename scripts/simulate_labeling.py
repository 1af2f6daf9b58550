"""Simulate whether active learning helps: masks of a data list play the pathologist, strategies choose the tiles.

    python scripts/simulate_labeling.py --output runs/labeling --dataset_dir dataset \
        --config_file "['configs/train.json','configs/sizes/demo.yaml']" --start 4 --step 4 --budget 16 --iterations 150

The tiles under `training` of the data list have masks, which are hidden but for --start of them, drawn by the seed and
the same for all strategies. Each round trains a new network on the outlined tiles, with all others as unlabeled ones,
measures it on the test part, and has --step more outlined: those that it doubts most (disagreement), a draw by the seed
(random), or the next by name (first). The checkpoint is chosen on the validation part, whose tiles are outlined too.

OUTPUT gets results.json, results.csv and dice.png after each round. The same command again goes on after the last round
that was finished; more seeds, strategies and a larger budget may be asked for later. Takes overrides as a training
does: --network_def#widths "[8,16,32,64,128]".
"""

from __future__ import annotations

import argparse
import copy
import csv
import functools
import os
import shutil
import signal
import sys
import time
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

from fire.parser import DefaultParseValue
from monai.bundle import ConfigParser
from monai.utils import ensure_tuple
from PIL import Image, ImageDraw, ImageFont

ROOT = Path(__file__).resolve().parents[1]
sys.path.insert(0, str(ROOT))

from bundle import benchmark
from bundle.benchmark.processes import Children
from bundle.benchmark.results import last_line
from bundle.data import images_digest
from bundle.engines.error_summary import sentence
from bundle.handlers.drawing import INK, PALE, PAPER
from bundle.inference import outlining_order
from bundle.inference.files import hidden_until_done
from bundle.report import markdown
from bundle.report.charts import Frame, number, ticks, widened
from bundle.report.definitions import definition
from bundle.report.statistics import spread
from bundle.report.tables import shown
from bundle.types import LABEL

FORM, START = "semi_moe.labeling/1", "start"
"""Format of the results; and what stands in place of a strategy in the first round of a seed, which all share."""
FIXED = ("seed", "epoch_length", "patience", "resume", "output_dir", "ckpt_dir", "bundle_root")
PARTS = ("train#dataset#data", "train#unlabeled_dataset#data", "unlabeled")
"""Settings that this program makes itself, and of them what a round trains on."""
LOOKS = {"disagreement": ((213, 94, 0), 32), "random": ((0, 114, 178), 4), "first": ((0, 130, 100), 3)}
"""By strategy: color (of Okabe and Ito's palette, told apart by color-blind readers), and corners of its mark."""

Record = dict[str, Any]
say = functools.partial(print, flush=True)


class Round(NamedTuple):
    """One training: its seed, the strategy that chose its tiles, and how many are outlined."""

    seed: int
    strategy: str
    tiles: int

    def __str__(self) -> str:
        return f"seed{self.seed}-{self.strategy}-{self.tiles}"


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the program; 0 is good, 1 an error that the last line explains, 2 a wrong command line, 130 a Ctrl-C."""
    given, words = _parser().parse_known_args(arguments)
    before = signal.signal(signal.SIGTERM, signal.default_int_handler)
    try:
        changes = benchmark.settings_of(words)
        _check(given, changes)
        benchmark.check_output(ROOT, given.output, given.dataset_dir)
        with benchmark.OutputLock(given.output, "simulation") as lock:
            Simulation(given, changes, lock).run()
    except (OSError, ValueError, KeyError, TypeError, RuntimeError) as error:
        print(f"simulate_labeling: {sentence(error)}", file=sys.stderr)
        return 1
    except KeyboardInterrupt:
        print("simulate_labeling: stopped; the same command goes on from the last finished round", file=sys.stderr)
        return 130
    finally:
        signal.signal(signal.SIGTERM, before)
    return 0


def _parser() -> argparse.ArgumentParser:
    how = argparse.RawDescriptionHelpFormatter
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=how, allow_abbrev=False)
    add = parser.add_argument
    add("--output", type=Path, required=True, help="folder of results and plot")
    add("--config_file", default=str(ROOT / "configs" / "train.json"), help="configs of the training")
    add("--dataset_dir", type=Path, default=ROOT / "dataset", help="folder of the data (default dataset)")
    add("--data_list", default="heldout_100_seed0.json", help="list whose training part is chosen from")
    add("--strategies", nargs="+", default=list(LOOKS), choices=list(LOOKS), help="default: all")
    add("--seeds", nargs="+", type=int, default=[0, 1, 2], help="of first tiles, draws and trainings (default 0 1 2)")
    add("--start", type=int, default=4, help="tiles that are outlined at first (default 4)")
    add("--step", type=int, default=4, help="tiles that are outlined after each round (default 4)")
    add("--budget", type=int, default=16, help="tiles that are outlined in the end (default 16)")
    add("--iterations", type=int, default=150, help="steps of a round, rounded up to equal epochs (default 150)")
    add("--warm", action="store_true", help="each round goes on with the last round's network, not with a new one")
    add("--score", default="disagreement", choices=["disagreement", "entropy"], help="entropy suits every network")
    return parser


def _check(given: argparse.Namespace, changes: Mapping[str, Any]) -> None:
    """Refuse a command line that cannot be meant; make paths absolute."""
    if min(given.start, given.step, given.iterations) < 1 or given.budget < given.start:
        raise ValueError("--start, --step and --iterations are at least 1, and --budget is at least --start")
    if wrong := [key for key in changes if key in FIXED or key.startswith(PARTS)]:
        raise ValueError(f"--{wrong[0]}: the simulation sets that itself; see --seeds, --iterations, --output")
    for name in ("output", "dataset_dir"):
        setattr(given, name, getattr(given, name).expanduser().absolute())


class Simulation:
    """All rounds of a command line, and what they gave so far; ``changes`` are overrides of the configs."""

    def __init__(self, given: argparse.Namespace, changes: Mapping[str, Any], lock: benchmark.OutputLock) -> None:
        self.given, self.lock = given, lock
        self.files = [os.path.abspath(file) for file in ensure_tuple(DefaultParseValue(given.config_file))]
        epochs = ConfigParser(benchmark.merged(ROOT, self.files, changes)).get_parsed_content("max_epochs")
        length = self.length = benchmark.length_of(given.iterations, epochs)
        lasting = {"max_epochs": length.epochs, "epoch_length": length.epoch_length, "patience": length.epochs + 1}
        where = {"bundle_root": str(ROOT), "dataset_dir": str(given.dataset_dir), "data_list": given.data_list}
        self.settings = {**changes, **where, **lasting, "resume": False}
        self.config = benchmark.merged(ROOT, self.files, self.settings)
        self.parts = ConfigParser(copy.deepcopy(self.config)).get_parsed_content("datalist")
        pool, tests = self.parts["training"], len(self.parts["test"])
        if given.budget > len(pool) or not tests:
            raise ValueError(
                f"{given.data_list} has {len(pool)} tiles with masks under 'training' and {tests} under 'test'; "
                f"--budget {given.budget} needs as many of the first, and at least one of the other"
            )
        self.tiles = {Path(os.path.relpath(tile["image"], given.dataset_dir)).as_posix(): tile for tile in pool}
        own = {name: getattr(given, name) for name in ("start", "step", "warm", "score")}
        flat = benchmark.resolved(ROOT, self.files, [], self.settings) | own | {"images": images_digest(self.parts)}
        here = {**benchmark.code_state(ROOT), "versions": benchmark.versions(ROOT)}
        path, fresh = given.output / "results.json", {"format": FORM, "config": flat, **here, "rounds": {}}
        self.results = benchmark.read_json(path, FORM) if path.is_file() else fresh
        if told := benchmark.differences(self.results["config"], flat):
            raise ValueError(f"{path} is of other settings: {told}; give those, or another --output")

    def rounds(self) -> Iterator[tuple[Round, Round | None]]:
        """All rounds in the order in which they run, each with the one before it."""
        for seed in dict.fromkeys(self.given.seeds):
            start = Round(seed, START, self.given.start)
            yield start, None
            for strategy in dict.fromkeys(self.given.strategies):
                before = start
                while before.tiles < self.given.budget:
                    count = min(before.tiles + self.given.step, self.given.budget)
                    yield (this := Round(seed, strategy, count)), before
                    before = this

    def run(self) -> None:
        """Run what is not done yet."""
        rounds, known = list(self.rounds()), self.results["rounds"]
        waiting = [(this, before) for this, before in rounds if str(this) not in known]
        say(f"{len(rounds)} rounds of {self.length.steps} steps, {len(rounds) - len(waiting)} of them done")
        for left, (this, before) in zip(range(len(waiting))[::-1], waiting, strict=True):
            record = known[str(this)] = self._round(this, before)
            benchmark.write_json(self.given.output / "results.json", self.results)
            tell(known, self.given.output)
            rest = benchmark.duration(left * sum(one["seconds"] for one in known.values()) / len(known))
            told = "{} {:.4f}".format(*next(iter(record["metrics"].items())))
            say(f"[{len(rounds) - left}/{len(rounds)}] {this}: {told}; about {rest} left")
        say(tell(known, self.given.output))

    def _round(self, this: Round, before: Round | None) -> Record:
        """Choose, train, measure and score."""
        begun = time.monotonic()
        last = self.results["rounds"][str(before)] if before else {"outlined": [], "scores": {}}
        waiting = set(self.tiles) - set(last["outlined"])
        strategy, seed = (this.strategy, f"{this.seed}") if before else ("random", f"{START} {this.seed}")
        order = outlining_order(strategy, waiting, last["scores"], seed)
        picked = order[: this.tiles - len(last["outlined"])]
        named = [f"{name} ({last['scores'][name]:.3f})" if name in last["scores"] else name for name in picked]
        say(f"{this} outlines {', '.join(named)}")
        outlined, waiting = [*last["outlined"], *picked], waiting - set(picked)
        models = self._train(this, before, outlined) / "models"
        asked = {name: self.tiles[name] for name in sorted(waiting) if this.strategy in (START, "disagreement")}
        metrics, scores = judged(self.config, models, self.parts["test"], asked, self.given.score)
        shutil.rmtree(models / ("checkpoints" if self.given.warm else "."), ignore_errors=True)
        record = {**this._asdict(), "picked": picked, "outlined": outlined, "metrics": metrics, "scores": scores}
        return {**record, "seconds": round(time.monotonic() - begun, 1)}

    def _train(self, this: Round, before: Round | None, outlined: list[str]) -> Path:
        """Run one training in a process of its own, from its first step; gives its folder."""
        folder = self.given.output / "rounds" / str(this)
        shutil.rmtree(folder, ignore_errors=True)
        hidden = [without_label(tile) for name, tile in self.tiles.items() if name not in outlined]
        places = {"ckpt_dir": str(folder / "models"), "output_dir": str(folder / "training"), "seed": this.seed}
        data = {PARTS[0]: [self.tiles[name] for name in outlined], PARTS[-1]: hidden + self.parts["unlabeled"]}
        content = {**self.settings, **places, **data}
        if before and self.given.warm:
            model = str(self.given.output / "rounds" / str(before) / "models" / "model.pt")
            loader = {"_target_": "bundle.engines.ModelCheckpointLoader", "network": "@network", "path": model}
            content["+train#handlers"] = [loader]
        benchmark.write_json(folder / "training.json", content)
        files = [*self.files, str(folder / "training.json")]
        command = benchmark.bundle_command(sys.executable, ROOT, "training", files)
        children, log = Children(self.lock.inherited), folder / "log.txt"
        try:
            children.start(str(this), command, log, ROOT, os.environ)
            self.lock.note(children.processes())
            while not (ended := children.wait(60.0)):
                pass
        finally:
            children.stop()
        if ended[0].exit_code:
            raise RuntimeError(f"the training of {this} failed: {last_line(log)} (log: {log})")
        return folder


def judged(
    config: Record, ckpt_dir: Path, test: list[Record], asked: Mapping[str, Record], score: str
) -> tuple[dict[str, float], dict[str, float]]:
    """Metrics of a trained network on test tiles, the protocol's own first, and the scores of tiles by name."""
    parser, model = ConfigParser(copy.deepcopy(config)), str(ckpt_dir / "model.pt")
    loader = {"_target_": "bundle.engines.ModelCheckpointLoader", "network": "@evaluated", "path": model}
    parser.update({"validate#handlers": [loader], "validate#dataset#data": test, "validate#dataset#cache_rate": 0.0})
    scoring = ConfigParser.load_config_file(ROOT / "configs" / "inference" / "scoring.yaml")
    names = {"preprocessing": "@validate#preprocessing", "inferer": "@window_inferer", "scorer#network": "@evaluated"}
    parser.update({**scoring, **names, "score": score})
    evaluator, scorer = (parser.get_parsed_content(key) for key in ("validate#evaluator", "scorer"))
    evaluator.run()
    found = evaluator.state.metrics
    metrics = {name: float(found[name]) for name in dict.fromkeys([evaluator.state.key_metric_name, *found])}
    return metrics, {name: scorer(without_label(tile)) for name, tile in asked.items()}


def without_label(tile: Record) -> Record:
    """An entry of a data list whose mask is hidden."""
    return {key: value for key, value in tile.items() if key != LABEL}


def tell(known: Mapping[str, Record], output: Path) -> str:
    """Write the table of all rounds and the plot; gives means and deviations over seeds as Markdown."""
    records = sorted(known.values(), key=lambda one: (one["seed"], one["tiles"], one["strategy"]))
    metric, ran = next(iter(records[0]["metrics"])), {one["strategy"] for one in records}
    found: dict[str, dict[int, list[float]]] = {name: {} for name in LOOKS if name in ran}
    with hidden_until_done(output / "results.csv") as place, place.open("w", newline="", encoding="utf-8") as file:
        table = csv.writer(file)
        table.writerow(["seed", "strategy", "outlined", *records[0]["metrics"], "seconds", "picked"])
        for one in records:
            told = (*one["metrics"].values(), one["seconds"], " ".join(one["picked"]))
            table.writerow([one["seed"], one["strategy"], one["tiles"], *told])
            for strategy in found if one["strategy"] == START else [one["strategy"]]:
                found[strategy].setdefault(one["tiles"], []).append(one["metrics"][metric])
    counts = sorted({one["tiles"] for one in records})
    draw_plot(found, counts, definition(metric).title, output / "dice.png")
    means = {count: [spread(one[count]) if count in one else None for one in found.values()] for count in counts}
    rows = [[str(count), *(shown(one, 3) for one in row)] for count, row in means.items()]
    return markdown((["tiles", *found], rows))


def draw_plot(found: Mapping[str, Mapping[int, list[float]]], counts: list[int], title: str, path: Path) -> None:
    """Write the plot: the mean over seeds as a line, each seed as a small mark; by strategy and outlined tiles."""
    values = [value for series in found.values() for some in series.values() for value in some] or [0.0, 1.0]
    frame = Frame(widened(counts), widened(values), 1600, 1100, 150, 40, 110, 140)
    canvas = Image.new("RGB", (frame.width, frame.height), PAPER)
    draw, font = ImageDraw.Draw(canvas), ImageFont.load_default(size=36)
    foot, right = frame.height - frame.bottom, frame.width - frame.right
    for value in ticks(*frame.y):
        draw.line((frame.left, frame.down(value), right, frame.down(value)), (222, 222, 226), 2)
        draw.text((frame.left - 15, frame.down(value)), number(value), PALE, font, anchor="rm")
    for count in counts:
        draw.text((frame.across(count), foot + 15), str(count), PALE, font, anchor="mt")
    words = f"{title} on test over outlined tiles; lines: mean, small marks: each seed"
    draw.text((right, frame.height - 30), words, INK, font, anchor="rs")
    for place, (strategy, series) in enumerate(found.items()):
        color, corners = LOOKS[strategy]
        means = [(frame.across(count), frame.down(sum(some) / len(some))) for count, some in series.items()]
        draw.line(means, color, 6, joint="curve")
        key = frame.left + 30 + 480 * place
        draw.text((key + 40, 50), strategy, INK, font, anchor="lm")
        for x, y in [*means, (key, 50)]:
            draw.regular_polygon((x, y, 20), corners, fill=color, outline=PAPER)
        for count, some in series.items():
            for value in some:  # beside the line, so that strategies do not hide each other
                spot = (frame.across(count) + 28 * (place - 1), frame.down(value), 10)
                draw.regular_polygon(spot, corners, outline=color, width=3)
    with hidden_until_done(path) as hidden:
        canvas.resize((frame.width // 2, frame.height // 2), Image.Resampling.LANCZOS).save(hidden)


if __name__ == "__main__":
    sys.exit(main())
