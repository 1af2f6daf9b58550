"""Export a trained method as a standalone bundle with weights, configs, code and model card.

    python scripts/export_bundle.py --output FOLDER --ckpt_dir runs/cps
    python scripts/export_bundle.py --output FOLDER --cell OUTPUT/cells/cps-10-seed0
    python scripts/export_bundle.py --output FOLDER --ckpt_dir runs/cps --format bioimageio

The input is the folder of a training, whose model.json contains its configs and overrides, or a benchmark cell. Weights
without a model.json also require the arguments of their training (--config_file and overrides). The new bundle
supports training, evaluation, inference and serving like this one, with that method as its default: its train.json
contains the configs of the run, and models/ the best network of the run (the teacher, if the method evaluates its
teacher) with its model.json. The folder is created only after a test prediction succeeds.

--format huggingface adds the files of a repository of the Hugging Face Hub; --format bioimageio writes a bioimage.io
model package instead (docs/exports.md).
"""

from __future__ import annotations

import argparse
import json
import shutil
import sys
import tempfile
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

ROOT = Path(__file__).resolve().parents[1]
sys.path.insert(0, str(ROOT))

from scripts.interruption import end_without_traceback

end_without_traceback()

if TYPE_CHECKING:
    from torch import nn

PREPARES = ("data#image_reader", "validate#fixed_transforms")
"""Preprocessing in validation, which inference.json repeats."""
FORMATS = ("monai", "bioimageio", "huggingface")
"""Values of --format."""
LEFT_OUT = ("methods", "encoders", "sizes")
"""Folders of overlays that would change the trained network."""
MODEL = "model.pt"


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the program. Exit codes: 0 success, 1 error, 2 invalid command line, 130 interrupted."""
    from bundle.engines.error_summary import sentence
    from scripts.benchmarking import settings_of
    from scripts.exporting import paths_of, read_cell, training_arguments

    options = _parser()
    given, overrides = options.parse_known_args(arguments)
    try:
        changes = settings_of(overrides)
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
                files = paths_of(given.config_file)
            export(files, changes, given.ckpt_dir / MODEL, given.output, {}, given.format)
        else:
            plan, result = read_cell(given.cell)
            changes = plan["config"]["overrides"] | changes
            files = [str(ROOT / file) for file in plan["config"]["files"]]
            export(files, changes, given.cell / "models" / MODEL, given.output, result, given.format)
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
    parser.add_argument("--format", choices=FORMATS, default=FORMATS[0], help="what to write (default: monai)")
    parser.add_argument("--cell", type=Path, help="folder of a finished cell of scripts/benchmark.py")
    return parser


def export(
    files: Sequence[str],
    changes: Mapping[str, Any],
    model: Path,
    output: Path,
    result: dict[str, Any],
    form: str = FORMATS[0],
) -> None:
    """Write the bundle, or the package of another format.

    Args:
        files: configs of the training run.
        changes: overrides of the training run.
        model: weights of the training run.
        output: output folder.
        result: benchmark results for the model card; may be empty.
        form: one of ``FORMATS``.

    Raises:
        FileNotFoundError: if there are no weights.
        RuntimeError: if the format needs a library that is missing.
        ValueError: if the weights do not fit the network, inference does not support the run's preprocessing, or a
            config cannot name the output folder.
    """
    from bundle.engines.run_summary import command_line
    from scripts.data_preparation.folder_writer import new_folder

    if "#" in str(output) or "::" in str(output):
        raise ValueError(f"the path of --output {output} holds #, which MONAI reads as a separator; give another")
    with new_folder(output) as folder, tempfile.TemporaryDirectory() as temporary:
        bundle = folder if form != "bioimageio" else Path(temporary)
        title = write_bundle(bundle, files, changes, model, result)
        network, settings = check_prediction(bundle)
        if form != "monai":
            convert(bundle, folder, network, settings, form)
    print(f"wrote {title}, format {form}, to {output}.", end=" ")
    if form == "bioimageio":
        print("To test it:", command_line(["bioimageio", "test", str(output)]), sep="\n")
        return
    print(f"Its card is {output / 'docs' / 'README.md'}. To predict:")
    command = ["python", "-m", "monai.bundle", "run", "inference", "--bundle_root", str(output), "--config_file"]
    print(command_line([*command, str(output / "configs" / "inference.json"), "--dataset_dir", "FOLDER_OF_IMAGES"]))


def write_bundle(
    folder: Path, files: Sequence[str], changes: Mapping[str, Any], model: Path, result: dict[str, Any]
) -> str:
    """Write the files of the bundle into an existing folder and return the name of the method; see :func:`export`."""
    from bundle.engines.model_json_reader import NAME, read_description
    from bundle.export import model_card, model_metadata
    from scripts.benchmarking import merged
    from scripts.exporting import OWN, title_of

    run = merged(ROOT, files, changes)
    shipped = merged(ROOT, ["configs/train.json"], {})
    check_preparation(run, shipped)
    training = merged(ROOT, files, {**changes, **{key: _at(shipped, key) for key in OWN}})
    handlers = [_as_component(handler) for handler in training["train"]["handlers"]]
    training["train"] = training["train"] | {"handlers": handlers}
    if not model.is_file():
        raise FileNotFoundError(f"no weights at {model}; train first, or give the --ckpt_dir of the run")
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
    _write(folder / "configs" / "metadata.json", model_metadata(metadata, description, title_of(run)))
    (folder / "docs").mkdir()
    (folder / "docs" / "README.md").write_text(model_card(description, title_of(run), result), encoding="utf-8")
    return title_of(run)[0]


def convert(bundle: Path, folder: Path, network: nn.Module, settings: Mapping[str, Any], form: str) -> None:
    """Write the files of another format than MONAI's from those of a bundle; see :func:`export`."""
    from bundle.data.phantom import draw_tile
    from bundle.export import license_terms, write_bioimageio, write_huggingface

    metadata = json.loads((bundle / "configs" / "metadata.json").read_text(encoding="utf-8"))
    card = (bundle / "docs" / "README.md").read_text(encoding="utf-8")
    terms = license_terms((bundle / "LICENSE").read_text(encoding="utf-8"))
    if form == "huggingface":
        write_huggingface(folder, metadata, card, terms)
    else:
        image, _ = draw_tile(0, mpp=settings["pixel_size"])
        write_bioimageio(folder, network, settings, metadata, card, terms, image)


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


def check_prediction(folder: Path) -> tuple[nn.Module, dict[str, Any]]:
    """Load the weights of the new bundle into its network and predict an image of noise.

    Returns:
        The network, and the settings of its preprocessing and classes.

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
    return network, {name: parser.get_parsed_content(name) for name in ("mean", "std", "pixel_size", "class_names")}


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
