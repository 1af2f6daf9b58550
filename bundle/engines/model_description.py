"""Writing ``model.json`` beside ``model.pt``: what the model is, how it was trained, and what it scored."""

from __future__ import annotations

import ast
import importlib.metadata
import logging
import math
import os
import platform
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from ignite import distributed as idist
from ignite.engine import Engine, Events

from bundle.engines.definitions import as_json, check_definition, current_parser, plain_definition
from bundle.engines.model_file import DEFINED, FORMAT, NAME, read_description, sha256, write_description
from bundle.engines.summary import command_line

logger = logging.getLogger(__name__)

PACKAGES = ("torch", "monai", "pytorch-ignite", "numpy")


class ModelDescription:
    """Describes the model of a training in ``model.json``; the handlers that write ``model.pt`` call :meth:`write`.

    Args:
        path: file to write, ``model.json`` in the folder of the weights.
        settings: what inference and evaluation need beside the network: ``classes``, ``pixel_size`` (um/px, ``None``
            where images are squeezed to one size), ``crop_size`` (px), ``mean`` and ``std`` (of images in [0, 1]),
            ``experts``, ``mask_classes``.
        training: plain facts about the training: method, seed, steps an epoch, ...
        data: plain facts about the data: folder and name of the list, counts.
        command: the words of the command line, as ``sys.argv`` has them; ``None`` leaves it out.

    The network comes from the configuration that makes this object: the definition ``network_def``, with all
    references resolved. A network from outside ``bundle`` and ``monai`` is described as ``null``: such a model needs
    its configuration wherever it is used.
    """

    def __init__(
        self,
        path: str | os.PathLike[str],
        settings: Mapping[str, Any],
        training: Mapping[str, Any] | None = None,
        data: Mapping[str, Any] | None = None,
        command: Sequence[str] | None = None,
    ) -> None:
        self.path = Path(path)
        parser = current_parser()
        self.content: dict[str, Any] = {
            "format": FORMAT,
            **{key: _definition(parser, key) for key in DEFINED},
            "settings": as_json(settings, "settings"),
            "training": as_json(training or {}, "training") | _command(command),
            "data": as_json(data or {}, "data"),
            "versions": versions((parser.get("_meta_") or {}).get("version")),
        }

    def write(self, model: Path, epoch: int | None = None, scores: Mapping[str, float] | None = None) -> None:
        """Write the file for weights that have just been saved.

        Args:
            model: the file of the weights.
            epoch: the epoch that they are from, counted from 1; ``None`` where it is not known.
            scores: metrics of the validation in that epoch.
        """
        content = dict(self.content)
        if epoch is not None:
            steps = content["training"].get("steps_per_epoch", 0)
            content["training"] = content["training"] | {"epoch": epoch, "steps": epoch * steps}
        content["weights"] = {"file": model.name, "sha256": sha256(model)}
        content["scores"] = {"validation": finite(scores)} if scores else {}
        write_description(self.path, content)

    def remove_other(self) -> None:
        """Remove a file that describes another network, before weights are written that it would misdescribe."""
        if self.path.is_file():
            try:
                if read_description(self.path)["network_def"] == self.content["network_def"]:
                    return
            except ValueError:
                logger.info("%s is damaged and is written again.", self.path)
            self.path.unlink()


