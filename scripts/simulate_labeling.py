"""Simulate active learning: strategies select the tiles to label, and the masks of a data list replace the annotator.

    python scripts/simulate_labeling.py --output runs/labeling --dataset_dir dataset \
        --config_file "['configs/train.json','configs/sizes/demo.yaml']" --start 4 --step 4 --budget 16 --iterations 150

The masks of the `training` tiles of the data list are hidden, except for --start tiles, which depend on the seed and
are the same for all strategies but `diverse`. Each round trains a new network on the labeled tiles and all others as
unlabeled tiles, evaluates it on the test part, and labels --step more tiles: those with the highest uncertainty
(disagreement), random ones (random), the next by name (first), or those that represent most others by features of the
untrained encoder, and of these the most uncertain (diverse; it also selects its own first tiles). The checkpoint is
selected on the validation part, which is fully labeled.

Each round updates results.json, results.csv and dice.png in OUTPUT. Repeat the command to resume after the last
finished round; it may then have more seeds, more strategies and a larger budget. Overrides of the training are
accepted: --network_def#widths "[8,16,32,64,128]".
"""

from __future__ import annotations

import argparse
import copy
import functools
import os
import shutil
import signal
import sys
import time
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

ROOT = Path(__file__).resolve().parents[1]
sys.path.insert(0, str(ROOT))

from scripts.interruption import end_without_traceback

end_without_traceback()

from fire.parser import DefaultParseValue
from monai.bundle import ConfigParser
from monai.utils import ensure_tuple

from bundle.data import images_digest
from bundle.engines.error_summary import sentence
from bundle.inference import EncoderFeatures, annotation_order, next_diverse
from bundle.networks.encoders import Encoder
from bundle.types import LABEL
from scripts import benchmarking as benchmark
from scripts.benchmarking.processes import Children
from scripts.benchmarking.results import last_line
from scripts.reporting.labeling import DIVERSE, LOOKS, START, write_summary

FORM = "semi_moe.labeling/1"
"""Format of the results."""
EPOCH_LENGTH, PATIENCE = "train#trainer#epoch_length", "train#early_stop#patience"
FIXED = ("seed", EPOCH_LENGTH, PATIENCE, "resume", "output_dir", "ckpt_dir", "bundle_root")
PARTS = ("train#dataset#data", "train#unlabeled_dataset#data")
"""Settings that this program sets: fixed ones, and the training data of a round."""
Record = dict[str, Any]
say = functools.partial(print, flush=True)


