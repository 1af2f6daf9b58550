"""Features of all tiles by the encoder of the bundle's model, computed once per tile and stored."""

from __future__ import annotations

import logging
import os
import time
from collections.abc import Callable, Mapping
from functools import lru_cache
from pathlib import Path
from typing import Any
from zipfile import BadZipFile

import numpy as np
import torch
from filelock import FileLock
from lib.config_lock import PARSING
from lib.models import ModelFolder
from lib.request_checks import integer
from lib.scores import MOST_IMAGES, is_tile, tile_record
from monai.bundle import ConfigParser
from monailabel.interfaces.datastore import Datastore
from monailabel.interfaces.tasks.scoring import ScoringMethod
from monailabel.utils.others.generic import name_to_device
from numpy.typing import NDArray
from torch import nn

from bundle.engines import ModelCheckpointLoader
from bundle.engines.error_summary import sentence
from bundle.inference import EncoderFeatures
from bundle.networks import Encoder
from bundle.utils import atomic_path

logger = logging.getLogger(__name__)

FEATURES = "features.npz"
"""File in the model folder: digest of the model; name, state of the file, and features of each tile."""
INTERVAL = 30.0
"""Seconds between two writings of the file."""

Vector = NDArray[np.float32]


class TileFeatures(ScoringMethod):
    """Features of labeled and unlabeled tiles, for the strategy ``diverse``.

    They come from the encoder of the bundle's own model, so that they need no training and stay the same after one. A
    tile is computed again if its file or its um/px changes. Slides have no features.

    Args:
        bundle: folder of the bundle.
        models: folder of models.
        conf: settings of the app.
    """

    def __init__(self, bundle: Path, models: ModelFolder, conf: Mapping[str, str]) -> None:
        super().__init__("Features of the encoder on a tile, for the strategy diverse")
        self.bundle, self.models, self.conf = bundle, models, conf

    def known(self, datastore: Datastore) -> dict[str, Vector]:
        """Return the features of the tiles by name; tiles without features, or with outdated ones, are left out."""
        stored = self._stored()
        current = {name: vector for name, (state, vector) in stored.items() if self._state(name, datastore) == state}
        return {name: vector for name, vector in current.items() if np.isfinite(vector).all()}

    def missing(self, datastore: Datastore) -> list[str]:
        """Return the names of tiles without current features; those that could not be computed are left out."""
        stored = self._stored()
        states = {name: self._state(name, datastore) for name in sorted(datastore.list_images())}
        outdated = [name for name, state in states.items() if state and stored.get(name, ("",))[0] != state]
        return [name for name in outdated if is_tile(datastore.get_image_uri(name))]

    def __call__(self, request: Mapping[str, Any], datastore: Datastore) -> dict[str, Any]:
        """Compute the missing features.

        Args:
            request: ``device``; ``max_samples``, the maximum number of images, 0 for all.
            datastore: images and labels.

        Returns:
            Number of images ``computed`` and ``left``, and ``failed``, name -> reason.
        """
        self.models.folder.mkdir(parents=True, exist_ok=True)
        with FileLock(self.models.folder / ".features.lock"):  # waits for an earlier process
            return self._compute(request, datastore)

    def _compute(self, request: Mapping[str, Any], datastore: Datastore) -> dict[str, Any]:
        """Compute the missing features while holding the lock."""
        started = written = time.monotonic()
        names, stored = self.missing(datastore), dict(self._stored())
        selected = names[: integer(request, "max_samples", 0, 0, MOST_IMAGES) or len(names)]
        failed: dict[str, str] = {}
        extract: Callable[[dict[str, Any]], Vector] | None = None
        for name in selected:
            extract = extract or self.extractor(request.get("device"))
            state, vector = self._state(name, datastore), np.full(1, np.nan, np.float32)
            try:
                vector = extract(tile_record(name, datastore, self.conf))
                if not np.isfinite(vector).all():
                    raise ValueError("the features hold NaN or infinite values; use another image")
            except (OSError, RuntimeError, ValueError) as error:
                failed[name] = sentence(error)
                logger.warning("no features of %s: %s", name, failed[name])
            stored[name] = state, vector
            if time.monotonic() - written > INTERVAL:
                self._write(stored, datastore)
                written = time.monotonic()
        if selected:
            self._write(stored, datastore)
        result = {"computed": len(selected) - len(failed), "left": len(names) - len(selected), "failed": failed}
        logger.info("Features: %s in %.1f s", result, time.monotonic() - started)
        return result

    def extractor(self, device: str | None = None) -> EncoderFeatures:
        """Return a function that computes the features of a record ``{"image": path}``.

        Raises:
            ValueError: if the network of the bundle has no encoder.
        """
        with PARSING:
            parser, target = ConfigParser(), torch.device(name_to_device(device or "cuda"))
            parser.read_config(str(self.bundle / "configs" / "inference.json"))
            parser.update({"bundle_root": str(self.bundle), "device": target})
            network, preprocessing = (parser.get_parsed_content(key) for key in ("network", "preprocessing"))
        ModelCheckpointLoader(network, self.models.shipped).load()
        encoder = encoder_of(network)
        if encoder is None:
            raise ValueError(f"the network of {self.bundle} has no encoder; choose another strategy than diverse")
        return EncoderFeatures(encoder, preprocessing, target)

    def _state(self, name: str, datastore: Datastore) -> str:
        """Return a text that changes with the file and the um/px of an image; empty if there is no such file."""
        path = datastore.get_image_uri(name)
        if not path or not os.path.isfile(path):
            return ""
        file = os.stat(path)
        return f"{file.st_size} {file.st_mtime_ns} {tile_record(name, datastore, self.conf).get('mpp')}"

    def _stored(self) -> dict[str, tuple[str, Vector]]:
        """Return state and features by name, as stored; empty if there are none, or those of another model."""
        path = self.models.folder / FEATURES
        if not path.is_file():
            return {}
        file = path.stat()
        model, content = _read(str(path), file.st_mtime_ns, file.st_size)
        return content if model == self.models.digest(self.models.shipped) else {}

    def _write(self, stored: Mapping[str, tuple[str, Vector]], datastore: Datastore) -> None:
        """Write the features of the images that still exist."""
        names = sorted(set(datastore.list_images()) & stored.keys())
        width = max((len(stored[name][1]) for name in names), default=1)
        points = np.full((len(names), width), np.nan, np.float32)
        for row, name in zip(points, names, strict=True):
            row[: len(stored[name][1])] = stored[name][1]
        model, states = self.models.digest(self.models.shipped), [stored[name][0] for name in names]
        with atomic_path(self.models.folder / FEATURES, ".npz", clean=True) as partial:
            np.savez(partial, model=np.array(model), names=np.array(names), states=np.array(states), points=points)


def encoder_of(network: nn.Module | None) -> Encoder | None:
    """Return the first encoder of a network; ``None`` if it has none."""
    parts = network.modules() if network is not None else ()
    return next((part for part in parts if isinstance(part, Encoder)), None)


@lru_cache(maxsize=2)
def _read(path: str, changed: int, size: int) -> tuple[str, dict[str, tuple[str, Vector]]]:
    """Read a file of features, cached by modification time and size; a damaged one is as none."""
    try:
        with np.load(path, allow_pickle=False) as file:
            rows = zip(file["names"].tolist(), file["states"].tolist(), file["points"], strict=True)
            return str(file["model"]), {name: (state, vector) for name, state, vector in rows}
    except (OSError, ValueError, KeyError, BadZipFile) as error:
        logger.warning("%s is damaged (%s); its features are computed again", path, error)
        return "", {}
