"""Inference of tiles, slide regions and whole slides, as a mask or as outlines."""

from __future__ import annotations

import copy
import tempfile
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import torch
from lib.annotation import Annotation, read_annotations
from lib.config_lock import PARSING
from lib.models import MODEL, ModelFolder
from lib.request_checks import check_device, two_integers
from lib.request_errors import BAD, NOT_FOUND, TOO_LARGE, RefusalError, refusing
from lib.responses import FORMATS, POLYGONS, Subject, write_mask, write_polygons
from lib.uploads import LARGEST, is_slide_file
from monai.bundle import ConfigParser
from monailabel.interfaces.tasks.infer_v2 import InferType
from monailabel.tasks.infer.bundle import BundleInferTask
from monailabel.utils.others.generic import name_to_device
from torch import nn

from bundle.data import picture_size
from bundle.engines import ModelCheckpointLoader
from bundle.inference.polygons import pieces
from bundle.slides import SlideError, open_slide
from bundle.utils import check_output

SETTINGS = (
    *("model", "image", "description", "output", "location", "size", "wsi_tiles", "mpp", "min_poly_area"),
    *("model_filename", "result_extension", "device", "logging", "label_tag", "save_label"),
)
"""Entries of a request that are used; MONAI Label would take others as settings of its transforms."""
LEVELS = ("DEBUG", "INFO", "WARNING", "ERROR")
RANGES = {"mpp": (0.01, 100), "min_poly_area": (0, 1e12)}
"""Valid ranges, um/px and px."""
MIN_AREA = 80
"""Minimum area of an outline, px of the image, as in MONAI Label."""
SIMPLIFY = 0.5
"""Maximum distance of a simplified outline from the edges of the pixels, px."""


