"""Export a trained method as a standalone bundle with weights, configs, code and model card.

    python scripts/export_bundle.py --output FOLDER --ckpt_dir runs/cps
    python scripts/export_bundle.py --output FOLDER --cell OUTPUT/cells/cps-10-seed0

The input is the folder of a training, whose model.json contains its configs and overrides, or a benchmark cell. Weights
without a model.json also require the arguments of their training (--config_file and overrides). The new bundle
supports training, evaluation, inference and serving like this one, with that method as its default: its train.json
contains the configs of the run, and models/ the best network of the run (the teacher, if the method evaluates its
teacher) with its model.json. The folder is created only after a test prediction succeeds.
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

from scripts.interruption import end_without_traceback

end_without_traceback()

PREPARES = ("data#image_reader", "validate#fixed_transforms")
"""Preprocessing in validation, which inference.json repeats."""
OWN = (
    *("bundle_root", "device", "dataset_dir", "output_dir", "ckpt_dir"),
    *("resume", "num_workers", "data#cache_gib", "amp"),
)
"""Settings that depend on the machine or its paths, not on the method."""
LEFT_OUT = ("methods", "encoders", "sizes")
"""Folders of overlays that would change the trained network."""
MODEL = "model.pt"


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the program. Exit codes: 0 success, 1 error, 2 invalid command line, 130 interrupted."""
    from bundle.engines.error_summary import sentence
    from scripts.benchmarking import settings_of

    options = _parser()
    given, words = options.parse_known_args(arguments)
    try:
        changes = settings_of(words)
        if (given.cell is None) == (given.ckpt_dir is None) or (given.cell is not None and given.config_file):
            raise ValueError("give either --cell or --ckpt_dir; without a model.json there, also --config_file")
    except ValueError as error:
        options.error(str(error))
    try:
        if given.cell is None:
            if given.config_file is None:
                files, settings = training_arguments(given.ckpt_dir)
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
    parser.add_argument("--output", required=True, type=Path, help="output folder; it must be new or empty")
    parser.add_argument("--ckpt_dir", type=Path, help=f"folder with {MODEL} and model.json of the training run")
    parser.add_argument("--config_file", help="configs of the training run, if it has no model.json")
    parser.add_argument("--cell", type=Path, help="folder of a finished cell of scripts/benchmark.py")
    return parser


def _paths(config_file: str) -> list[str]:
    """Return the absolute paths of the configs in a command line."""
    from fire.parser import DefaultParseValue

    value = DefaultParseValue(config_file)
    return [str(Path(file).absolute()) for file in (value if isinstance(value, list | tuple) else [value])]


def training_arguments(folder: Path) -> tuple[list[str], dict[str, Any]]:
    """Return configs and overrides of a training from the model.json in its folder.

    Configs and expressions are code, and a model.json may be untrusted: only configs of this bundle and plain values
    are accepted.

    Raises:
        ValueError: where it tells none, a config is no longer there, or one of them would have to be trusted.
    """
    from bundle.engines.component_definitions import TARGET, check_definition
    from bundle.engines.model_json_reader import NAME, read_description
    from scripts.benchmarking import settings_of

    if not (folder / NAME).is_file():
        raise ValueError(f"{folder} has no {NAME}; give --config_file and the overrides of the training")
    training = read_description(folder / NAME).get("training", {})
    words = shlex.split(training.get("command", ""))
    files = [
        next((str(path) for path in (Path(file), ROOT / file) if path.is_file()), None) for file in _files(training)
    ]
    if not words or not files or None in files:
        raise ValueError(
            f"{folder / NAME} names no existing configs; give --config_file and the overrides of the training"
        )
    words = words[words.index("run") + 1 :] if "run" in words else words
    settings = settings_of(words if words[:1] and words[0].startswith("--") else words[1:])
    settings = {key: value for key, value in settings.items() if key not in ("config_file", *OWN)}
    try:
        for file in map(str, files):
            if not Path(file).resolve().is_relative_to(ROOT / "configs"):
                raise ValueError(f"{file} is not a config of this bundle")
        for key, value in settings.items():
            check_definition({TARGET: value} if key.endswith(f"#{TARGET}") else value, key)
    except ValueError as error:
        raise ValueError(
            f"{folder / NAME}: {error}; if you trust it, give --config_file and the overrides of the training"
        ) from error
    return [str(file) for file in files], settings


def _files(training: Mapping[str, Any]) -> list[str]:
    return [str(file) for file in training.get("config_files") or []]


def _cell(folder: Path) -> tuple[dict[str, Any], dict[str, Any]]:
    """Return the plan and the result of a cell.

    Raises:
        ValueError: if the folder is not a finished cell.
    """
    for name in ("plan.json", "cell.json"):
        if not (folder / name).is_file():
            raise ValueError(f"{folder} is not a finished cell of scripts/benchmark.py: it has no {name}")
    plan, cell = (json.loads((folder / name).read_text(encoding="utf-8")) for name in ("plan.json", "cell.json"))
    return plan, cell


