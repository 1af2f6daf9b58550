"""Segmentation of whole slides to masks and polygons, block by block, in bounded memory."""

from __future__ import annotations

import logging
import time
from collections.abc import Callable, Mapping, Sequence
from contextlib import ExitStack, closing
from dataclasses import asdict
from pathlib import Path
from typing import Any

import torch
from ignite.engine import Engine, Events
from monai.networks.utils import eval_mode
from monai.transforms import SpatialPad
from torch import Tensor, nn

from bundle.inference.geojson import feature
from bundle.inference.polygons import Outline
from bundle.slides.reader import BACKENDS, Slide, SlideError, open_slide
from bundle.slides.region_dataset import REGION, SECONDS, BlockDataset, block_loader
from bundle.slides.region_grid import Box
from bundle.slides.region_selection import FindTissue, Plan, make_plan, tissue_near
from bundle.slides.resampling import Scale, scale_of
from bundle.slides.slide_crop import inside
from bundle.slides.slide_output import MASKS, SlideResults, output_endings, output_paths
from bundle.slides.upsampling import native_classes
from bundle.slides.writer_thread import Queue, Times
from bundle.types import FACTS, FAILED, FILES, IMAGE, to_bool
from bundle.utils import check_output

logger = logging.getLogger(__name__)

BOX = "box"
"""Key of a batch: part of the slide to predict, (x, y, width, height) in px of level 0; without it, the whole slide."""


