"""Measure how well maps of doubt find the wrong pixels of a trained network with experts and gates.

    python scripts/measure_disagreement.py --dataset_dir DIR --ckpt_dir DIR \
        --config_file "['configs/train.json','configs/evaluate.json']"

Takes the words of the evaluating run: its configs and its overrides. The network answers each image of the test part
once; each candidate makes a map of doubt of what experts and gates said. The table has, for each candidate: the area
under the ROC curve of the map as a detector of wrong pixels (0.5 is chance); the share of all wrong pixels that lie in
the most doubtful 5 % (5 % is chance); and the rank correlation, over the images, of the mean doubt of an image with its
share of wrong pixels, which is what counts where a map chooses the images that a person shall label next.
"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

ROOT = Path(__file__).resolve().parents[1]
sys.path.insert(0, str(ROOT))

HEADS = {
    **{"fused_seg": "logits", "seg": "logits", "fused_sdf": "tanh", "sdf": "tanh"},
    **{"fused_boundary": "probability", "boundary": "probability"},
}
"""What is asked of the network, and in which form; the first is the answer whose wrong pixels are looked for."""
DOUBTFUL = 0.05
"""Share of the pixels, most doubtful first, in which wrong ones are counted."""
DATA = "validate#dataset#data"

Plane = NDArray[np.float32]
Maps = dict[str, Plane]
"""Of one image, by head: probabilities of classes (C, H, W); of gland or boundary, and not (2, H, W)."""
Candidate = Callable[[Maps], Plane]


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the program; 0 is good, 1 an error that the last line explains, 2 a wrong command line, 130 a Ctrl-C."""
    from bundle.benchmark import settings_of
    from bundle.engines.error_summary import sentence

    options = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    options.add_argument("--config_file", required=True, help="configs of the evaluating run")
    options.add_argument("--part", default="test", choices=["validation", "test"], help="part of the data list")
    given, words = options.parse_known_args(arguments)
    try:
        changes = settings_of(words)
    except ValueError as error:
        options.error(str(error))
    try:
        print(as_text(measured(given.config_file, changes, given.part)))
    except (OSError, ValueError, KeyError, TypeError, RuntimeError) as error:
        print(f"measure_disagreement: {sentence(error)}", file=sys.stderr)
        return 1
    except KeyboardInterrupt:
        print("measure_disagreement: stopped", file=sys.stderr)
        return 130
    return 0


def measured(config_file: str, changes: dict[str, Any], part: str) -> dict[str, tuple[float, float, float]]:
    """The three figures of each candidate, by its name."""
    from bundle.inference import kept_answers  # late: --help needs no torch
    from bundle.types import IGNORE

    records = kept_answers(configured(config_file, changes, part).get_parsed_content("validate#evaluator"), ("image",))
    wrong, doubts = [], {name: list[Plane]() for name in CANDIDATES}
    for record in records:
        label = np.asarray(record["label"])[0]
        known = label != IGNORE
        maps = {name: _probabilities(np.asarray(record[name], np.float32), form) for name, form in HEADS.items()}
        wrong.append((maps["fused_seg"].argmax(axis=0) != label)[known])
        for name, candidate in CANDIDATES.items():
            doubts[name].append(candidate(maps)[known])
    return {name: figures(maps, wrong) for name, maps in doubts.items()}


def configured(config_file: str, changes: dict[str, Any], part: str) -> Any:
    """The configs of the evaluating run with all heads in its answer, and with nothing to write and nothing to score.

    Raises:
        ValueError: for overrides of the data, which ``--part`` names.
    """
    from fire.parser import DefaultParseValue
    from monai.bundle import ConfigParser

    if any(key.startswith(DATA) for key in changes):
        raise ValueError(f"the images are those of a part of the data list; leave --{DATA} out, and name the --part")
    parser = ConfigParser()
    parser.read_config(DefaultParseValue(config_file))
    parser.update(changes)
    parser[DATA] = {"_target_": "bundle.data.required_part", "datalist": "@datalist", "part": part}
    wanted = ("CheckpointLoader", "RunProgress")  # the rest writes files
    parser["validate#handlers"] = [one for one in parser["validate#handlers"] if one["_target_"].endswith(wanted)]
    parser["validate#evaluator#key_val_metric"] = None
    parser["validate#evaluator#additional_metrics"] = None
    parser["answer"] = {"_target_": "bundle.inference.StackedHeads", "network": "@evaluated", "heads": HEADS}
    parser["validate#evaluator#network"] = "@answer"
    parts = {name: "@classes" if form == "logits" else 1 for name, form in HEADS.items()}
    unstacked = {"_target_": "bundle.inference.UnstackHeadsd", "key": "pred", "parts": parts}
    parser["validate#postprocessing#transforms"] = [parser["validate#postprocessing#transforms"][0], unstacked]
    return parser


