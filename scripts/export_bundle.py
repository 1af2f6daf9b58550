"""Make a bundle of its own of a trained run: one method, its weights, configs, code and card.

    python scripts/export_bundle.py --output FOLDER --ckpt_dir DIR \
        --config_file "['configs/train.json','configs/methods/cps.yaml']"
    python scripts/export_bundle.py --output FOLDER --cell OUTPUT/cells/cps-10-seed0

Takes the words of the training run (its configs and its overrides), or a cell of the benchmark, which knows them. The
new bundle trains, evaluates, infers, loads and serves like this one, with that method as its default: its train.json is
the run's configs in one file, its inference.json has the run's network, and models/model.pt its best network (of a
method that evaluates its teacher, the teacher). The folder appears when it is complete and has answered an image.
"""

from __future__ import annotations

import argparse
import itertools
import json
import re
import shutil
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parents[1]
sys.path.insert(0, str(ROOT))

CARRIED = ("pixel_size", "crop_size", "classes", "normalisation", "network_def", "network")
"""Keys of inference.json that follow the run; what they refer to comes along."""
PREPARES = ("image_reading#0", "validate#fixed_transforms")
"""What an image goes through in validation and inference alike; inference.json has it in its own words."""
OWN = ("bundle_root", "device", "dataset_dir", "output_dir", "ckpt_dir", "resume", "num_workers", "cache_gib", "amp")
"""Settings that belong to a machine or a place, and not to a method."""
LEFT_OUT = ("methods", "sizes")
"""Folders of overlays that would make another network of the one that was trained."""
MODEL = "model.pt"


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the program; 0 is good, 1 an error that the last line explains, 2 a wrong command line, 130 a Ctrl-C."""
    from bundle.benchmark import settings_of
    from bundle.engines.ending import sentence

    options = _parser()
    given, words = options.parse_known_args(arguments)
    try:
        changes = settings_of(words)
        if (given.cell is None) == (given.config_file is None) or (given.cell is None) != (given.ckpt_dir is not None):
            raise ValueError("give either --cell, or --config_file and --ckpt_dir")
    except ValueError as error:
        options.error(str(error))
    try:
        if given.cell is None:
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
    parser.add_argument("--config_file", help="configs of the training run, as it had them")
    parser.add_argument("--ckpt_dir", type=Path, help=f"folder with the {MODEL} of the training run")
    parser.add_argument("--cell", type=Path, help="folder of a finished cell of scripts/benchmark.py")
    return parser


def _paths(config_file: str) -> list[str]:
    """Configs of a command line, from the working directory."""
    from fire.parser import DefaultParseValue

    found = DefaultParseValue(config_file)
    return [str(Path(file).absolute()) for file in (found if isinstance(found, list | tuple) else [found])]


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

    run = merged(ROOT, files, changes)
    shipped = merged(ROOT, ["configs/train.json"], {})
    inference = inference_of(run, shipped, json.loads((ROOT / "configs" / "inference.json").read_text("utf-8")))
    training = {key: shipped[key] if key in OWN and key in shipped else value for key, value in run.items()}
    training["train"] = training["train"] | {"handlers": [_as_component(one) for one in training["train"]["handlers"]]}
    if not model.is_file():
        raise FileNotFoundError(f"no weights at {model}; train first, or give the --ckpt_dir of the run")
    with new_folder(output) as folder:
        for name in ("bundle", "configs"):
            left = shutil.ignore_patterns("__pycache__", *LEFT_OUT)
            shutil.copytree(ROOT / name, folder / name, ignore=left)
        shutil.copy(ROOT / "LICENSE", folder)
        _write(folder / "configs" / "train.json", training)
        _write(folder / "configs" / "inference.json", inference)
        _write(folder / "configs" / "metadata.json", metadata_of(run, _title(run)))
        (folder / "models").mkdir()
        shutil.copy(model, folder / "models" / MODEL)
        (folder / "docs").mkdir()
        (folder / "docs" / "README.md").write_text(card_of(run, _title(run), result), encoding="utf-8")
        answer(folder)
    print(f"{output}: {_title(run)[0]}, ready; python -m monai.bundle run inference --bundle_root {output} ...")


def inference_of(run: Mapping[str, Any], shipped: Mapping[str, Any], inference: dict[str, Any]) -> dict[str, Any]:
    """The shipped inference config with the network, resolution and normalisation of the run.

    Raises:
        ValueError: where the run reads or resamples images otherwise than the shipped configs.
    """
    for key in PREPARES:
        if _at(run, key) != _at(shipped, key):
            raise ValueError(
                f"the run prepares its images by another {key} than configs/train.json (protocol "
                f"{run.get('protocol')!r}), which inference does not know; export a run of another protocol"
            )
    inference |= {key: run[key] for key in CARRIED}
    wanted = list(CARRIED)
    while wanted:  # what is carried may refer to other keys of the run
        for name in re.findall(r"@(\w+)", json.dumps(inference[wanted.pop()])):
            if name not in inference:
                inference[name] = run[name]
                wanted.append(name)
    return inference


def metadata_of(run: Mapping[str, Any], title: tuple[str, str]) -> dict[str, Any]:
    """The shipped metadata with the run's method, classes and size of a patch."""
    metadata = json.loads((ROOT / "configs" / "metadata.json").read_text(encoding="utf-8"))
    metadata |= {"name": f"{title[0]} gland segmentation", "description": title[1]}
    metadata["changelog"] = {metadata["version"]: f"Exported from a training of method {run['method']}"}
    shapes = metadata["network_data_format"]
    for part in (shapes["inputs"]["image"], shapes["outputs"]["pred"]):
        part["spatial_shape"] = run["crop_size"]
    if run["classes"] != shapes["outputs"]["pred"]["num_channels"]:
        known = {number: name for name, number in run["class_target"].get("grades", {}).items()}
        names = {str(number): known.get(number, f"class {number}") for number in range(1, run["classes"])}
        names = {"0": "background"} | names
        shapes["outputs"]["pred"] |= {"num_channels": run["classes"], "channel_def": names}
        metadata["pred_classes"] = ", ".join(f"{number} {name}" for number, name in names.items())
        metadata["label_classes"] = metadata["pred_classes"]
    return metadata


