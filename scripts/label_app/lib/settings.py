"""Settings of ``--conf KEY VALUE`` and their checks."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

OURS = {
    "bundle": "folder of the bundle to serve and train (default: this bundle)",
    "model_dir": "folder for trained models (default: model in the folder of images)",
    "mpp": "pixel size, um/px, of images without one",
    "score": "disagreement (of the experts) or entropy (of the prediction, for networks without experts)",
    "unlabeled_per_slide": "number of unlabeled tissue tiles of each slide for training (default: 20)",
    "hosts": "names of this server in requests besides localhost, separated by commas (default: those of --host)",
    "max_upload_mib": "largest upload, MiB (default: 8192)",
}
THEIRS = ("preload", "server_mode")
"""Settings of MONAI Label itself."""
MAX_UPLOAD_MIB = 8192
"""Largest upload, MiB: room for most slides."""
SCORES = ("disagreement", "entropy")


def check_settings(conf: Mapping[str, str]) -> None:
    """Check the settings.

    Raises:
        ValueError: for the first setting that is unknown or out of range.
    """
    unknown = sorted(set(conf) - set(OURS) - set(THEIRS))
    if unknown:
        raise ValueError(f"--conf {unknown[0]} is unknown; choose from {', '.join(OURS)}")
    if conf.get("bundle") and not (Path(conf["bundle"]).expanduser() / "configs" / "inference.json").is_file():
        raise ValueError(f"--conf bundle {conf['bundle']} is not a bundle: it has no configs/inference.json")
    if "#" in str(conf.get("bundle") or ""):
        raise ValueError(
            f"--conf bundle {conf['bundle']} has a #, which configs cannot have in paths; rename the folder"
        )
    for name, kind, least in (("mpp", float, 0.0), ("unlabeled_per_slide", int, -1), ("max_upload_mib", int, 0)):
        try:
            is_valid = not conf.get(name) or least < kind(conf[name]) < float("inf")
        except ValueError:
            is_valid = False
        if not is_valid:
            raise ValueError(f"--conf {name} {conf[name]} is out of range; it is the {OURS[name]}")
    if conf.get("score") and conf["score"] not in SCORES:
        raise ValueError(f"--conf score {conf['score']} is unknown; choose {' or '.join(SCORES)}")


def names_of_server(conf: Mapping[str, str]) -> list[str]:
    """Return the names, besides loopback names, by which requests may address the server."""
    return [name.strip() for name in str(conf.get("hosts") or "").split(",") if name.strip()]


def upload_limit(conf: Mapping[str, str]) -> int:
    """Return the largest allowed size of an upload, MiB."""
    return int(conf.get("max_upload_mib") or MAX_UPLOAD_MIB)