def _probabilities(head: Plane, form: str) -> Plane:
    """A head as probabilities that add up to 1 at each pixel."""
    from scipy.special import softmax

    if form == "logits":
        return softmax(head, axis=0)
    chance = (1 + head[0]) / 2 if form == "tanh" else head[0]
    return np.stack([1 - chance, chance])


def entropy(probabilities: Plane) -> Plane:
    """Entropy (H, W) of probabilities (C, H, W), in units of a toss among the C classes."""
    from scipy.special import entr

    return entr(probabilities).sum(axis=0) / np.log(len(probabilities))


def divergence(opinions: Sequence[Plane]) -> Plane:
    """Jensen-Shannon divergence (H, W) of opinions (C, H, W): the mutual information of the pixel and who speaks."""
    return np.maximum(entropy(np.mean(opinions, axis=0)) - np.mean([entropy(one) for one in opinions], axis=0), 0)


def tasks_apart(maps: Maps) -> Plane:
    """Mean over the tasks of the divergence between an expert's own answer and the gate's."""
    return np.mean([divergence([maps[name], maps[f"fused_{name}"]]) for name in ("seg", "sdf", "boundary")], axis=0)


def glands(*pairs: tuple[str, str]) -> Callable[[Maps], list[Plane]]:
    """Opinions about the class of a pixel: of scores, and of a distance with the classes of the scores beside it."""

    def opinions(maps: Maps) -> list[Plane]:
        found: list[Plane] = []
        for seg, sdf in pairs:
            kinds = maps[seg][1:] / np.maximum(maps[seg][1:].sum(axis=0), np.finfo(np.float32).tiny)
            of_distance = np.concatenate([maps[sdf][:1], maps[sdf][1] * kinds]) if sdf else None
            found += [maps[seg]] if of_distance is None else [maps[seg], of_distance]
        return found

    return opinions


FOUR = glands(("seg", "sdf"), ("fused_seg", "fused_sdf"))
THREE = glands(("seg", "sdf"), ("fused_seg", ""))
TWO = glands(("seg", ""), ("fused_seg", ""))

CANDIDATES: dict[str, Candidate] = {
    "entropy of the answer alone": lambda maps: entropy(maps["fused_seg"]),
    "divergence expert, gate: 3 tasks": tasks_apart,
    "divergence of 2 segmentations": lambda maps: divergence(TWO(maps)),
    "divergence of 3 opinions": lambda maps: divergence(THREE(maps)),
    "divergence of 4 opinions": lambda maps: divergence(FOUR(maps)),
    "entropy of the mean of 2": lambda maps: entropy(np.mean(TWO(maps), axis=0)),
    "entropy of the mean of 3": lambda maps: entropy(np.mean(THREE(maps), axis=0)),
    "entropy of the mean of 4": lambda maps: entropy(np.mean(FOUR(maps), axis=0)),
}
"""Opinions, in this order: seg and fused_seg (2); and sdf (3); and fused_sdf (4). The last is the bundle's own map,
``bundle.inference.consensus_entropy``; the first is the baseline that needs no expert."""


def figures(doubts: Sequence[Plane], wrong: Sequence[NDArray[np.bool_]]) -> tuple[float, float, float]:
    """Area under the curve, share of the wrong pixels in the most doubtful ones, and rank correlation of the images.

    Args:
        doubts: values of the known pixels, an array an image.
        wrong: whether each of these pixels is wrong.

    Returns:
        ``nan`` where a figure means nothing: all pixels right, all wrong, or fewer than three images.
    """
    from scipy.stats import rankdata, spearmanr

    doubt, fault = np.concatenate(doubts), np.concatenate(wrong)
    bad, good = int(fault.sum()), int((~fault).sum())
    area = share = correlation = float("nan")
    if bad and good:
        area = float((rankdata(doubt)[fault].sum() - bad * (bad + 1) / 2) / (bad * good))
        most = np.argsort(-doubt, kind="stable")[: max(1, round(DOUBTFUL * len(doubt)))]
        share = float(fault[most].sum() / bad)
    means, shares = [float(one.mean()) for one in doubts], [float(one.mean()) for one in wrong]
    if len(means) > 2 and len(set(means)) > 1 and len(set(shares)) > 1:
        correlation = float(spearmanr(means, shares).statistic)
    return area, share, correlation


def as_text(table: dict[str, tuple[float, float, float]]) -> str:
    """The table, a line a candidate."""
    wide = max(map(len, table))
    lines = [f"{'map of doubt':<{wide}}{'AUROC':>9}{'in 5 %':>9}{'images':>9}"]
    return "\n".join([*lines, *(f"{name:<{wide}}{a:>9.3f}{b:>9.3f}{c:>9.3f}" for name, (a, b, c) in table.items())])


if __name__ == "__main__":
    sys.exit(main())
