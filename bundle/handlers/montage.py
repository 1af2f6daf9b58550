"""What the network sees in the first images of validation: contours, maps and gate weights on one sheet."""

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
from bundle.handlers.files import whole
from bundle.types import BOUNDARY, EXPERTS, FUSED, GATE, IMAGE, LABEL, SDF, SEG, Heads

CLASSES = "classes"
GATES = "gate weights"


class ValidationMontage:
    """One PNG a validation, a row for each of the first images. For the evaluator; rank 0 only.

    Columns, as far as the network has them: the image; truth (green) and prediction (yellow) as contours; where there
    are more than two classes, areas in the colors of the predicted and contours in those of the true ones; the signed
    distance after tanh, its zero level in black; the probability of a boundary; the weights of every gate.
    Where a gate mixed the experts, its head (``fused_seg``) is shown, else the expert's (``seg``).

    What is shown is the center of the image at working resolution, cut so that both sides are multiples of
    ``multiple`` and at most ``largest_side`` px (an image smaller than ``multiple`` is continued at its borders);
    the network answers it once, in evaluation mode, without the window of the evaluator. A label of another size
    is taken to cover the same field and resized to the image (nearest). The Dice of a row is that of the center
    shown, foreground against background, 1 where both are empty: it is no result.

    Images are taken as the loader gives them, before any postprocessing; validation must not shuffle them, so
    that the sheets of all epochs show the same.

    Args:
        network: the network without DDP's wrapper; one without ``heads`` is asked for its logits alone.
        output_dir: folder of the sheets; made when missing. All are kept (about 0.5 MB each at the defaults,
            in 256 colors), and the last one also stands as ``montage_latest.png``.
        mean: mean of the normalization to undo, one number a channel, for images in [0, 1].
        std: standard deviation of it.
        image_count: number of rows.
        experts: names of the experts, in the order of the columns of the gate weights (B, K).
        name: file name; ``{epoch}`` is the trainer's epoch (1 in an evaluation by itself). Without it one sheet
            is written over again.
        writer: TensorBoard's ``SummaryWriter``; shared with others and not closed here.
        largest_side: px of the working resolution.
        multiple: what the network's sides must divide by.
        cell: width of a column, px.
        width_first: whether images come (3, W, H), as MONAI's ``PILReader`` reads them; turned back in the pictures.
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
        self.writer = writer
        self.largest_side = largest_side
        self.multiple = multiple
        self.cell = cell
        self._rows: list[tuple[str, dict[str, np.ndarray]]] = []
        self._class_key: tuple[tuple[str, drawing.Color], ...] = ()

    def attach(self, engine: Engine) -> None:
        """Watch an evaluator."""
        engine.add_event_handler(Events.EPOCH_STARTED, self._start)
        engine.add_event_handler(Events.ITERATION_STARTED, self._take)
        engine.add_event_handler(Events.EPOCH_COMPLETED, self._finish)

    def _start(self, engine: Engine) -> None:
        self._rows = []

    def _take(self, engine: Engine) -> None:
        """Draw the rows of this batch, while some are wanted."""
        if idist.get_rank() != 0 or len(self._rows) >= self.image_count:
            return
        batch: Any = engine.state.batch
        if isinstance(batch, Mapping):
            batch = decollate_batch({key: batch[key] for key in (IMAGE, LABEL) if key in batch})
        for item in batch[: self.image_count - len(self._rows)]:
            self._rows.append(self._row(item))

    def _finish(self, engine: Engine) -> None:
        """Put the rows on one sheet and save it."""
        if not self._rows:
            return
        # Every row has the same columns: they depend on the network.
        columns = list(self._rows[0][1])
        rows = [(caption, [pictures[column] for column in columns]) for caption, pictures in self._rows]
        title = f"validation, epoch {engine.state.epoch}"
        picture = drawing.sheet(title, columns, rows, self.cell, drawing.CONTOURS + self._class_key)
        sheet = drawing.in_palette(picture)
        latest = re.sub(r"\{epoch[^}]*\}", "latest", self.name)
        for name in dict.fromkeys([self.name.format(epoch=engine.state.epoch), latest]):
            with whole(self.output_dir / name) as unfinished:
                sheet.save(unfinished, format="PNG", optimize=True)
        if self.writer is not None:
            self.writer.add_image("montage", picture, engine.state.epoch, dataformats="HWC")
        self._rows = []

    def _row(self, item: Mapping[str, Any]) -> tuple[str, dict[str, np.ndarray]]:
        """Caption and pictures by column of one image: ``image`` (3, H, W) and, where known, ``label`` (C, H', W')."""
        image = _plain(item[IMAGE]).float()
        label = _on_pixels_of(image, _plain(item[LABEL])) if LABEL in item else None
        image = self._center(image)
        truth = None if label is None else self._center(label)[0].cpu().numpy()
        heads = self._answer(image)
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
        answer = {IMAGE: photo, name: _contours(photo, predicted, truth)}
        if (classes := len(heads[name])) > 2:
            self._class_key = tuple((f"class {k}", drawing.class_color(k)) for k in range(1, classes))
            answer[CLASSES] = drawing.in_classes(photo, predicted, truth, classes)
        return caption, answer | self._maps(heads, size)

    def _photo(self, image: Tensor) -> tuple[np.ndarray, tuple[int, int]]:
        """The image (3, H, W) without its normalization, as wide or high as a column, and its (height, width)."""
        values = image.cpu().numpy().transpose(1, 2, 0) * self.std + self.mean
        scale = self.cell / max(values.shape[:2])
        size = (max(round(values.shape[0] * scale), 1), max(round(values.shape[1] * scale), 1))
        return drawing.resized((values.clip(0.0, 1.0) * 255).round().astype(np.uint8), size), size

    def _maps(self, heads: Heads, size: tuple[int, int]) -> dict[str, np.ndarray]:
        """Pictures of ``size`` (height, width) of what there is beside the segmentation, by column."""
        answer: dict[str, np.ndarray] = {}
        name = _best(heads, SDF)
        if name in heads:
            distance = heads[name][0].tanh().cpu().numpy()
            picture = drawing.resized(drawing.colored(distance, drawing.DIVERGING, -1.0, 1.0), size)
            inside = drawing.resized((distance > 0).astype(np.uint8), size, smooth=False)
            answer[name] = drawing.outlined(picture, inside, drawing.INK)
        name = _best(heads, BOUNDARY)
        if name in heads:
            logits = heads[name]
            chance = logits.softmax(dim=0)[1] if logits.shape[0] > 1 else logits[0].sigmoid()
            picture = drawing.colored(chance.cpu().numpy(), drawing.SEQUENTIAL, 0.0, 1.0)
            answer[name] = drawing.resized(picture, size)
        gates = {key.removeprefix(GATE): head.tolist() for key, head in heads.items() if key.startswith(GATE)}
        if any(len(weights) != len(self.experts) for weights in gates.values()):
            found = {task: len(weights) for task, weights in gates.items()}
            raise ValueError(f"gates weigh {found} experts, but `experts` names {list(self.experts)}")
        if gates:
            answer[GATES] = drawing.bars(gates, self.experts, (size[0], self.cell))
        return answer

    def _center(self, maps: Tensor) -> Tensor:
        """The center of maps (C, H, W) as the class describes it."""
        height, width = (
            max(min(side, self.largest_side) // self.multiple, 1) * self.multiple for side in maps.shape[1:]
        )
        top, left = max(maps.shape[1] - height, 0) // 2, max(maps.shape[2] - width, 0) // 2
        maps = maps[:, top : top + height, left : left + width]
        missing = (0, width - maps.shape[2], 0, height - maps.shape[1])
        return functional.pad(maps.float()[None], missing, mode="replicate")[0].to(maps.dtype)

    def _answer(self, image: Tensor) -> Heads:
        """The network's maps (C, H, W) and gate weights (K) for one image (3, H, W)."""
        device = next((parameter.device for parameter in self.network.parameters()), image.device)
        batch = image[None].to(device)
        with eval_mode(self.network):
            heads = dict(self.network.heads(batch)) if hasattr(self.network, "heads") else {}  # type: ignore[operator]
            if _best(heads, SEG) not in heads:
                heads[SEG] = self.network(batch)
        return {name: head[0].float() for name, head in heads.items()}


