"""Measure how well uncertainty maps detect the wrong pixels of a trained network with experts and gates.

    python scripts/dev/measure_disagreement.py --dataset_dir DIR --ckpt_dir DIR \
        --config_file "['configs/train.json','configs/evaluate.json']"

Takes the arguments of the evaluating run: its configs and overrides. The network predicts each test image once; each
candidate computes an uncertainty map from the outputs of experts and gates. The table has for each candidate: the area
under the ROC curve of the map as a detector of wrong pixels (chance: 0.5); the share of all wrong pixels among the most
uncertain 5 % (chance: 5 %); and the rank correlation over the images between mean uncertainty and share of wrong
pixels, which matters if the map selects the images to label next.
"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

ROOT = Path(__file__).resolve().parents[2]
sys.path.insert(0, str(ROOT))

from scripts.dev.measure_robustness import configured as evaluation_config

HEADS = {
    **{"fused_seg": "logits", "seg": "logits", "fused_sdf": "tanh", "sdf": "tanh"},
    **{"fused_boundary": "probability", "boundary": "probability"},
}
"""Head -> form of its output; the first head is the prediction whose wrong pixels are detected."""
UNCERTAIN = 0.05
"""Share of the most uncertain pixels, among which wrong ones are counted."""

Plane = NDArray[np.float32]
Maps = dict[str, Plane]
"""Head -> probabilities of one image: of classes (C, H, W), or of background and gland or boundary (2, H, W)."""
Candidate = Callable[[Maps], Plane]


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the program. Exit codes: 0 success, 1 error, 2 invalid command line, 130 interrupted."""
    from bundle.engines.error_summary import sentence
    from scripts.benchmarking import settings_of

    options = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    options.add_argument("--config_file", required=True, help="configs of the evaluating run")
    options.add_argument(
        "--part", default="test", choices=["validation", "test"], help="part of the data list (default: test)"
    )
    given, overrides = options.parse_known_args(arguments)
    try:
        changes = settings_of(overrides)
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
    """Return the three metrics of each candidate by name."""
    from bundle.inference import collect_predictions  # imported here, so that --help does not import torch
    from bundle.types import IGNORE

    records = collect_predictions(
        configured(config_file, changes, part).get_parsed_content("validate#evaluator"), ("image",)
    )
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
    """Return the config of the evaluating run with all heads in the output, without metrics and output files.

    Raises:
        ValueError: if the overrides set the data, which ``--part`` selects.
    """
    parser = evaluation_config(config_file, changes, part)
    parser["validate#evaluator#key_val_metric"] = None
    parser["validate#evaluator#additional_metrics"] = None
    stacked = {"_target_": "bundle.inference.StackedHeads", "network": "@validate#network", "heads": HEADS}
    parser["evaluated_network"] = stacked
    parser["validate#evaluator#network"] = "@evaluated_network"
    parts = {name: "@classes" if form == "logits" else 1 for name, form in HEADS.items()}
    unstacked = {"_target_": "bundle.inference.UnstackHeadsd", "key": "pred", "parts": parts}
    parser["validate#postprocessing#transforms"] = [parser["validate#postprocessing#transforms"][0], unstacked]
    return parser


def _probabilities(head: Plane, form: str) -> Plane:
    """Convert the output of a head to probabilities that sum to 1 at each pixel."""
    from scipy.special import softmax

    if form == "logits":
        return softmax(head, axis=0)
    probability = (1 + head[0]) / 2 if form == "tanh" else head[0]
    return np.stack([1 - probability, probability])


def entropy(probabilities: Plane) -> Plane:
    """Return the entropy (H, W) of probabilities (C, H, W), relative to that of C equally likely classes."""
    from scipy.special import entr

    return entr(probabilities).sum(axis=0) / np.log(len(probabilities))


def divergence(opinions: Sequence[Plane]) -> Plane:
    """Return the Jensen-Shannon divergence (H, W) of probabilities (C, H, W) from several heads."""
    mean_entropy = np.mean([entropy(opinion) for opinion in opinions], axis=0)
    return np.maximum(entropy(np.mean(opinions, axis=0)) - mean_entropy, 0)


