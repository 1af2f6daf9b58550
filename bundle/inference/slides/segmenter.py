"""A whole slide from file to mask and polygons, block by block, in bounded memory."""

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
from torch import Tensor, nn

from bundle.inference.geojson import feature
from bundle.inference.polygons import Outline
from bundle.inference.slides.blocks import REGION, SECONDS, BlockDataset, block_loader
from bundle.inference.slides.grid import Box
from bundle.inference.slides.planning import FindTissue, Plan, planned, tissue_near
from bundle.inference.slides.reader import BACKENDS, Slide, SlideError, open_slide
from bundle.inference.slides.results import MASKS, SlideResults, places
from bundle.inference.slides.scale import Scale, scale_of
from bundle.inference.slides.upsampling import native_classes
from bundle.inference.slides.view import inside
from bundle.inference.slides.writer_thread import Queue, Times
from bundle.types import FACTS, FAILED, FILES, IMAGE, as_switch

logger = logging.getLogger(__name__)

BOX = "box"
"""In a batch, the part of the slide that is wanted, (x, y, width, height) in px of level 0; without one, all."""


class SlideSegmenter:
    """Segments slides: the ``iteration_update`` of an evaluator whose batches are ``{"image": path}``.

    Tissue is found at low power; glass is background, whatever the network says. Blocks that hold tissue are read by
    worker processes at the working resolution while the network slides its window over the one before and a thread
    writes the one before that. The mask is that of the whole slide at its own size; glands are joined across blocks.

    It writes ``NAME_mask.ome.tif``, a pyramid of 255 for gland (of class indices, for more than two classes), and
    ``NAME.geojson``, whole or not at all. A slide that cannot be read is left out, with the reason. Of a box it writes
    ``NAME_xX_yY_wW_hH.geojson`` and such a mask, with what the whole slide would have there.

    Args:
        network: answers (B, classes, W, H) logits for normalized images (B, 3, W, H).
        inferer: MONAI's sliding window, or one that has its ``roi_size`` and ``overlap``.
        normalization: of a record with ``image``, RGB in [0, 255], (3, W, H).
        output_dir: where the files go.
        device: of the network.
        pixel_size: working resolution, um/px.
        mpp: um/px of all slides, whatever they tell; ``None`` believes them.
        classes: number of classes, background counted.
        class_names: classification of each class above 0.
        class_colors: its color, RGB in [0, 255].
        find_tissue: gives the tissue of an open slide and its scale; ``None`` takes all for tissue.
        predict_glass: take all for tissue: True, False or a word for it.
        block: side of a block, working px.
        num_workers: processes that read; 0 reads in between.
        amp: mixed precision on CUDA.
        min_area: polygons of fewer native px are left out; the mask keeps them.
        simplify: how far a polygon may leave the pixels' sides, native px.
        backend: what reads slides: ``auto``, ``openslide`` or ``tifffile``.
        layout: of the mask: ``ome`` (OME-TIFF) or ``plain`` (``NAME_mask.tif``, whose levels OpenSlide sees too);
            ``none`` writes no mask.
        handlers: watch the blocks of each slide: things that attach to an engine.
        outputs: what tiles would write beside the mask; there must be none.

    Raises:
        ValueError: for a setting out of its range.
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
        self.find_tissue = None if as_switch(predict_glass, "predict_glass") else find_tissue
        self.block, self.num_workers, self.amp = block, num_workers, amp
        self.min_area, self.simplify = min_area, simplify
        self.handlers = list(handlers)

    def __call__(self, engine: Engine, batch: Mapping[str, Any]) -> list[dict[str, Any]]:
        """Segment one slide, or the part of it that lies in the ``box`` of the batch.

        Args:
            engine: not asked.
            batch: ``image``, the path; perhaps ``mpp``, um/px; perhaps ``box``, (x, y, width, height) in px of level 0.
                Of a box, polygons are in px of the slide and end at its sides, and the mask is as large as the slide.

        Returns:
            One record: ``image``, its path, with ``files`` and ``facts``, or with ``failed``, the reason.

        Raises:
            OSError: where the results cannot be written; names the file.
        """
        path = Path(batch[IMAGE])
        try:
            with open_slide(path, self.backend) as slide:
                box = batch.get(BOX)
                limits = None if box is None else inside(slide, box)
                files, facts = self._segmented(slide, batch.get("mpp", self.mpp), limits)
        except (SlideError, FileNotFoundError) as error:
            return [{IMAGE: str(path), FAILED: _sentence(error)}]
        return [{IMAGE: str(path), FILES: files, FACTS: facts}]

    def _segmented(self, slide: Slide, mpp: float | None, limits: Box | None) -> tuple[list[str], dict[str, Any]]:
        """Write the files of an open slide; give their paths and what there is to say of the run."""
        started = time.perf_counter()
        times = Times()
        scale = scale_of(slide, self.pixel_size, mpp)
        tissue = None if self.find_tissue is None else tissue_near(self.find_tissue, slide, scale, limits)
        times.tissue = time.perf_counter() - started
        plan = planned(scale, self.inferer.roi_size, self.inferer.overlap, self.block, tissue, limits)
        dataset = BlockDataset(slide.path, mpp, self.pixel_size, plan.regions, self.backend)
        with ExitStack() as stack:
            results = stack.enter_context(self._results(slide, scale, plan))
            queue = stack.enter_context(closing(Queue()))
            stack.enter_context(closing(dataset))

            def step(blocks: Engine, item: Mapping[str, Any]) -> None:
                times.reading += item[SECONDS]
                before = time.perf_counter()
                number = int(item[REGION])
                classes = native_classes(self._scores(item[IMAGE]), plan.regions[number], scale, limits)
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
        """Where the mask and the polygons of a slide are put together."""

        def described(outline: Outline) -> dict[str, Any]:
            return self._feature(outline, scale)

        mask, polygons = places(self.folder, slide.path.stem, self.layout, plan.limits)
        return SlideResults(
            *(mask, polygons, self.layout, scale, self.classes, plan.cores, described, self.min_area, self.simplify)
        )

    def _run(self, step: Callable[[Engine, Any], None], loader: Any, slide: Slide) -> float:
        """Step through the blocks under the eyes of the handlers; seconds that were spent waiting for them."""
        blocks = Engine(step)
        waited = 0.0
        since = 0.0

        def wait(_: Engine) -> None:
            nonlocal since
            since = time.perf_counter()

        def got(_: Engine) -> None:
            nonlocal waited
            waited += time.perf_counter() - since

        blocks.add_event_handler(Events.GET_BATCH_STARTED, wait)
        blocks.add_event_handler(Events.GET_BATCH_COMPLETED, got)
        for handler in self.handlers:
            handler.attach(blocks)
        with eval_mode(self.network), torch.inference_mode():
            blocks.run(loader, max_epochs=1)
        return waited

    def _scores(self, image: Tensor) -> Tensor:
        """Logits (C, W, H) of a block (3, W, H) of bytes."""
        record = self.normalization({IMAGE: image.to(self.device, non_blocking=True).float()})
        batch = torch.as_tensor(record[IMAGE]).as_subclass(Tensor)[None].contiguous(memory_format=torch.channels_last)
        with torch.autocast("cuda", enabled=self.amp):
            scores = self.inferer(batch, self.network)
        return scores[0].float()

    def _feature(self, outline: Outline, scale: Scale) -> dict[str, Any]:
        measurements = {"Area px^2": outline.shape.area, "Area um^2": outline.shape.area * scale.mpp**2}
        place = outline.value - 1
        color = tuple(self.class_colors[place])
        return feature(outline.shape, self.class_names[place], color, measurements=measurements)

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
    """Refuse a setting before any slide is read."""
    if outputs:
        names = ", ".join(type(output).__name__ for output in outputs)
        raise ValueError(
            f"{names}: of whole slides mask and GeoJSON alone are written; leave the overlays of tiles out"
        )
    for name, least in (("block", 1), ("min_area", 0), ("simplify", 0)):
        value = settings[name]
        if isinstance(value, bool) or not isinstance(value, int | float) or not value >= least:
            raise ValueError(f"{name} is {value!r} px; write {least} or more")
    mpp = settings["mpp"]
    if mpp is not None and (isinstance(mpp, bool) or not isinstance(mpp, int | float) or not mpp > 0):
        raise ValueError(f"mpp is {mpp!r}; write the width of a pixel in um, a number above 0")
    for name, known in (("backend", BACKENDS), ("layout", MASKS)):
        if settings[name] not in known:
            raise ValueError(f"{name} is {settings[name]!r}; choose from {', '.join(known)}")


def _sentence(error: Exception) -> str:
    """What an error says; one of a worker process stands at the end of its traceback."""
    last = [line for line in str(error).splitlines() if line.strip()][-1]
    return last.rpartition("SlideError: ")[2] if "Traceback" in str(error) else " ".join(str(error).split())