class SlideSegmenter:
    """Segment slides: ``iteration_update`` of an evaluator whose batches are ``{"image": path}``.

    Tissue is detected at low resolution; the rest is background, whatever the network predicts. Three steps run in
    parallel: worker processes read blocks with tissue at the working resolution, the network predicts the block before
    with a sliding window, and a thread writes the one before that. The mask has the native size of the slide; glands
    are joined across blocks.

    Writes ``NAME_mask.ome.tif``, a pyramid with 255 for gland (class indices for more than two classes), and
    ``NAME.geojson``, atomically. A slide that cannot be read is skipped, with the reason. For a box, it writes
    ``NAME_xX_yY_wW_hH.geojson`` and a mask with the same prefix, equal to the whole slide's inside of the box.

    Args:
        network: returns logits (B, classes, W, H) for normalized images (B, 3, W, H).
        inferer: MONAI sliding window inferer, or one with its ``roi_size`` and ``overlap``.
        normalization: transform of a record with ``image``, RGB in [0, 255], (3, W, H).
        output_dir: folder of the files.
        device: device of the network.
        pixel_size: working resolution, um/px.
        mpp: um/px of all slides, in place of that of their files; ``None`` uses that of the files.
        classes: number of classes, with background.
        class_names: name of each class without background.
        class_colors: color of each class without background, RGB in [0, 255].
        find_tissue: function that returns the tissue map of an open slide and its scale; ``None`` predicts everything.
        predict_glass: whether to predict everything: True, False or a word for it.
        block: side of a block, working px.
        num_workers: number of worker processes; 0 reads in the main process.
        amp: whether to use mixed precision on CUDA.
        min_area: smaller polygons are left out, native px; the mask keeps them.
        simplify: maximum distance of a simplified polygon from the pixel edges, native px.
        backend: reader of slides: ``auto``, ``openslide`` or ``tifffile``.
        layout: layout of the mask: ``ome`` (OME-TIFF), ``plain`` (``NAME_mask.tif``, of which OpenSlide reads all
            levels) or ``none`` (no mask).
        handlers: handlers that are attached to the engine that runs over the blocks of each slide.
        outputs: outputs of tile inference, which slides do not support; must be empty.

    Attributes:
        endings: what the names of the files of a whole slide have after its own name.

    Raises:
        ValueError: if a setting is out of range.
    """

    def __init__(
        self,
        network: nn.Module,
        inferer: Any,
        normalization: Callable[[dict[str, Any]], Mapping[str, Any]],
        output_dir: str,
        device: torch.device | str,
        pixel_size: float,
        mpp: float | None = None,
        classes: int = 2,
        class_names: Sequence[str] = ("Gland",),
        class_colors: Sequence[Sequence[int]] = ((0, 255, 0),),
        find_tissue: FindTissue | None = None,
        predict_glass: bool | str = False,
        block: int = 2048,
        num_workers: int = 0,
        amp: bool = False,
        min_area: float = 0.0,
        simplify: float = 0.0,
        backend: str = "auto",
        layout: str = "ome",
        handlers: Sequence[Any] = (),
        outputs: Sequence[Any] = (),
    ) -> None:
        _check(outputs, block=block, min_area=min_area, simplify=simplify, mpp=mpp, backend=backend, layout=layout)
        if len(class_names) != classes - 1 or len(class_colors) != classes - 1:
            raise ValueError(
                f"{classes} classes need {classes - 1} class_names and class_colors, without background; "
                f"there are {len(class_names)} and {len(class_colors)}"
            )
        self.network, self.inferer, self.normalization = network, inferer, normalization
        self.folder, self.device = Path(output_dir), torch.device(device)
        self.pixel_size, self.mpp, self.backend, self.layout = pixel_size, mpp, backend, layout
        self.classes, self.class_names, self.class_colors = classes, list(class_names), list(class_colors)
        self.find_tissue = None if to_bool(predict_glass, "predict_glass") else find_tissue
        self.block, self.num_workers, self.amp = block, num_workers, amp
        self.min_area, self.simplify = min_area, simplify
        self.handlers = list(handlers)
        self.endings = output_endings(layout)

    def __call__(self, engine: Engine, batch: Mapping[str, Any]) -> list[dict[str, Any]]:
        """Segment one slide, or the part of it in the ``box`` of the batch.

        Args:
            engine: not used.
            batch: ``image``, the path; optionally ``mpp``, um/px, and ``box``, (x, y, width, height) in px of level 0.
                Polygons of a box are in px of the slide and cut at the box; its mask has the size of the slide.

        Returns:
            One record: ``image``, its path, with ``files`` and ``facts``, or with ``failed``, the reason.

        Raises:
            OSError: if the results cannot be written; with the path.
            ValueError: if the network's output holds no plausible numbers.
        """
        path = Path(batch[IMAGE])
        try:
            with open_slide(path, self.backend) as slide:
                box = batch.get(BOX)
                limits = None if box is None else inside(slide, box)
                files, facts = self._segment(slide, batch.get("mpp", self.mpp), limits)
        except (SlideError, FileNotFoundError) as error:
            return [{IMAGE: str(path), FAILED: _error_message(error)}]
        except PermissionError as error:
            if str(error.filename) != str(path):
                raise
            return [{IMAGE: str(path), FAILED: f"{path} may not be read ({error.strerror}); allow it"}]
        return [{IMAGE: str(path), FILES: files, FACTS: facts}]

    def _segment(self, slide: Slide, mpp: float | None, limits: Box | None) -> tuple[list[str], dict[str, Any]]:
        """Write the files of an open slide; return their paths and facts about the run."""
        started = time.perf_counter()
        times = Times()
        scale = scale_of(slide, self.pixel_size, mpp)
        tissue = None if self.find_tissue is None else tissue_near(self.find_tissue, slide, scale, limits)
        times.tissue = time.perf_counter() - started
        plan = make_plan(scale, self.inferer.roi_size, self.inferer.overlap, self.block, tissue, limits)
        dataset = BlockDataset(slide.path, mpp, self.pixel_size, plan.regions, self.backend)
        with ExitStack() as stack:
            results = stack.enter_context(self._results(slide, scale, plan))
            queue = stack.enter_context(closing(Queue()))
            stack.enter_context(closing(dataset))

            def step(blocks: Engine, item: Mapping[str, Any]) -> None:
                times.reading += item[SECONDS]
                before = time.perf_counter()
                number = int(item[REGION])
                scores = self._scores(item[IMAGE], str(slide.path))
                classes = native_classes(scores, plan.regions[number], scale, limits)
                if tissue is not None:
                    classes *= tissue.at(*plan.cores[number])
                after = time.perf_counter()
                times.network += after - before
                queue.put(results.put, number, classes)
                times.waiting_writing += time.perf_counter() - after

            if plan.regions:
                times.waiting_reading = self._run(step, block_loader(dataset, self.num_workers, self.amp), slide)
            before = time.perf_counter()
            queue.finish()
            results.finish()
            times.waiting_writing += time.perf_counter() - before
            times.writing = queue.seconds + time.perf_counter() - before
        times.all = time.perf_counter() - started
        facts = self._facts(scale, plan, results.glands, times)
        logger.info("%s: %s", slide.path.name, ", ".join(f"{name} {value}" for name, value in facts.items()))
        return results.files, facts

    def _results(self, slide: Slide, scale: Scale, plan: Plan) -> SlideResults:
        """Return the writer of mask and polygons of a slide."""

        def to_feature(outline: Outline) -> dict[str, Any]:
            return self._feature(outline, scale)

        mask, polygons = output_paths(self.folder, slide.path.stem, self.layout, plan.limits)
        return SlideResults(
            *(mask, polygons, self.layout, scale, self.classes, plan.cores, to_feature, self.min_area, self.simplify)
        )

    def _run(self, step: Callable[[Engine, Any], None], loader: Any, slide: Slide) -> float:
        """Run an engine with the handlers over the blocks; return the time spent waiting for data, s."""
        blocks = Engine(step)
        waiting_seconds = 0.0
        wait_start = 0.0

        def start_waiting(_: Engine) -> None:
            nonlocal wait_start
            wait_start = time.perf_counter()

        def stop_waiting(_: Engine) -> None:
            nonlocal waiting_seconds
            waiting_seconds += time.perf_counter() - wait_start

        blocks.add_event_handler(Events.GET_BATCH_STARTED, start_waiting)
        blocks.add_event_handler(Events.GET_BATCH_COMPLETED, stop_waiting)
        for handler in self.handlers:
            handler.attach(blocks)
        with eval_mode(self.network), torch.inference_mode():
            blocks.run(loader, max_epochs=1)
        return waiting_seconds

    def _scores(self, image: Tensor, where: str) -> Tensor:
        """Return the logits (C, W, H) of a block (3, W, H), uint8, of the slide ``where``."""
        record = self.normalization({IMAGE: image.to(self.device, non_blocking=True).float()})
        padding = SpatialPad(
            self.inferer.roi_size, mode="symmetric"
        )  # of a slide smaller than a window, as in training
        batch = torch.as_tensor(padding(record[IMAGE])).as_subclass(Tensor)[None]
        with torch.autocast("cuda", enabled=self.amp):
            scores = self.inferer(batch.contiguous(memory_format=torch.channels_last), self.network)
        check_output(scores, where)
        widths: Any = padding.compute_pad_width(image.shape[1:])[1:]
        (left, _), (top, _) = widths
        return scores[0, :, left : left + image.shape[1], top : top + image.shape[2]].float()

    def _feature(self, outline: Outline, scale: Scale) -> dict[str, Any]:
        measurements = {"Area px^2": outline.shape.area, "Area um^2": outline.shape.area * scale.mpp**2}
        index = outline.value - 1
        color = tuple(self.class_colors[index])
        return feature(outline.shape, self.class_names[index], color, measurements=measurements)

    def _facts(self, scale: Scale, plan: Plan, glands: int, times: Times) -> dict[str, Any]:
        box = [plan.limits.x0, plan.limits.y0, plan.limits.width, plan.limits.height] if plan.limits else None
        return {
            "width": scale.size[0],
            "height": scale.size[1],
            **({BOX: box} if box else {}),
            "um per px": scale.mpp,
            "blocks": len(plan.regions),
            "share predicted": round(plan.predicted / plan.area, 4),
            "glands": glands,
            "megapixels a second": round(plan.predicted / 1e6 / max(times.all, 1e-9), 3),
            "seconds": {name: round(value, 2) for name, value in asdict(times).items()},
        }