class SegmentationTask(BundleInferTask):
    """Inference task with the bundle's ``inference.json`` and the current model; one request at a time (``PARSING``).

    Args:
        bundle: folder of the bundle.
        conf: settings of the app.
        models: folder of models.

    Raises:
        ValueError: if the folder is not a bundle with configs and weights.
    """

    labels: dict[str, int]

    def __init__(self, bundle: Path, conf: dict[str, str], models: ModelFolder) -> None:
        self.models = models
        super().__init__(str(bundle), conf, type=InferType.SEGMENTATION, add_post_restore=False)
        if not self.valid:
            raise ValueError(f"{bundle} cannot run inference: configs/inference.json or models/{MODEL} is missing")
        self.labels = {name[:1].upper() + name[1:]: number for name, number in self.labels.items()}
        self.pixel_size = float(self.bundle_config.get_parsed_content("pixel_size"))
        colors = self.bundle_config.get_parsed_content("class_colors")
        self.colors = dict(zip(self.labels, colors, strict=True))
        self._config.pop("model_filename", None)

    @property
    def names(self) -> list[str]:
        """Names of the classes above 0, in order."""
        return list(self.labels)

    def info(self) -> dict[str, Any]:
        """Return the content of /info with the available models."""
        info = super().info()
        return info | {"config": info["config"] | {"model_filename": self.models.names()}}

    def get_path(self, validate: bool = True) -> str:
        """Return the path of the current model, or, with ``validate=False``, that of an uploaded model."""
        return str(self.models.current if validate else self.models.trained)

    def __call__(self, request: Mapping[str, Any], callbacks: Any = None) -> tuple[str | None, dict[str, Any]]:
        """Process a request.

        Args:
            request: ``image``, a path or RGB (H, W, 3) uint8; optionally ``output`` (one of ``FORMATS``),
                ``location`` and ``size`` in px of the full resolution, ``mpp``, ``min_poly_area``,
                ``model_filename``, ``result_extension``.
            callbacks: as in MONAI Label.

        Returns:
            Path of the response file, or ``None``; and the JSON of the response.

        Raises:
            RefusalError: if the image or a setting is invalid.
        """
        request = {key: request[key] for key in SETTINGS if request.get(key) is not None}
        check_prediction(request)
        image = request["image"]
        with PARSING, refusing():
            if isinstance(image, str) and is_slide_file(image):
                return self._of_slide(request)
            _check_size(image, request.get("mpp"), self.pixel_size)
            if isinstance(image, np.ndarray):
                request["image"] = np.moveaxis(image, 0, 1)  # readers return (W, H, 3)
            return super().__call__(request, callbacks)

    def run_inferer(self, data: dict[str, Any], convert_to_batch: bool = True, device: str = "cuda") -> dict[str, Any]:
        """Run the network, in mixed precision on CUDA.

        Raises:
            ValueError: if its output holds no plausible numbers.
        """
        with torch.autocast("cuda", enabled=str(device).startswith("cuda")):
            data = super().run_inferer(data, convert_to_batch, device)
        data[self.output_label_key] = data[self.output_label_key].float()
        check_output(data[self.output_label_key], "the image")
        return data

    def writer(
        self, data: dict[str, Any], extension: Any = None, dtype: Any = None
    ) -> tuple[str | None, dict[str, Any]]:
        """Write the prediction of a tile."""
        classes = np.ascontiguousarray(np.asarray(data[self.output_label_key], dtype=np.uint8).T)
        form = data.get("output", "image")
        is_region = not isinstance(data.get("image_path"), str)  # pixels without a file
        left, top = (int(value) for value in (data.get("location") or (0, 0))[:2]) if is_region else (0, 0)
        outlines = pieces(classes, (left, top), SIMPLIFY, float(data.get("min_poly_area", MIN_AREA)))
        annotations = [Annotation(self.names[outline.value - 1], outline.shape) for outline in outlines]
        height, width = classes.shape
        path, document = write_polygons(form, annotations, self._subject(data, (left, top, width, height)))
        if form not in POLYGONS:
            path = write_mask(classes, extension or data.get("result_extension") or ".png")
        return path, document

    def _of_slide(self, request: Mapping[str, Any]) -> tuple[str | None, dict[str, Any]]:
        """Segment regions of a slide, or the whole slide, as outlines."""
        form = request.get("output", "asap")
        form = form if form in POLYGONS else "asap"
        with open_slide(request["image"]) as slide:
            boxes = _boxes(request, slide.size)
        with tempfile.TemporaryDirectory(prefix="slide_") as folder:
            segmenter = self._segmenter(request, folder)
            annotations = [annotation for box in boxes for annotation in _segment(segmenter, request, box)]
        left, top = min(box[0] for box in boxes), min(box[1] for box in boxes)
        right, bottom = max(box[0] + box[2] for box in boxes), max(box[1] + box[3] for box in boxes)
        return write_polygons(form, annotations, self._subject(request, (left, top, right - left, bottom - top)))

    def _segmenter(self, request: Mapping[str, Any], folder: str) -> Any:
        """Return the bundle's slide segmenter with the requested network."""
        device = name_to_device(request.get("device", "cuda"))
        configs = Path(self.bundle_path) / "configs"
        parser = ConfigParser()
        parser.read_config([str(configs / "inference.json"), str(configs / "inference" / "slides.yaml")])
        parser.update(
            {
                "bundle_root": self.bundle_path,
                "device": torch.device(device),
                "output_dir": Path(folder),
                "mask_layout": "none",
                "min_area": float(request.get("min_poly_area", MIN_AREA)),
                "class_names": self.names,
                "network": self._get_network(device, dict(request)),
            }
        )
        return parser.get_parsed_content("segmenter")

    def _get_network(self, device: str, data: dict[str, Any] | None) -> nn.Module:
        """Return the network with the requested weights or those of the current model, reloaded after changes."""
        requested = (data or {}).get("model_filename") or MODEL
        path = self.models.named(str(requested if isinstance(requested, str) else requested[0]))
        if not path.is_file():
            raise RefusalError(NOT_FOUND, f"there is no model {path.name}; train or upload one")
        stamp = (str(path), path.stat().st_mtime_ns, path.stat().st_size)
        cached = self._networks.get(device)
        if cached is None or cached[1] != stamp:
            network = copy.deepcopy(self.network)
            ModelCheckpointLoader(network, path).load()
            network = network.to(device=torch.device(device), memory_format=torch.channels_last).eval()
            self._networks[device] = cached = (network, stamp)
        current: nn.Module = cached[0]
        return current

    def _subject(self, request: Mapping[str, Any], box: tuple[int, int, int, int]) -> Subject:
        return Subject(str(request.get("model", "")), self.description, self.colors, box)