def export(files: Sequence[str], changes: Mapping[str, Any], model: Path, output: Path, result: dict[str, Any]) -> None:
    """Write the bundle.

    Args:
        files: configs of the training run.
        changes: overrides of the training run.
        model: weights of the training run.
        output: output folder.
        result: benchmark results for the model card; may be empty.

    Raises:
        FileNotFoundError: if there are no weights.
        ValueError: if the weights do not fit the network, inference does not support the run's preprocessing, or a
            config cannot name the output folder.
    """
    from bundle.data.folder_writer import new_folder
    from bundle.engines.model_json_reader import NAME, read_description
    from bundle.engines.run_summary import command_line
    from bundle.export import model_card, model_metadata
    from scripts.benchmarking import merged

    run = merged(ROOT, files, changes)
    shipped = merged(ROOT, ["configs/train.json"], {})
    check_preparation(run, shipped)
    training = merged(ROOT, files, {**changes, **{key: _at(shipped, key) for key in OWN}})
    handlers = [_as_component(handler) for handler in training["train"]["handlers"]]
    training["train"] = training["train"] | {"handlers": handlers}
    if not model.is_file():
        raise FileNotFoundError(f"no weights at {model}; train first, or give the --ckpt_dir of the run")
    if "#" in str(output) or "::" in str(output):
        raise ValueError(f"the path of --output {output} holds #, which MONAI reads as a separator; give another")
    with new_folder(output) as folder:
        for name in ("bundle", "configs"):
            excluded = shutil.ignore_patterns("__pycache__", *LEFT_OUT)
            shutil.copytree(ROOT / name, folder / name, ignore=excluded)
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
        check_prediction(folder)
    print(f"wrote the bundle of {_title(run)[0]} to {output}; its card is {output / 'docs' / 'README.md'}. To predict:")
    words = ["python", "-m", "monai.bundle", "run", "inference", "--bundle_root", str(output), "--config_file"]
    print(command_line([*words, str(output / "configs" / "inference.json"), "--dataset_dir", "FOLDER_OF_IMAGES"]))


def check_preparation(run: Mapping[str, Any], shipped: Mapping[str, Any]) -> None:
    """Check that inference.json supports the preprocessing of a run.

    Raises:
        ValueError: if the run reads or resamples images differently from the shipped configs.
    """
    for key in PREPARES:
        if _at(run, key) != _at(shipped, key):
            raise ValueError(
                f"{key} of the run differs from configs/train.json (protocol {run.get('protocol')!r}), and inference "
                "does not support it; export a run of another protocol"
            )


def describe(run: Mapping[str, Any], model: Path) -> None:
    """Write the missing model.json of weights, from the configs of their training."""
    from monai.bundle import ConfigParser

    parser = ConfigParser(dict(run))
    facts = {"method": run["method"], "protocol": run["protocol"], "seed": run["seed"]}
    parser.update({"bundle_root": str(ROOT), "ckpt_dir": str(model.parent), "train#description#command": None})
    parser.update({"train#description#data": {}, "train#description#training": facts})
    parser.get_parsed_content("train#description").write(model)


def check_prediction(folder: Path) -> None:
    """Load the weights of the new bundle into its network and predict an image of noise.

    Raises:
        ValueError: if the weights do not fit the network, or the output has another shape or is not finite.
    """
    import torch
    from monai.bundle import ConfigParser

    from bundle.engines import ModelCheckpointLoader
    from bundle.utils import check_output

    parser = ConfigParser()
    parser.read_config(str(folder / "configs" / "inference.json"))
    parser.update({"bundle_root": str(folder), "device": "$torch.device('cpu')"})
    network = parser.get_parsed_content("network").eval()
    ModelCheckpointLoader(network, folder / "models" / MODEL).load()
    side = parser.get_parsed_content("crop_size")
    with torch.no_grad():
        logits = network(torch.randn(1, 3, *side, generator=torch.Generator().manual_seed(0)))
    expected = (1, parser.get_parsed_content("classes"), *side)
    check_output(logits, "an image of noise")
    if tuple(logits.shape) != expected:
        raise ValueError(f"the network's output has the shape {tuple(logits.shape)}; it must be {expected}")


def _title(run: Mapping[str, Any]) -> tuple[str, str]:
    """Return name and idea of the run's method, from the first sentence of its overlay."""
    path = ROOT / "configs" / "methods" / f"{run['method']}.yaml"
    if not path.is_file():
        return str(run["method"]), "a method without an overlay"
    first, *rest = path.read_text(encoding="utf-8").splitlines()
    more = itertools.takewhile(lambda line: line.startswith("#   "), rest)
    name, _, idea = " ".join(line[1:].strip() for line in (first, *more)).partition(": ")
    return name, idea


def _as_component(handler: Any) -> Any:
    """Convert a handler that is a reference to a component: MONAI Label requires ``_target_`` in each."""
    return {"_target_": f"$lambda: {handler}"} if isinstance(handler, str) else handler


def _at(config: Any, key: str) -> Any:
    for part in key.split("#"):
        config = config[int(part) if isinstance(config, list) else part]
    return config


def _write(path: Path, content: Mapping[str, Any]) -> None:
    path.write_text(json.dumps(content, indent=4, ensure_ascii=False) + "\n", encoding="utf-8")


if __name__ == "__main__":
    sys.exit(main())