def _check(outputs: Sequence[Any], **settings: Any) -> None:
    """Check the settings before a slide is read."""
    if outputs:
        names = ", ".join(type(output).__name__ for output in outputs)
        raise ValueError(
            f"{names}: slides support only the outputs mask and GeoJSON; leave the overlays of other outputs out"
        )
    for name, minimum in (("block", 1), ("min_area", 0), ("simplify", 0)):
        value = settings[name]
        if isinstance(value, bool) or not isinstance(value, int | float) or not value >= minimum:
            raise ValueError(f"{name} is {value!r} px; write {minimum} or more")
    mpp = settings["mpp"]
    if mpp is not None and (isinstance(mpp, bool) or not isinstance(mpp, int | float) or not mpp > 0):
        raise ValueError(f"mpp is {mpp!r}; write the pixel size in um/px, a number above 0")
    for name, choices in (("backend", BACKENDS), ("layout", MASKS)):
        if settings[name] not in choices:
            raise ValueError(f"{name} is {settings[name]!r}; choose from {', '.join(choices)}")


def _error_message(error: Exception) -> str:
    """Return the message of an error; for one from a worker process, the message at the end of its traceback."""
    last_line = [line for line in str(error).splitlines() if line.strip()][-1]
    return last_line.rpartition("SlideError: ")[2] if "Traceback" in str(error) else " ".join(str(error).split())