class SaveScores:
    """Adds the scores of an evaluation to the model's ``model.json``; stands in ``validate#handlers`` of an evaluation.

    Scores of the same data list and protocol are replaced. Two lists of one name and different content are different
    lists; a warning says so where the model was trained on the other one. Without a ``model.json``, or where it
    describes other weights or a released model, nothing is written.

    Args:
        model: file of the weights that are evaluated.
        data: plain facts about the data: folder and name of the list, counts.
        protocol: how the model is evaluated.
    """

    def __init__(self, model: str | os.PathLike[str], data: Mapping[str, Any], protocol: str) -> None:
        self.model = Path(model)
        self.about = {"protocol": protocol, "data": as_json(data, "data")}

    def attach(self, engine: Engine) -> None:
        """Compare the lists when the evaluation starts, and save the scores when it is over."""
        engine.add_event_handler(Events.STARTED, self._warn)
        engine.add_event_handler(Events.COMPLETED, self._save)

    def _warn(self) -> None:
        path = self.model.with_name(NAME)
        if idist.get_rank() != 0 or not path.is_file():
            return
        trained, data = read_description(path).get("data", {}), self.about["data"]
        if trained.get("list") == data.get("list") and trained.get("sha256") != data.get("sha256"):
            logger.warning(
                "The model was trained on another %s than this one: same name, other content. To evaluate it on its "
                "own data, give the --dataset_dir of the training.",
                data.get("list"),
            )

    def _save(self, engine: Engine) -> None:
        path = self.model.with_name(NAME)
        if idist.get_rank() != 0 or not path.is_file():
            return
        content = read_description(path)
        if content.get("released") or content.get("weights", {}).get("sha256") != sha256(self.model):
            return
        before = content.get("scores", {}).get("evaluation", [])
        others = [one for one in before if _judged_by(one) != _judged_by(self.about)]
        entry = self.about | {"scores": finite(engine.state.metrics)}
        content["scores"] = content.get("scores", {}) | {"evaluation": [*others, entry]}
        write_description(path, content)


def _judged_by(evaluation: Mapping[str, Any]) -> tuple[Any, ...]:
    """What two evaluations share if the later one replaces the earlier."""
    data = evaluation["data"]
    return evaluation["protocol"], data.get("list"), data.get("sha256")


def data_facts(
    dataset_dir: str | os.PathLike[str], data_list: str, datalist: Mapping[str, Sequence[Any]] | None
) -> dict[str, Any]:
    """Facts about the data of a training or evaluation.

    Args:
        dataset_dir: folder of the list.
        data_list: name of the list.
        datalist: its entries by part; ``None`` for images that come from elsewhere, of which nothing is known.

    Returns:
        ``list``, ``sha256`` of its file, and ``images``, the count of each part; empty for images from elsewhere.
    """
    path = Path(dataset_dir) / data_list
    if datalist is None or not path.is_file():
        return {}
    return {
        "list": data_list,
        "sha256": sha256(path),
        "images": {part: len(entries) for part, entries in datalist.items()},
    }


def versions(bundle: str | None = None) -> dict[str, str]:
    """Versions of Python, of the main libraries and, where it is known, of the bundle."""
    found = {"python": platform.python_version()} | {name: importlib.metadata.version(name) for name in PACKAGES}
    return found | ({"bundle": bundle} if bundle else {})


def finite(scores: Mapping[str, Any]) -> dict[str, float | None]:
    """Metrics that are one number each; ``None`` for those that are not finite, which JSON does not know."""
    numbers = {}
    for name, value in scores.items():
        number = float(value)
        numbers[name] = round(number, 6) if math.isfinite(number) else None
    return numbers


def _definition(parser: Any, key: str) -> Any:
    """The definition of a component; ``None``, with a warning, where a file cannot or must not hold it."""
    try:
        definition = plain_definition(parser, key)
        check_definition(definition, key)
        return definition
    except ValueError as error:
        logger.warning(
            "model.json will not describe the network (%s): where the model is used, give its configuration", error
        )
        return None


def _command(words: Sequence[str] | None) -> dict[str, Any]:
    """The command of a training and the configs in it, where it is a run of ``monai.bundle``."""
    if not words or "run" not in words[1:2] or not str(words[0]).endswith("__main__.py"):
        return {}
    words = [str(word) for word in words[1:]]
    given = next((words[place + 1] for place, word in enumerate(words[:-1]) if word == "--config_file"), None)
    try:
        files = ast.literal_eval(given) if given and given.startswith(("[", "(")) else [given]
    except (SyntaxError, ValueError):
        files = [given]
    return {"command": command_line(["python", "-m", "monai.bundle", *words]), "config_files": list(files)}
