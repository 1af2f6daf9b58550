"""What ``--conf KEY VALUE`` takes, checked before anything starts."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

OURS = {
    "bundle": "folder of the bundle to serve and train (default: the one that this app is part of)",
    "model_dir": "folder of the models that are trained here (default: model in the folder of images)",
    "mpp": "um/px of pictures of which nothing else is known",
    "score": "disagreement (of the experts) or entropy (of the answer, for networks without experts)",
    "unlabeled_per_slide": "tiles of tissue that a training takes from each slide (default 20)",
}
THEIRS = ("preload", "server_mode")
"""Settings of MONAI Label itself."""
SCORES = ("disagreement", "entropy")


def check_settings(conf: Mapping[str, str]) -> None:
    """Refuse settings that are unknown or out of range.

    Raises:
        ValueError: for the first of them, in one sentence.
    """
    unknown = sorted(set(conf) - set(OURS) - set(THEIRS))
    if unknown:
        raise ValueError(f"--conf {unknown[0]} is not known; there are {', '.join(OURS)}")
    if conf.get("bundle") and not (Path(conf["bundle"]).expanduser() / "configs" / "inference.json").is_file():
        raise ValueError(f"--conf bundle {conf['bundle']} is no bundle: it has no configs/inference.json")
    for name, kind, least in (("mpp", float, 0.0), ("unlabeled_per_slide", int, -1)):
        try:
            is_right = not conf.get(name) or least < kind(conf[name]) < float("inf")
        except ValueError:
            is_right = False
        if not is_right:
            raise ValueError(f"--conf {name} {conf[name]} is out of range; it is the {OURS[name]}")
    if conf.get("score") and conf["score"] not in SCORES:
        raise ValueError(f"--conf score {conf['score']} is not known; write {' or '.join(SCORES)}")