def card_of(run: Mapping[str, Any], title: tuple[str, str], result: Mapping[str, Any]) -> str:
    """The bundle card: what was trained, on what, what it scored, how to use it, its limits."""
    counts = ", ".join(f"{count} {part}" for part, count in (result.get("counts") or {}).items())
    scores = "".join(
        f"| {name} | {value:.4g} |\n"
        for name, value in (result.get("metrics") or {}).items()
        if isinstance(value, int | float)
    )
    scores = f"| metric | value |\n|---|---|\n{scores}" if scores else "Not evaluated when it was exported.\n"
    data = f"{result['data']}, " if result.get("data") else ""
    return f"""# Model overview
{title[0]}: {title[1]}

Exported from a training of the Semi-MoE bundle, method `{run["method"]}`. For research only. Not for diagnosis.

## Data
Data list: {data}`{run["data_list"]}`{f" ({counts})" if counts else ""}; seed {run["seed"]}. Terms of the data set bind
what was learnt from it too: GlaS and CRAG are for research only.

Images are read as RGB and resampled to {run["pixel_size"]} um/px where their resolution is known.

## Performance
Protocol `{run["protocol"]}`, on the test part of that list:

{scores}
## MONAI bundle commands
    python -m monai.bundle run inference --config_file configs/inference.json --dataset_dir FOLDER_OF_PICTURES
    python -m monai.bundle run training --config_file configs/train.json --dataset_dir DIR --data_list LIST
    python -m monai.bundle run evaluating --config_file "['configs/train.json','configs/evaluate.json']" \\
        --dataset_dir DIR --data_list LIST
"""


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