class Round(NamedTuple):
    """One training: its seed, the strategy that selected its tiles, and the number of labeled tiles."""

    seed: int
    strategy: str
    tiles: int

    def __str__(self) -> str:
        return f"seed{self.seed}-{self.strategy}-{self.tiles}"


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the program. Exit codes: 0 success, 1 error, 2 invalid command line, 130 interrupted."""
    given, overrides = _parser().parse_known_args(arguments)
    before = signal.signal(signal.SIGTERM, signal.default_int_handler)
    try:
        changes = benchmark.settings_of(overrides)
        _check(given, changes)
        benchmark.check_output(ROOT, given.output, given.dataset_dir)
        with benchmark.OutputLock(given.output, "simulation") as lock:
            Simulation(given, changes, lock).run()
    except (OSError, ValueError, KeyError, TypeError, RuntimeError) as error:
        print(f"simulate_labeling: {sentence(error)}", file=sys.stderr)
        return 1
    except KeyboardInterrupt:
        print("simulate_labeling: stopped; repeat the command to resume after the last finished round", file=sys.stderr)
        return 130
    finally:
        signal.signal(signal.SIGTERM, before)
    return 0


def _parser() -> argparse.ArgumentParser:
    how = argparse.RawDescriptionHelpFormatter
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=how, allow_abbrev=False)
    add = parser.add_argument
    add("--output", type=Path, required=True, help="output folder for results and plot")
    add("--config_file", default=str(ROOT / "configs" / "train.json"), help="configs (default: configs/train.json)")
    add("--dataset_dir", type=Path, default=ROOT / "dataset", help="data folder (default: dataset)")
    add("--data_list", default="heldout_100_seed0.json", help="data list whose training tiles are selected")
    add("--strategies", nargs="+", default=list(LOOKS), choices=list(LOOKS), help="strategies (default: all)")
    add("--seeds", nargs="+", type=int, default=[0, 1, 2], help="random seeds (default: 0 1 2)")
    add("--start", type=int, default=4, help="labeled tiles in the first round (default: 4)")
    add("--step", type=int, default=4, help="tiles to label after each round (default: 4)")
    add("--budget", type=int, default=16, help="labeled tiles in the last round (default: 16)")
    add("--iterations", type=int, default=150, help="steps per round, rounded up to equal epochs (default: 150)")
    add("--warm", action="store_true", help="start each round from the network of the previous round")
    add("--score", default="disagreement", choices=["disagreement", "entropy"], help="entropy works for all networks")
    return parser


def _check(given: argparse.Namespace, changes: Mapping[str, Any]) -> None:
    """Check the command line and make its paths absolute."""
    if min(given.start, given.step, given.iterations) < 1 or given.budget < given.start:
        raise ValueError("--start, --step and --iterations must be at least 1, and --budget at least --start")
    if fixed := [key for key in changes if key in FIXED or key.startswith(PARTS)]:
        raise ValueError(f"--{fixed[0]}: the simulation sets this; use --seeds, --iterations or --output")
    for name in ("output", "dataset_dir"):
        setattr(given, name, getattr(given, name).expanduser().absolute())


class Simulation:
    """All rounds of a command line and their results so far; ``changes`` are overrides of the configs."""

    def __init__(self, given: argparse.Namespace, changes: Mapping[str, Any], lock: benchmark.OutputLock) -> None:
        self.given, self.lock = given, lock
        self.files = [os.path.abspath(file) for file in ensure_tuple(DefaultParseValue(given.config_file))]
        epochs = ConfigParser(benchmark.merged(ROOT, self.files, changes)).get_parsed_content("max_epochs")
        length = self.length = benchmark.length_of(given.iterations, epochs)
        lasting = {"max_epochs": length.epochs, EPOCH_LENGTH: length.epoch_length, PATIENCE: length.epochs + 1}
        where = {"bundle_root": str(ROOT), "dataset_dir": str(given.dataset_dir), "data_list": given.data_list}
        self.settings = {**changes, **where, **lasting, "resume": False}
        self.config = benchmark.merged(ROOT, self.files, self.settings)
        self.parts = ConfigParser(copy.deepcopy(self.config)).get_parsed_content("data#datalist")
        pool, tests = self.parts["training"], len(self.parts["test"])
        if given.budget > len(pool) or not tests:
            raise ValueError(
                f"{given.data_list} has {len(pool)} tiles with masks in 'training' and {tests} in 'test'; "
                f"--budget {given.budget} requires as many training tiles, and at least one test tile"
            )
        self.tiles = {Path(os.path.relpath(tile["image"], given.dataset_dir)).as_posix(): tile for tile in pool}
        own = {name: getattr(given, name) for name in ("start", "step", "warm", "score")}
        flat = benchmark.resolved(ROOT, self.files, [], self.settings) | own | {"images": images_digest(self.parts)}
        here = {**benchmark.code_state(ROOT), "versions": benchmark.versions(ROOT)}
        path, fresh = given.output / "results.json", {"format": FORM, "config": flat, **here, "rounds": {}}
        self.results = benchmark.read_json(path, FORM) if path.is_file() else fresh
        if changed := benchmark.differences(self.results["config"], flat):
            raise ValueError(f"{path} has other settings: {changed}; use these settings or another --output")

    def rounds(self) -> Iterator[tuple[Round, Round | None]]:
        """Yield all rounds in the order of execution, each with its previous round."""
        for seed in dict.fromkeys(self.given.seeds):
            start = Round(seed, START, self.given.start)
            if set(self.given.strategies) != {DIVERSE}:
                yield start, None
            for strategy in dict.fromkeys(self.given.strategies):
                before = start
                if strategy == DIVERSE:
                    yield (before := Round(seed, DIVERSE, self.given.start)), None
                while before.tiles < self.given.budget:
                    count = min(before.tiles + self.given.step, self.given.budget)
                    yield (this := Round(seed, strategy, count)), before
                    before = this

    def run(self) -> None:
        """Run all unfinished rounds."""
        rounds, results = list(self.rounds()), self.results["rounds"]
        waiting = [(this, before) for this, before in rounds if str(this) not in results]
        say(f"{len(rounds)} rounds of {self.length.steps} steps, {len(rounds) - len(waiting)} of them done")
        for remaining, (this, before) in zip(range(len(waiting))[::-1], waiting, strict=True):
            record = results[str(this)] = self._round(this, before)
            benchmark.write_json(self.given.output / "results.json", self.results)
            write_summary(results, self.given.output)
            score = "{} {:.4f}".format(*next(iter(record["metrics"].items())))
            seconds = remaining * sum(finished["seconds"] for finished in results.values()) / len(results)
            say(f"[{len(rounds) - remaining}/{len(rounds)}] {this}: {score}; about {benchmark.duration(seconds)} left")
        say(write_summary(results, self.given.output))

    def _round(self, this: Round, before: Round | None) -> Record:
        """Select tiles, train, evaluate, and score the remaining tiles."""
        started = time.monotonic()
        last = self.results["rounds"][str(before)] if before else {"outlined": [], "scores": {}}
        waiting = set(self.tiles) - set(last["outlined"])
        picked = self._select(this, waiting, last)
        labels = [f"{name} ({last['scores'][name]:.3f})" if name in last["scores"] else name for name in picked]
        say(f"{this} labels {', '.join(labels)}")
        outlined, waiting = [*last["outlined"], *picked], waiting - set(picked)
        models = self._train(this, before, outlined) / "models"
        candidates = {
            name: self.tiles[name] for name in sorted(waiting) if this.strategy in (START, "disagreement", DIVERSE)
        }
        metrics, scores = evaluate(self.config, models, self.parts["test"], candidates, self.given.score)
        shutil.rmtree(models / ("checkpoints" if self.given.warm else "."), ignore_errors=True)
        record = {**this._asdict(), "picked": picked, "outlined": outlined, "metrics": metrics, "scores": scores}
        return {**record, "seconds": round(time.monotonic() - started, 1)}

    def _select(self, this: Round, waiting: set[str], last: Mapping[str, Any]) -> list[str]:
        """Return the tiles that the strategy of a round selects; ``last`` is the record of the previous round."""
        count, picked = this.tiles - len(last["outlined"]), list[str]()
        if this.strategy != DIVERSE:
            strategy, seed = (
                ("random", f"{START} {this.seed}") if this.strategy == START else (this.strategy, f"{this.seed}")
            )
            return annotation_order(strategy, waiting, last["scores"], seed)[:count]
        patients = {name: tile["patient"] for name, tile in self.tiles.items() if "patient" in tile}
        while len(picked) < count:
            labeled = [*last["outlined"], *picked]
            picked.append(next_diverse(self.features, labeled, patients, last["scores"] or None, this.seed))
        return picked

    @functools.cached_property
    def features(self) -> dict[str, Any]:
        """Features of all tiles, from the encoder as the config creates it, before any training."""
        parser = ConfigParser(copy.deepcopy(self.config))
        network, preprocessing = (parser.get_parsed_content(key) for key in ("network_def", "validate#preprocessing"))
        read = EncoderFeatures(next(part for part in network.modules() if isinstance(part, Encoder)), preprocessing)
        return {name: read(without_label(tile)) for name, tile in self.tiles.items()}

    def _train(self, this: Round, before: Round | None, outlined: list[str]) -> Path:
        """Run one training from its first step in a separate process; return its folder."""
        folder = self.given.output / "rounds" / str(this)
        shutil.rmtree(folder, ignore_errors=True)
        hidden = [without_label(tile) for name, tile in self.tiles.items() if name not in outlined]
        paths = {"ckpt_dir": str(folder / "models"), "output_dir": str(folder / "training"), "seed": this.seed}
        data = {PARTS[0]: [self.tiles[name] for name in outlined], PARTS[-1]: hidden + self.parts["unlabeled"]}
        content = {**self.settings, **paths, **data}
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
            while not (finished := children.wait(60.0)):
                pass
        finally:
            children.stop()
        if finished[0].exit_code:
            raise RuntimeError(f"the training of {this} failed: {last_line(log)} (see {log})")
        return folder


def evaluate(
    config: Record, ckpt_dir: Path, test: list[Record], candidates: Mapping[str, Record], score: str
) -> tuple[dict[str, float], dict[str, float]]:
    """Return the metrics of a network on test tiles, the protocol's metric first, and the scores of the candidates."""
    parser, model = ConfigParser(copy.deepcopy(config)), str(ckpt_dir / "model.pt")
    loader = {"_target_": "bundle.engines.ModelCheckpointLoader", "network": "@validate#network", "path": model}
    parser.update({"validate#handlers": [loader], "validate#dataset#data": test, "validate#dataset#cache_rate": 0.0})
    scoring = ConfigParser.load_config_file(ROOT / "configs" / "inference" / "scoring.yaml")
    names = {"preprocessing": "@validate#preprocessing", "inferer": "@validate#inferer"}
    names["scorer#network"] = "@validate#network"
    parser.update({**scoring, **names, "score": score})
    evaluator, scorer = (parser.get_parsed_content(key) for key in ("validate#evaluator", "scorer"))
    evaluator.run()
    values = evaluator.state.metrics
    metrics = {name: float(values[name]) for name in dict.fromkeys([evaluator.state.key_metric_name, *values])}
    return metrics, {name: scorer(without_label(tile)) for name, tile in candidates.items()}


def without_label(tile: Record) -> Record:
    """Return an entry of a data list without its mask."""
    return {key: value for key, value in tile.items() if key != LABEL}


if __name__ == "__main__":
    sys.exit(main())