def _contours(photo: np.ndarray, predicted: np.ndarray, truth: np.ndarray | None) -> np.ndarray:
    """The photo (H, W, 3) with the contours of truth and prediction (H, W)."""
    photo = (photo * 0.85).astype(np.uint8)  # a little darker, so that yellow stands out on pale stroma too
    if truth is not None:
        # The truth's line is wider and lies beneath, so that both are seen where they agree.
        photo = drawing.outlined(photo, truth, drawing.TRUTH, thick=True)
    return drawing.outlined(photo, predicted, drawing.PREDICTION)


def dice(predicted: np.ndarray, truth: np.ndarray) -> float:
    """Dice of two masks (H, W) of bool, in [0, 1]; 1 where both are empty."""
    total = int(predicted.sum()) + int(truth.sum())
    return 2.0 * int((predicted & truth).sum()) / total if total else 1.0


def _best(heads: Heads, task: str) -> str:
    """Name of the head that answers a task: the one that a gate mixed, where there is one."""
    return FUSED + task if FUSED + task in heads else task


def _plain(value: Tensor) -> Tensor:
    """A tensor without MONAI's record of its transforms."""
    return value.as_tensor() if hasattr(value, "as_tensor") else value


def _on_pixels_of(image: Tensor, label: Tensor) -> Tensor:
    """Class indices (1, H, W), uint8, of a label (1, H', W'), or one-hot (C, H', W'), at the size of the image."""
    if label.shape[0] > 1:
        label = label.argmax(dim=0, keepdim=True)
    if label.shape[1:] != image.shape[1:]:
        label = functional.interpolate(label.float()[None], tuple(image.shape[1:]), mode="nearest-exact")[0]
    return label.clamp(0, 255).to(torch.uint8)


def _file_name(image: Tensor, number: int) -> str:
    """Name of the file that an image came from, or its number."""
    path = getattr(image, "meta", {}).get("filename_or_obj")
    return Path(str(path)).name if path else f"image {number}"