def check_prediction(request: Mapping[str, Any]) -> None:
    """Check the settings of a request before anything is read.

    Raises:
        RefusalError: 400.
    """
    if request.get("output", "image") not in FORMATS:
        shown = str(request["output"])[:40]
        raise RefusalError(BAD, f"there is no output {shown!r}; choose one of {', '.join(FORMATS)}")
    check_device(request.get("device"))
    if str(request.get("logging", "INFO")).upper() not in LEVELS:
        raise RefusalError(BAD, f"there is no log level {str(request['logging'])[:40]!r}; choose {', '.join(LEVELS)}")
    for name in ("model_filename", "result_extension"):
        value = request.get(name, "")
        value = value[0] if isinstance(value, list) and value else value
        if not isinstance(value, str):
            raise RefusalError(BAD, f"{name} is {str(value)[:40]}; it must be a string")
    for name, (least, most) in RANGES.items():
        value = request.get(name, most)
        is_number = isinstance(value, int | float) and not isinstance(value, bool)
        if not is_number or not least <= value <= most:
            raise RefusalError(BAD, f"{name} is {str(value)[:40]}; it must be from {least:g} to {most:g}")


def _check_size(image: Any, mpp: float | None, pixel_size: float) -> None:
    """Check that an image is not too large at the working resolution.

    Raises:
        RefusalError: 413.
    """
    if mpp is None:
        return
    height, width = picture_size(image) if isinstance(image, str) else image.shape[:2]
    if height * width * (mpp / pixel_size) ** 2 > LARGEST:
        raise RefusalError(
            TOO_LARGE,
            f"an image of {width} x {height} px at {mpp} um/px is too large for a model at {pixel_size} um/px",
        )


def _boxes(request: Mapping[str, Any], size: tuple[int, int]) -> list[tuple[int, int, int, int]]:
    """Return the requested rectangles of a slide (tiles, a region, or the whole slide), clipped to the slide.

    Raises:
        RefusalError: 400 if a rectangle is invalid or outside the slide.
    """
    parts = request.get("wsi_tiles") or [request]
    if not isinstance(parts, list) or not all(isinstance(part, Mapping) for part in parts):
        raise RefusalError(BAD, "wsi_tiles must be a list of objects with location and size")
    boxes = []
    for part in parts:
        left, top = two_integers(part.get("location") or (0, 0), "location in the slide")
        width, height = two_integers(part.get("size") or (0, 0), "size in the slide")
        if width <= 0 or height <= 0:
            width, height = size[0] - left, size[1] - top
        x, y = max(left, 0), max(top, 0)
        right, bottom = min(left + width, size[0]), min(top + height, size[1])
        if x >= right or y >= bottom:
            raise RefusalError(
                BAD,
                f"the region {left}, {top}, {width} x {height} px is outside the slide of {size[0]} x {size[1]} px",
            )
        boxes.append((x, y, right - x, bottom - y))
    return boxes


def _segment(segmenter: Any, request: Mapping[str, Any], box: tuple[int, int, int, int]) -> list[Annotation]:
    """Segment a rectangle of a slide and return the outlines."""
    record = {"image": request["image"], "box": box}
    if request.get("mpp") is not None:
        record["mpp"] = float(request["mpp"])
    answer = segmenter(None, record)[0]
    if "failed" in answer:
        raise SlideError(answer["failed"])
    outlines = [Path(file) for file in answer["files"] if file.endswith(".geojson")]
    return [annotation for file in outlines for annotation in read_annotations(file)]
