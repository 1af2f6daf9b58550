"""Slides of a cohort: predicted in this process, or as tasks of a Ray cluster."""

from __future__ import annotations

import copy
import logging
import os
import socket
import sys
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from typing import Any, NamedTuple, cast

from ignite import distributed as idist
from monai.bundle import ConfigParser

from bundle.engines.component_definitions import current_parser
from bundle.engines.finished_images import state_of
from bundle.engines.inference_log import InferenceLog
from bundle.engines.ray_cluster import RESTARTS, Cluster, check_address, connect_cluster
from bundle.types import FAILED, IMAGE

logger = logging.getLogger(__name__)

Entry = Mapping[str, Any]
ENGINES = ("local", "ray")
OF_DRIVER = ("@inference_log", "@progress")
"""Handlers of the process that plans the slides; a task has the others."""
PATHS = ("_root", "_dir", "_file")
"""Endings of settings that are paths; relative ones are relative to the folder of that process."""


class Cohort(NamedTuple):
    """Loader and step of the evaluator that predicts slides."""

    loader: Iterable[Entry]
    step: Callable[..., Any]


def cohort(
    images: Sequence[Entry],
    segmenter: Callable[..., Any],
    log: InferenceLog,
    engine: str = "local",
    address: str = "auto",
    jobs: int = 1,
    cpus: int | None = None,
) -> Cohort:
    """Return what the evaluator of slides iterates over, and its step.

    Args:
        images: entries of the slides to predict, with the path ``image``.
        segmenter: predicts a slide in this process.
        log: records which slides are begun and done.
        engine: ``local``, or ``ray``: each slide is a task of a Ray cluster, which builds the config that is read.
        address: of the Ray cluster, ``auto`` for that of this machine, or ``HOST:PORT``.
        jobs: slides at once on a GPU of the Ray cluster; without GPUs, on a machine.
        cpus: CPUs of a slide of the Ray cluster; ``None`` divides those of the smallest machine.

    Raises:
        ValueError: if an argument is invalid, Ray is missing, or no cluster can run a slide.
    """
    if engine not in ENGINES:
        raise ValueError(f"engine is {engine!r}; choose from {', '.join(ENGINES)}")
    check_address(address)
    if engine == "local":
        return Cohort(images, segmenter)
    if idist.get_world_size() > 1:
        raise ValueError("--engine ray distributes the slides itself; start one process, without torchrun")
    if not images:
        return Cohort(images, segmenter)
    config = task_config(current_parser(), log.folder)
    return Cohort(RaySlides(images, log, config, connect_cluster(address, None, jobs, cpus)), _finished)


class RaySlides:
    """Iterable of the results of slides, in the order in which they end; each slide is a task of a Ray cluster.

    The largest files begin first. The slide of a lost worker begins again elsewhere, up to three times; then it counts
    as skipped. Any other error of a task ends the iteration and all tasks.

    Args:
        images: entries of the slides.
        log: records which slides are begun.
        config: configuration of a task (:func:`task_config`).
        cluster: connected cluster; disconnected at the end.
    """

    def __init__(self, images: Sequence[Entry], log: InferenceLog, config: dict[str, Any], cluster: Cluster) -> None:
        self.images = sorted(images, key=lambda entry: state_of(entry[IMAGE]), reverse=True)
        self.log = log
        self.config = config
        self.cluster = cluster

    def __len__(self) -> int:
        return len(self.images)

    def __iter__(self) -> Iterator[dict[str, Any]]:
        ray, slots = self.cluster.ray, self.cluster.slots
        logger.info("%d slides on Ray, %d at once", len(self.images), min(slots, len(self.images)))
        task = self.cluster.remote(predict_slide, sys.modules[__name__])
        waiting = list(self.images)
        running: dict[Any, Entry] = {}
        losses: Counter[str] = Counter()
        try:
            while waiting or running:
                while waiting and len(running) < slots:
                    entry = waiting.pop(0)
                    self.log.begin(entry[IMAGE])
                    running[task.remote(self.config, self.cluster.cpus, dict(entry))] = entry
                ended, _ = ray.wait(list(running))
                entry = running.pop(ended[0])
                path = str(entry[IMAGE])
                try:
                    record = ray.get(ended[0])
                except ray.exceptions.RayError as error:
                    if not self.cluster.is_loss(error):
                        raise getattr(error, "cause", error) from error
                    losses[path] += 1
                    kind = type(error).__name__
                    if losses[path] <= RESTARTS:
                        logger.warning("%s lost its worker (%s) and begins again", path, kind)
                        waiting.insert(0, entry)
                        continue
                    record = {IMAGE: path, FAILED: f"{path} lost its worker {losses[path]} times ({kind}); try again"}
                yield record
        finally:
            ray.shutdown()


def task_config(parser: ConfigParser, output_dir: str | os.PathLike[str]) -> dict[str, Any]:
    """Return the configuration of a task from that of this process, with absolute paths.

    Args:
        parser: the parser of this process.
        output_dir: folder of the results.
    """
    config = copy.deepcopy(cast("dict[str, Any]", parser.config))
    for key, value in config.items():
        if key.endswith(PATHS) and isinstance(value, str) and not value.startswith(("$", "@", "%")):
            config[key] = os.path.abspath(os.path.expanduser(value))
    config["output_dir"] = os.path.abspath(output_dir)
    config["handlers"] = [handler for handler in config["handlers"] if handler not in OF_DRIVER]
    config["segmenter"]["handlers"] = []
    config["cohort"] |= {"engine": "local", "log": None}
    return config


def predict_slide(config: dict[str, Any], cpus: int, entry: Entry) -> dict[str, Any]:
    """Predict a slide inside a worker of Ray, by the evaluator of a configuration.

    Args:
        config: result of :func:`task_config`.
        cpus: number of threads.
        entry: the slide.

    Returns:
        The record of the slide, as ``SlideSegmenter`` returns it.

    Raises:
        ValueError: if the folders of the bundle or of the results do not exist on this machine.
    """
    for key in ("bundle_root", "output_dir"):
        if not os.path.isdir(config[key]):
            raise ValueError(
                f"{key} {config[key]} does not exist on {socket.gethostname()}; give a folder that all machines share"
            )
    sys.path.insert(0, config["bundle_root"])
    import torch
    from monai.bundle import ConfigParser

    torch.set_num_threads(cpus)
    config["cohort"]["images"] = [entry]
    evaluator = ConfigParser(config).get_parsed_content("evaluator")
    evaluator.run()
    (record,) = evaluator.state.output
    return record


def _finished(engine: Any, record: dict[str, Any]) -> list[dict[str, Any]]:
    """Return the result of a slide as the output of a step."""
    return [record]