def tasks_apart(maps: Maps) -> Plane:
    """Return the mean over the tasks of the divergence between expert and gate."""
    return np.mean([divergence([maps[name], maps[f"fused_{name}"]]) for name in ("seg", "sdf", "boundary")], axis=0)


def glands(*pairs: tuple[str, str]) -> Callable[[Maps], list[Plane]]:
    """Return a function that gives class probabilities from pairs of a segmentation and a distance head (or "").

    The distance gives the probability of foreground; the segmentation divides it among the classes.
    """

    def opinions(maps: Maps) -> list[Plane]:
        probabilities: list[Plane] = []
        for seg, sdf in pairs:
            probabilities.append(maps[seg])
            if sdf:
                shares = maps[seg][1:] / np.maximum(maps[seg][1:].sum(axis=0), np.finfo(np.float32).tiny)
                probabilities.append(np.concatenate([maps[sdf][:1], maps[sdf][1] * shares]))
        return probabilities

    return opinions


FOUR = glands(("seg", "sdf"), ("fused_seg", "fused_sdf"))
THREE = glands(("seg", "sdf"), ("fused_seg", ""))
TWO = glands(("seg", ""), ("fused_seg", ""))

CANDIDATES: dict[str, Candidate] = {
    "entropy of the prediction alone": lambda maps: entropy(maps["fused_seg"]),
    "divergence expert, gate: 3 tasks": tasks_apart,
    "divergence of 2 segmentations": lambda maps: divergence(TWO(maps)),
    "divergence of 3 opinions": lambda maps: divergence(THREE(maps)),
    "divergence of 4 opinions": lambda maps: divergence(FOUR(maps)),
    "entropy of the mean of 2": lambda maps: entropy(np.mean(TWO(maps), axis=0)),
    "entropy of the mean of 3": lambda maps: entropy(np.mean(THREE(maps), axis=0)),
    "entropy of the mean of 4": lambda maps: entropy(np.mean(FOUR(maps), axis=0)),
}
"""Name -> uncertainty map. Opinions are seg and fused_seg (2), with sdf (3), and with fused_sdf (4). The last is the
bundle's map, ``bundle.inference.consensus_entropy``; the first is the baseline without experts."""


def figures(doubts: Sequence[Plane], wrong: Sequence[NDArray[np.bool_]]) -> tuple[float, float, float]:
    """Compute AUROC, share of the wrong pixels among the most uncertain ones, and rank correlation of the images.

    Args:
        doubts: uncertainty of the labeled pixels, one array per image.
        wrong: whether each of these pixels is wrong.

    Returns:
        The three metrics; ``nan`` if undefined: no pixel is wrong, all are, or there are fewer than three images.
    """
    from scipy.stats import rankdata, spearmanr

    doubt, fault = np.concatenate(doubts), np.concatenate(wrong)
    bad, good = int(fault.sum()), int((~fault).sum())
    area = share = correlation = float("nan")
    if bad and good:
        area = float((rankdata(doubt)[fault].sum() - bad * (bad + 1) / 2) / (bad * good))
        most = np.argsort(-doubt, kind="stable")[: max(1, round(UNCERTAIN * len(doubt)))]
        share = float(fault[most].sum() / bad)
    means, shares = [float(image.mean()) for image in doubts], [float(image.mean()) for image in wrong]
    if len(means) > 2 and len(set(means)) > 1 and len(set(shares)) > 1:
        correlation = float(spearmanr(means, shares).statistic)
    return area, share, correlation


def as_text(table: dict[str, tuple[float, float, float]]) -> str:
    """Return the table as text, one line per candidate."""
    width = max(map(len, table))
    lines = [f"{'uncertainty map':<{width}}{'AUROC':>9}{'in 5 %':>9}{'images':>9}"]
    return "\n".join([*lines, *(f"{name:<{width}}{a:>9.3f}{b:>9.3f}{c:>9.3f}" for name, (a, b, c) in table.items())])


if __name__ == "__main__":
    sys.exit(main())
