"""Writing of ``model.json`` beside ``model.pt``: network, settings, training and scores of a model."""

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

from bundle.engines.component_definitions import as_json, check_definition, current_parser, plain_definition
from bundle.engines.model_json_reader import DEFINED, FORMAT, NAME, read_description, sha256, write_description
from bundle.engines.run_summary import command_line

logger = logging.getLogger(__name__)

PACKAGES = ("torch", "monai", "pytorch-ignite", "numpy")


class ModelDescription:
    """Description of a trained model in ``model.json``; the handlers that write ``model.pt`` call :meth:`write`.

    The network is the definition ``network_def`` of the configuration that creates this object, with all references
    resolved. A network from outside ``bundle`` and ``monai`` is written as ``null``; such a model always needs its
    configuration.

    Args:
        path: file to write, ``model.json`` in the folder of the weights.
        settings: settings that inference and evaluation need besides the network: ``classes``, ``pixel_size`` (um/px,
            ``None`` if images are resized to one size), ``crop_size`` (px), ``mean`` and ``std`` (of images in
            [0, 1]), ``experts``, ``mask_classes``.
        training: plain values about the training: method, seed, steps per epoch, ...
        data: plain values about the data, see :func:`data_facts`.
        command: command line as in ``sys.argv``; ``None`` leaves it out.
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
            **{name: _definition(parser, key) for name, key in DEFINED.items()},
            "settings": as_json(settings, "settings"),
            "training": as_json(training or {}, "training") | _command(command),
            "data": as_json(data or {}, "data"),
            "versions": versions((parser.get("_meta_") or {}).get("version")),
        }

    def write(self, model: Path, epoch: int | None = None, scores: Mapping[str, float] | None = None) -> None:
        """Write the file for weights that have just been saved.

        Args:
            model: file of the weights.
            epoch: epoch of the weights, counted from 1; ``None`` if unknown.
            scores: validation metrics of this epoch.
        """
        content = dict(self.content)
        if epoch is not None:
            steps = content["training"].get("steps_per_epoch", 0)
            content["training"] = content["training"] | {"epoch": epoch, "steps": epoch * steps}
        content["weights"] = {"file": model.name, "sha256": sha256(model)}
        content["scores"] = {"validation": finite(scores)} if scores else {}
        write_description(self.path, content)

    def remove_other(self) -> None:
        """Remove a file that describes another network, because it would be wrong for the new weights."""
        if self.path.is_file():
            try:
                if read_description(self.path)["network_def"] == self.content["network_def"]:
                    return
            except ValueError:
                logger.info("%s is damaged; it will be written again.", self.path)
            self.path.unlink()


class SaveScores:
    """Handler that adds the scores of an evaluation to ``model.json``; part of ``validate#handlers`` of an evaluation.

    Scores of the same data list and protocol are replaced. Lists with the same name and different content are different
    lists; a warning is logged if the model was trained on the other one. Nothing is written if ``model.json`` is
    missing or describes other weights or a released model.

    Args:
        model: file of the evaluated weights.
        data: plain values about the data, see :func:`data_facts`.
        protocol: name of the evaluation protocol.
    """

    def __init__(self, model: str | os.PathLike[str], data: Mapping[str, Any], protocol: str) -> None:
        self.model = Path(model)
        self.about = {"protocol": protocol, "data": as_json(data, "data")}

    def attach(self, engine: Engine) -> None:
        """Compare the data lists at the start of the evaluation, and save the scores at the end."""
        engine.add_event_handler(Events.STARTED, self._warn)
        engine.add_event_handler(Events.COMPLETED, self._save)

    def _warn(self) -> None:
        path = self.model.with_name(NAME)
        if idist.get_rank() != 0 or not path.is_file():
            return
        trained, data = read_description(path).get("data", {}), self.about["data"]
        if trained.get("list") == data.get("list") and trained.get("sha256") != data.get("sha256"):
            logger.warning(
                "The model was trained on another %s: same name, different content. To evaluate it on the same data, "
                "give the --dataset_dir of the training.",
                data.get("list"),
            )

    def _save(self, engine: Engine) -> None:
        path = self.model.with_name(NAME)
        if idist.get_rank() != 0 or not path.is_file():
            return
        content = read_description(path)
        if content.get("released") or content.get("weights", {}).get("sha256") != sha256(self.model):
            return
        evaluations = content.get("scores", {}).get("evaluation", [])
        others = [earlier for earlier in evaluations if _evaluation_key(earlier) != _evaluation_key(self.about)]
        entry = self.about | {"scores": finite(engine.state.metrics)}
        content["scores"] = content.get("scores", {}) | {"evaluation": [*others, entry]}
        write_description(path, content)


def _evaluation_key(evaluation: Mapping[str, Any]) -> tuple[Any, ...]:
    """Return protocol and data list; an evaluation replaces an earlier one with the same key."""
    data = evaluation["data"]
    return evaluation["protocol"], data.get("list"), data.get("sha256")


def data_facts(
    dataset_dir: str | os.PathLike[str], data_list: str, datalist: Mapping[str, Sequence[Any]] | None
) -> dict[str, Any]:
    """Return facts about the data of a training or evaluation.

    Args:
        dataset_dir: folder of the data list.
        data_list: file name of the data list.
        datalist: entries of the list by part; ``None`` if the images do not come from a data list.

    Returns:
        ``list``, ``sha256`` of its file, and ``images``, the count of each part; empty without a data list.
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
    """Return the versions of Python, the main libraries and, if known, the bundle."""
    libraries = {name: importlib.metadata.version(name) for name in PACKAGES}
    return {"python": platform.python_version()} | libraries | ({"bundle": bundle} if bundle else {})


def finite(scores: Mapping[str, Any]) -> dict[str, float | None]:
    """Return metrics rounded to 6 digits, with ``None`` for values that are not finite, which JSON does not allow."""
    numbers = {}
    for name, value in scores.items():
        number = float(value)
        numbers[name] = round(number, 6) if math.isfinite(number) else None
    return numbers


def _definition(parser: Any, key: str) -> Any:
    """Return the definition of a component; ``None``, with a warning, if it cannot or must not be written."""
    try:
        definition = plain_definition(parser, key)
        check_definition(definition, key)
        return definition
    except ValueError as error:
        logger.warning(
            "model.json will not describe the network (%s); give its configuration when you use the model", error
        )
        return None


def _command(arguments: Sequence[str] | None) -> dict[str, Any]:
    """Return the command of a training and its config files, if it is a run of ``monai.bundle``."""
    if not arguments or "run" not in arguments[1:2] or not str(arguments[0]).endswith("__main__.py"):
        return {}
    arguments = [str(word) for word in arguments[1:]]
    value = next((arguments[index + 1] for index, word in enumerate(arguments[:-1]) if word == "--config_file"), None)
    try:
        files = ast.literal_eval(value) if value and value.startswith(("[", "(")) else [value]
    except (SyntaxError, ValueError):
        files = [value]
    return {"command": command_line(["python", "-m", "monai.bundle", *arguments]), "config_files": list(files)}
