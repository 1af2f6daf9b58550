"""Make a bundle of its own of a trained run: one method, its weights, configs, code and card.

    python scripts/export_bundle.py --output FOLDER --ckpt_dir runs/cps
    python scripts/export_bundle.py --output FOLDER --cell OUTPUT/cells/cps-10-seed0

Takes the folder of a training, whose model.json knows its configs and overrides, or a cell of the benchmark. Weights
without a model.json need the words of their training too (--config_file and overrides). The new bundle trains,
evaluates, infers, loads and serves like this one, with that method as its default: its train.json is the run's configs
in one file, and models/ has the run's best network (of a method that evaluates its teacher, the teacher) with its
model.json. The folder appears when it is complete and has answered an image.
"""

from __future__ import annotations

import argparse
import itertools
import json
import shlex
import shutil
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parents[1]
sys.path.insert(0, str(ROOT))

PREPARES = ("image_reader", "validate#fixed_transforms")
"""What an image goes through in validation and inference alike; inference.json has it in its own words."""
OWN = ("bundle_root", "device", "dataset_dir", "output_dir", "ckpt_dir", "resume", "num_workers", "cache_gib", "amp")
"""Settings that belong to a machine or a place, and not to a method."""
LEFT_OUT = ("methods", "encoders", "sizes")
"""Folders of overlays that would make another network of the one that was trained."""
MODEL = "model.pt"


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the program; 0 is good, 1 an error that the last line explains, 2 a wrong command line, 130 a Ctrl-C."""
    from bundle.benchmark import settings_of
    from bundle.engines.error_summary import sentence

    options = _parser()
    given, words = options.parse_known_args(arguments)
    try:
        changes = settings_of(words)
        if (given.cell is None) == (given.ckpt_dir is None) or (given.cell is not None and given.config_file):
            raise ValueError("give either --cell, or --ckpt_dir and, without a model.json there, --config_file")
    except ValueError as error:
        options.error(str(error))
    try:
        if given.cell is None:
            if given.config_file is None:
                files, settings = training_words(given.ckpt_dir)
                changes = settings | changes
            else:
                files = _paths(given.config_file)
            export(files, changes, given.ckpt_dir / MODEL, given.output, {})
        else:
            plan, result = _cell(given.cell)
            changes = plan["config"]["overrides"] | changes
            files = [str(ROOT / file) for file in plan["config"]["files"]]
            export(files, changes, given.cell / "models" / MODEL, given.output, result)
    except (OSError, ValueError, KeyError, TypeError, RuntimeError) as error:
        print(f"export_bundle: {sentence(error)}", file=sys.stderr)
        return 1
    except KeyboardInterrupt:
        print("export_bundle: stopped; nothing was written", file=sys.stderr)
        return 130
    return 0


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--output", required=True, type=Path, help="folder to make; it must not hold anything")
    parser.add_argument("--ckpt_dir", type=Path, help=f"folder with {MODEL} and model.json of the training run")
    parser.add_argument("--config_file", help="configs of the training run, where there is no model.json")
    parser.add_argument("--cell", type=Path, help="folder of a finished cell of scripts/benchmark.py")
    return parser


def _paths(config_file: str) -> list[str]:
    """Configs of a command line, from the working directory."""
    from fire.parser import DefaultParseValue

    found = DefaultParseValue(config_file)
    return [str(Path(file).absolute()) for file in (found if isinstance(found, list | tuple) else [found])]


def training_words(folder: Path) -> tuple[list[str], dict[str, Any]]:
    """Configs and overrides of the training that wrote a folder, as its model.json tells them.

    Configs and expressions are code, and a model.json may come from a stranger: only configs of this bundle and plain
    values are taken from it.

    Raises:
        ValueError: where it tells none, a config is no longer there, or one of them would have to be trusted.
    """
    from bundle.benchmark import settings_of
    from bundle.engines.definitions import TARGET, check_definition
    from bundle.engines.model_file import NAME, read_description

    if not (folder / NAME).is_file():
        raise ValueError(f"{folder} has no {NAME}; give the training's --config_file and overrides")
    training = read_description(folder / NAME).get("training", {})
    words = shlex.split(training.get("command", ""))
    files = [next((str(at) for at in (Path(file), ROOT / file) if at.is_file()), None) for file in _files(training)]
    if not words or not files or None in files:
        raise ValueError(
            f"{folder / NAME} tells no configs of a training that are still there; give --config_file and its overrides"
        )
    words = words[words.index("run") + 1 :] if "run" in words else words
    settings = settings_of(words if words[:1] and words[0].startswith("--") else words[1:])
    settings = {key: value for key, value in settings.items() if key not in ("config_file", *OWN)}
    try:
        for file in map(str, files):
            if not Path(file).resolve().is_relative_to(ROOT / "configs"):
                raise ValueError(f"{file} is no config of this bundle")
        for key, value in settings.items():
            check_definition({TARGET: value} if key.endswith(f"#{TARGET}") else value, key)
    except ValueError as error:
        raise ValueError(
            f"{folder / NAME}: {error}; if you trust it, give the --config_file and the overrides of the training"
        ) from error
    return [str(file) for file in files], settings


def _files(training: Mapping[str, Any]) -> list[str]:
    return [str(file) for file in training.get("config_files") or []]


def _cell(folder: Path) -> tuple[dict[str, Any], dict[str, Any]]:
    """Plan and result of a cell.

    Raises:
        ValueError: where it is none, or not finished.
    """
    for name in ("plan.json", "cell.json"):
        if not (folder / name).is_file():
            raise ValueError(f"{folder} is no finished cell of scripts/benchmark.py: it has no {name}")
    plan, cell = (json.loads((folder / name).read_text(encoding="utf-8")) for name in ("plan.json", "cell.json"))
    return plan, cell


def export(files: Sequence[str], changes: Mapping[str, Any], model: Path, output: Path, result: dict[str, Any]) -> None:
    """Write the bundle.

    Args:
        files: configs of the training run.
        changes: its overrides.
        model: the weights that it wrote.
        output: folder to make.
        result: what a benchmark wrote of the run, for the card; may be empty.

    Raises:
        FileNotFoundError: where there are no weights.
        ValueError: where the weights are of another network, or the run prepares images as inference cannot.
    """
    from bundle.benchmark import merged
    from bundle.data.writing import new_folder
    from bundle.engines.model_file import NAME, read_description
    from bundle.engines.summary import command_line
    from bundle.export import model_card, model_metadata

    run = merged(ROOT, files, changes)
    shipped = merged(ROOT, ["configs/train.json"], {})
    check_preparation(run, shipped)
    training = {key: shipped[key] if key in OWN and key in shipped else value for key, value in run.items()}
    training["train"] = training["train"] | {"handlers": [_as_component(one) for one in training["train"]["handlers"]]}
    if not model.is_file():
        raise FileNotFoundError(f"no weights at {model}; train first, or give the --ckpt_dir of the run")
    with new_folder(output) as folder:
        for name in ("bundle", "configs"):
            left = shutil.ignore_patterns("__pycache__", *LEFT_OUT)
            shutil.copytree(ROOT / name, folder / name, ignore=left)
        shutil.copy(ROOT / "LICENSE", folder)
        (folder / "models").mkdir()
        shutil.copy(model, folder / "models" / MODEL)
        if model.with_name(NAME).is_file():
            shutil.copy(model.with_name(NAME), folder / "models")
        else:
            describe(run, folder / "models" / MODEL)
        description = read_description(folder / "models" / NAME)
        _write(folder / "configs" / "train.json", training)
        metadata = json.loads((ROOT / "configs" / "metadata.json").read_text(encoding="utf-8"))
        _write(folder / "configs" / "metadata.json", model_metadata(metadata, description, _title(run)))
        (folder / "docs").mkdir()
        (folder / "docs" / "README.md").write_text(model_card(description, _title(run), result), encoding="utf-8")
        answer(folder)
    print(f"{output}: {_title(run)[0]}, ready; its card is {output / 'docs' / 'README.md'}. To predict:")
    words = ["python", "-m", "monai.bundle", "run", "inference", "--bundle_root", str(output), "--config_file"]
    print(command_line([*words, str(output / "configs" / "inference.json"), "--dataset_dir", "FOLDER_OF_IMAGES"]))


def check_preparation(run: Mapping[str, Any], shipped: Mapping[str, Any]) -> None:
    """Refuse a run that prepares images in a way that inference.json does not know.

    Raises:
        ValueError: where the run reads or resamples images otherwise than the shipped configs.
    """
    for key in PREPARES:
        if _at(run, key) != _at(shipped, key):
            raise ValueError(
                f"the run prepares its images by another {key} than configs/train.json (protocol "
                f"{run.get('protocol')!r}), which inference does not know; export a run of another protocol"
            )


def describe(run: Mapping[str, Any], model: Path) -> None:
    """Write the model.json of weights that have none, from the configs of their training."""
    from monai.bundle import ConfigParser

    parser = ConfigParser(dict(run))
    facts = {"method": run["method"], "protocol": run["protocol"], "seed": run["seed"]}
    parser.update({"bundle_root": str(ROOT), "ckpt_dir": str(model.parent), "description#command": None})
    parser.update({"description#data": {}, "description#training": facts})
    parser.get_parsed_content("description").write(model)


def answer(folder: Path) -> None:
    """Let the new bundle's network take its weights and answer an image.

    Raises:
        ValueError: where the weights are not of this network, or the answer has another shape or is not finite.
    """
    import torch
    from monai.bundle import ConfigParser

    from bundle.engines import ModelCheckpointLoader

    parser = ConfigParser()
    parser.read_config(str(folder / "configs" / "inference.json"))
    parser.update({"bundle_root": str(folder), "device": "$torch.device('cpu')"})
    network = parser.get_parsed_content("network").eval()
    ModelCheckpointLoader(network, folder / "models" / MODEL).load()
    side = parser.get_parsed_content("crop_size")
    with torch.no_grad():
        logits = network(torch.zeros(1, 3, *side))
    expected = (1, parser.get_parsed_content("classes"), *side)
    if tuple(logits.shape) != expected or not bool(torch.isfinite(logits).all()):
        raise ValueError(f"the network answers {tuple(logits.shape)}, finite or not, where {expected} is expected")


def _title(run: Mapping[str, Any]) -> tuple[str, str]:
    """Name and idea of the run's method, from the first sentence of its overlay."""
    path = ROOT / "configs" / "methods" / f"{run['method']}.yaml"
    if not path.is_file():
        return str(run["method"]), "a method without an overlay of its own"
    first, *rest = path.read_text(encoding="utf-8").splitlines()
    more = itertools.takewhile(lambda line: line.startswith("#   "), rest)
    name, _, idea = " ".join(line[1:].strip() for line in (first, *more)).partition(": ")
    return name, idea


def _as_component(handler: Any) -> Any:
    """A handler that is a reference as a component that gives it: MONAI Label asks each for its ``_target_``."""
    return {"_target_": f"$lambda: {handler}"} if isinstance(handler, str) else handler


def _at(config: Any, key: str) -> Any:
    for part in key.split("#"):
        config = config[int(part) if isinstance(config, list) else part]
    return config


def _write(path: Path, content: Mapping[str, Any]) -> None:
    path.write_text(json.dumps(content, indent=4, ensure_ascii=False) + "\n", encoding="utf-8")


if __name__ == "__main__":
    sys.exit(main())
