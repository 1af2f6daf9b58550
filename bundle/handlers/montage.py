"""Montage of the first validation images: contours, maps of the heads, and gate weights."""

from __future__ import annotations

import os
import re
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import ignite.distributed as idist
import numpy as np
import torch
from ignite.engine import Engine, Events
from monai.data.utils import decollate_batch
from monai.networks.utils import eval_mode
from torch import Tensor, nn
from torch.nn import functional

from bundle.handlers import drawing
from bundle.types import BOUNDARY, EXPERTS, FUSED, GATE, IMAGE, LABEL, SDF, SEG, Heads
from bundle.utils import atomic_path

CLASSES = "classes"
GATES = "gate weights"


class ValidationMontage:
    """Handler of an evaluator that writes one PNG per validation, with one row per image; rank 0 only.

    Columns, if the network has them: the image; contours of truth (green) and prediction (yellow); for more than two
    classes, predicted classes as colored areas and true classes as contours; the signed distance after tanh, with the
    zero level in black; the boundary probability; the weights of all gates. If a gate mixes the experts, its head
    (``fused_seg``) is shown, otherwise the head of the expert (``seg``).

    A row shows the center crop of the image at working resolution. Both sides are multiples of ``multiple`` and at
    most ``largest_side`` px; an image smaller than ``multiple`` is padded with its border values. The network
    processes the crop in one pass in evaluation mode, without sliding window. A label of another size covers the same
    field and is resized to the image (nearest). The Dice of a row is foreground against background in the crop, 1 if
    both are empty; it is not a result of the evaluation.

    Images are used as the loader returns them, before postprocessing. Validation must not shuffle them, so that all
    epochs show the same images.

    Args:
        network: the bare network; without ``heads``, only its logits are shown.
        output_dir: folder of the montages, created if missing. All are kept (about 0.5 MB each with the defaults, in
            256 colors); the last one is also written as ``montage_latest.png``.
        mean: mean of the normalization, one number per channel, for images in [0, 1].
        std: standard deviation of the normalization.
        image_count: number of rows.
        experts: names of the experts, in the order of the columns of the gate weights (B, K).
        name: file name; ``{epoch}`` is the trainer's epoch (1 in an evaluation). Without it, the file is overwritten
            in each validation.
        writer: TensorBoard's ``SummaryWriter``; it is not closed here.
        largest_side: maximal side of the crop, px at working resolution.
        multiple: number by which the sides of the network's input must be divisible.
        cell: width of a column, px.
        width_first: whether images are (3, W, H), as from MONAI's ``PILReader``; pictures are transposed back.
        title: heading of the sheet; ``{epoch}`` as in ``name``.
    """

    def __init__(
        self,
        network: nn.Module,
        output_dir: str | os.PathLike[str],
        mean: Sequence[float],
        std: Sequence[float],
        image_count: int = 4,
        experts: Sequence[str] = EXPERTS,
        name: str = "montage_{epoch:04d}.png",
        writer: Any = None,
        largest_side: int = 512,
        multiple: int = 16,
        cell: int = 256,
        width_first: bool = True,
        title: str = "validation, epoch {epoch}",
    ) -> None:
        if largest_side < multiple:
            raise ValueError(f"largest_side is {largest_side}; it must be at least {multiple} (multiple)")
        self.network = network
        self.output_dir = Path(output_dir)
        self.mean = np.asarray(mean, dtype=np.float32)
        self.std = np.asarray(std, dtype=np.float32)
        self.image_count = image_count
        self.experts = tuple(experts)
        self.width_first = width_first
        self.name = name
        self.title = title
        self.writer = writer
        self.largest_side = largest_side
        self.multiple = multiple
        self.cell = cell
        self._rows: list[tuple[str, dict[str, np.ndarray]]] = []
        self._class_key: tuple[tuple[str, drawing.Color], ...] = ()

    def attach(self, engine: Engine) -> None:
        """Attach to an evaluator."""
        engine.add_event_handler(Events.EPOCH_STARTED, self._start)
        engine.add_event_handler(Events.ITERATION_STARTED, self._add_rows)
        engine.add_event_handler(Events.EPOCH_COMPLETED, self._finish)

    def _start(self, engine: Engine) -> None:
        self._rows = []

    def _add_rows(self, engine: Engine) -> None:
        """Draw the rows of this batch, up to ``image_count``."""
        if idist.get_rank() != 0 or len(self._rows) >= self.image_count:
            return
        batch: Any = engine.state.batch
        if isinstance(batch, Mapping):
            batch = decollate_batch({key: batch[key] for key in (IMAGE, LABEL) if key in batch})
        for item in batch[: self.image_count - len(self._rows)]:
            self._rows.append(self._row(item))

    def _finish(self, engine: Engine) -> None:
        """Arrange the rows on one sheet and save it."""
        if not self._rows:
            return
        # all rows have the same columns, which depend on the network
        columns = list(self._rows[0][1])
        rows = [(caption, [pictures[column] for column in columns]) for caption, pictures in self._rows]
        title = self.title.format(epoch=engine.state.epoch)
        picture = drawing.sheet(title, columns, rows, self.cell, drawing.CONTOURS + self._class_key)
        sheet = drawing.in_palette(picture)
        latest = re.sub(r"\{epoch[^}]*\}", "latest", self.name)
        for name in dict.fromkeys([self.name.format(epoch=engine.state.epoch), latest]):
            with atomic_path(self.output_dir / name, clean=True) as unfinished:
                sheet.save(unfinished, format="PNG", optimize=True)
        if self.writer is not None:
            self.writer.add_image("montage", picture, engine.state.epoch, dataformats="HWC")
        self._rows = []

    def _row(self, item: Mapping[str, Any]) -> tuple[str, dict[str, np.ndarray]]:
        """Return caption and column -> picture for one image (3, H, W) and, if known, its ``label`` (C, H', W')."""
        image = _plain(item[IMAGE]).float()
        label = _resized_label(image, _plain(item[LABEL])) if LABEL in item else None
        image = self._center(image)
        truth = None if label is None else self._center(label)[0].cpu().numpy()
        heads = self._predict(image)
        if self.width_first:
            image, truth = image.mT, None if truth is None else truth.T
            heads = {name: head.mT if head.ndim == 3 else head for name, head in heads.items()}
        caption = f"{_file_name(item[IMAGE], len(self._rows) + 1)}    {image.shape[2]} x {image.shape[1]} px"
        name = _best(heads, SEG)
        predicted = heads[name].argmax(dim=0).cpu().numpy().astype(np.uint8)
        if truth is not None:
            caption += f"    Dice {dice(predicted > 0, truth > 0):.3f}"
        photo, size = self._photo(image)
        predicted = drawing.resized(predicted, size, smooth=False)
        truth = None if truth is None else drawing.resized(truth, size, smooth=False)
        pictures = {IMAGE: photo, name: _contours(photo, predicted, truth)}
        if (classes := len(heads[name])) > 2:
            self._class_key = tuple((f"class {k}", drawing.class_color(k)) for k in range(1, classes))
            pictures[CLASSES] = drawing.in_classes(photo, predicted, truth, classes)
        return caption, pictures | self._maps(heads, size)

    def _photo(self, image: Tensor) -> tuple[np.ndarray, tuple[int, int]]:
        """Return the image (3, H, W) without normalization, resized to the column, and its (height, width)."""
        values = image.cpu().numpy().transpose(1, 2, 0) * self.std + self.mean
        scale = self.cell / max(values.shape[:2])
        size = (max(round(values.shape[0] * scale), 1), max(round(values.shape[1] * scale), 1))
        return drawing.resized((values.clip(0.0, 1.0) * 255).round().astype(np.uint8), size), size

    def _maps(self, heads: Heads, size: tuple[int, int]) -> dict[str, np.ndarray]:
        """Return column -> picture of ``size`` (height, width) for signed distance, boundary and gate weights."""
        pictures: dict[str, np.ndarray] = {}
        name = _best(heads, SDF)
        if name in heads:
            distance = heads[name][0].tanh().cpu().numpy()
            picture = drawing.resized(drawing.colored(distance, drawing.DIVERGING, -1.0, 1.0), size)
            inside = drawing.resized((distance > 0).astype(np.uint8), size, smooth=False)
            pictures[name] = drawing.outlined(picture, inside, drawing.INK)
        name = _best(heads, BOUNDARY)
        if name in heads:
            logits = heads[name]
            probability = logits.softmax(dim=0)[1] if logits.shape[0] > 1 else logits[0].sigmoid()
            picture = drawing.colored(probability.cpu().numpy(), drawing.SEQUENTIAL, 0.0, 1.0)
            pictures[name] = drawing.resized(picture, size)
        gates = {key.removeprefix(GATE): head.tolist() for key, head in heads.items() if key.startswith(GATE)}
        if any(len(weights) != len(self.experts) for weights in gates.values()):
            counts = {task: len(weights) for task, weights in gates.items()}
            raise ValueError(f"gates have weights of {counts} experts, but `experts` names {list(self.experts)}")
        if gates:
            pictures[GATES] = drawing.bars(gates, self.experts, (size[0], self.cell))
        return pictures

    def _center(self, maps: Tensor) -> Tensor:
        """Return the center crop of maps (C, H, W), see the class."""
        height, width = (
            max(min(side, self.largest_side) // self.multiple, 1) * self.multiple for side in maps.shape[1:]
        )
        top, left = max(maps.shape[1] - height, 0) // 2, max(maps.shape[2] - width, 0) // 2
        maps = maps[:, top : top + height, left : left + width]
        padding = (0, width - maps.shape[2], 0, height - maps.shape[1])
        return functional.pad(maps.float()[None], padding, mode="replicate")[0].to(maps.dtype)

    def _predict(self, image: Tensor) -> Heads:
        """Return the maps (C, H, W) and gate weights (K) of the network for one image (3, H, W)."""
        device = next((parameter.device for parameter in self.network.parameters()), image.device)
        batch = image[None].to(device)
        with eval_mode(self.network):
            heads = dict(self.network.heads(batch)) if hasattr(self.network, "heads") else {}  # type: ignore[operator]
            if _best(heads, SEG) not in heads:
                heads[SEG] = self.network(batch)
        return {name: head[0].float() for name, head in heads.items()}


def _contours(photo: np.ndarray, predicted: np.ndarray, truth: np.ndarray | None) -> np.ndarray:
    """Draw the contours of truth and prediction (H, W) on the photo (H, W, 3)."""
    photo = (photo * 0.85).astype(np.uint8)  # slightly darker, so that yellow is visible on pale stroma
    if truth is not None:
        # the contour of the truth is wider and drawn first, so that both are visible where they agree
        photo = drawing.outlined(photo, truth, drawing.TRUTH, thick=True)
    return drawing.outlined(photo, predicted, drawing.PREDICTION)


def dice(predicted: np.ndarray, truth: np.ndarray) -> float:
    """Return the Dice of two bool masks (H, W), in [0, 1]; 1 if both are empty."""
    total = int(predicted.sum()) + int(truth.sum())
    return 2.0 * int((predicted & truth).sum()) / total if total else 1.0


def _best(heads: Heads, task: str) -> str:
    """Return the name of the head of a task: the fused head if there is one."""
    return FUSED + task if FUSED + task in heads else task


def _plain(value: Tensor) -> Tensor:
    """Return a tensor without MONAI's metadata."""
    return value.as_tensor() if hasattr(value, "as_tensor") else value


def _resized_label(image: Tensor, label: Tensor) -> Tensor:
    """Return a label (1, H', W'), or one-hot (C, H', W'), as uint8 class indices (1, H, W) of the image's size."""
    if label.shape[0] > 1:
        label = label.argmax(dim=0, keepdim=True)
    if label.shape[1:] != image.shape[1:]:
        label = functional.interpolate(label.float()[None], tuple(image.shape[1:]), mode="nearest-exact")[0]
    return label.clamp(0, 255).to(torch.uint8)


def _file_name(image: Tensor, number: int) -> str:
    """Return the file name of an image, or its number."""
    path = getattr(image, "meta", {}).get("filename_or_obj")
    return Path(str(path)).name if path else f"image {number}"
