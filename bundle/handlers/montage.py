"""Montage of the first validation images: contours, maps of the heads, and gate weights."""

from __future__ import annotations

import io
import os
import re
from collections.abc import Mapping, Sequence
from functools import partial
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import ignite.distributed as idist
import numpy as np
import torch
from ignite.engine import Engine, Events
from monai.data.utils import decollate_batch
from monai.metrics.meandice import compute_dice
from monai.networks.utils import eval_mode
from monai.transforms import ResizeWithPadOrCrop
from torch import Tensor, nn

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
        output_dir: folder of the montages, created if missing. All are kept (0.4 to 0.8 MB each with the defaults,
            in 256 colors); the last one is also written as ``montage_latest.png``.
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

    Raises:
        RuntimeError: if matplotlib is missing; it is imported when a montage is drawn.
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
        if find_spec("matplotlib") is None:
            raise RuntimeError("the montage needs matplotlib, which is missing; pip install matplotlib")
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
        self._rows: list[tuple[str, dict[str, drawing.Panel]]] = []
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
        rows = [(caption, list(panels.values())) for caption, panels in self._rows]
        title = self.title.format(epoch=engine.state.epoch)
        picture = drawing.sheet(title, columns, rows, self.cell, drawing.CONTOURS + self._class_key)
        content = io.BytesIO()
        drawing.in_palette(picture).save(content, format="PNG", optimize=True)
        latest = re.sub(r"\{epoch[^}]*\}", "latest", self.name)
        for name in dict.fromkeys([self.name.format(epoch=engine.state.epoch), latest]):
            with atomic_path(self.output_dir / name, clean=True) as unfinished:
                unfinished.write_bytes(content.getvalue())
        if self.writer is not None:
            self.writer.add_image("montage", picture, engine.state.epoch, dataformats="HWC")
        self._rows = []

    def _row(self, item: Mapping[str, Any]) -> tuple[str, dict[str, drawing.Panel]]:
        """Return caption and column -> panel for one image (3, H, W) and, if known, its ``label`` (C, H', W')."""
        whole = _plain(item[IMAGE]).float()
        image, truth = self._center(whole), None
        if LABEL in item:
            label = _plain(item[LABEL])
            classes = label.argmax(dim=0) if label.shape[0] > 1 else label[0].clamp(min=0)  # -1 is unknown
            resized = drawing.resized(classes.cpu().numpy(), (whole.shape[1], whole.shape[2]))
            truth = self._center(torch.from_numpy(resized.copy())[None])[0].numpy()
        heads = self._predict(image)
        if self.width_first:
            image, truth = image.mT, None if truth is None else truth.T
            heads = {name: head.mT if head.ndim == 3 else head for name, head in heads.items()}
        caption = f"{_file_name(item[IMAGE], len(self._rows) + 1)}    {image.shape[2]} x {image.shape[1]} px"
        name = _best(heads, SEG)
        predicted = heads[name].argmax(dim=0).cpu().numpy()
        if truth is not None:
            first, second = (torch.from_numpy(mask > 0)[None, None] for mask in (predicted, truth))
            caption += f"    Dice {compute_dice(first, second, ignore_empty=False).item():.3f}"
        photo, size = self._photo(image)
        predicted = drawing.resized(predicted, size)
        truth = None if truth is None else drawing.resized(truth, size)
        panels: dict[str, drawing.Panel] = {IMAGE: photo, name: drawing.compared(photo, predicted, truth)}
        if (count := len(heads[name])) > 2:
            self._class_key = tuple((f"class {k}", drawing.class_color(k)) for k in range(1, count))
            panels[CLASSES] = drawing.in_classes(photo, predicted, truth, count)
        return caption, panels | self._maps(heads)

    def _photo(self, image: Tensor) -> tuple[np.ndarray, tuple[int, int]]:
        """Return the image (3, H, W) without normalization, resized to the column, and its (height, width)."""
        values = image.cpu().numpy().transpose(1, 2, 0) * self.std + self.mean
        size = drawing.fitted(values.shape, self.cell)
        return drawing.resized((values.clip(0.0, 1.0) * 255).round().astype(np.uint8), size), size

    def _maps(self, heads: Heads) -> dict[str, drawing.Panel]:
        """Return column -> panel for signed distance, boundary and gate weights."""
        panels: dict[str, drawing.Panel] = {}
        name = _best(heads, SDF)
        if name in heads:
            distance = heads[name][0].tanh().cpu().numpy()
            panels[name] = partial(drawing.draw_map, values=distance, colors="RdBu_r", low=-1, high=1, level=0)
        name = _best(heads, BOUNDARY)
        if name in heads:
            logits = heads[name]
            probability = logits.softmax(dim=0)[1] if logits.shape[0] > 1 else logits[0].sigmoid()
            panels[name] = partial(drawing.draw_map, values=probability.cpu().numpy(), colors="magma", low=0, high=1)
        gates = {key.removeprefix(GATE): head.tolist() for key, head in heads.items() if key.startswith(GATE)}
        if any(len(weights) != len(self.experts) for weights in gates.values()):
            counts = {task: len(weights) for task, weights in gates.items()}
            raise ValueError(f"gates have weights of {counts} experts, but `experts` names {list(self.experts)}")
        if gates:
            panels[GATES] = partial(drawing.draw_bars, weights=gates, experts=self.experts)
        return panels

    def _center(self, maps: Tensor) -> Tensor:
        """Return the center crop of maps (C, H, W), see the class."""
        size = [max(min(side, self.largest_side) // self.multiple, 1) * self.multiple for side in maps.shape[1:]]
        return _plain(ResizeWithPadOrCrop(size, mode="edge")(maps))

    def _predict(self, image: Tensor) -> Heads:
        """Return the maps (C, H, W) and gate weights (K) of the network for one image (3, H, W)."""
        device = next((parameter.device for parameter in self.network.parameters()), image.device)
        batch = image[None].to(device)
        with eval_mode(self.network):
            heads = dict(self.network.heads(batch)) if hasattr(self.network, "heads") else {}  # type: ignore[operator]
            if _best(heads, SEG) not in heads:
                heads[SEG] = self.network(batch)
        return {name: head[0].float() for name, head in heads.items()}


def _best(heads: Heads, task: str) -> str:
    """Return the name of the head of a task: the fused head if there is one."""
    return FUSED + task if FUSED + task in heads else task


def _plain(value: Tensor) -> Tensor:
    """Return a tensor without MONAI's metadata."""
    return value.as_tensor() if hasattr(value, "as_tensor") else value


def _file_name(image: Tensor, number: int) -> str:
    """Return the file name of an image, or its number."""
    path = getattr(image, "meta", {}).get("filename_or_obj")
    return Path(str(path)).name if path else f"image {number}"
