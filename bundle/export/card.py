"""Model card and metadata of an exported model, from its ``model.json``."""

from __future__ import annotations

import copy
from collections.abc import Mapping
from typing import Any


def model_metadata(
    shipped: Mapping[str, Any], description: Mapping[str, Any], title: tuple[str, str]
) -> dict[str, Any]:
    """Return the metadata of the bundle, adapted to method, classes and patch size of one model.

    Args:
        shipped: content of ``configs/metadata.json``.
        description: content of the model's ``model.json``.
        title: name and short description of the method.
    """
    settings, training = description["settings"], description["training"]
    metadata = copy.deepcopy(dict(shipped))
    metadata |= {"name": f"{title[0]} gland segmentation", "description": title[1]}
    metadata["changelog"] = {metadata["version"]: f"Exported from a training of method {training['method']}"}
    shapes = metadata["network_data_format"]
    for part in (shapes["inputs"]["image"], shapes["outputs"]["pred"]):
        part["spatial_shape"] = settings["crop_size"]
    if settings["classes"] != shapes["outputs"]["pred"]["num_channels"]:
        grades = (description.get("class_target") or {}).get("grades", {})
        known = {number: name for name, number in grades.items()}
        names = {str(number): known.get(number, f"class {number}") for number in range(1, settings["classes"])}
        names = {"0": "background"} | names
        shapes["outputs"]["pred"] |= {"num_channels": settings["classes"], "channel_def": names}
        metadata["pred_classes"] = ", ".join(f"{number} {name}" for number, name in names.items())
        metadata["label_classes"] = metadata["pred_classes"]
    return metadata


def license_terms(code: str) -> str:
    """Return the terms of an exported model: those of its weights, then the license of the code."""
    return f"""Weights: for research only. The terms of the data set also apply to weights trained on it.
Code: Apache License 2.0, as follows.

{code}"""


def model_card(description: Mapping[str, Any], title: tuple[str, str], result: Mapping[str, Any]) -> str:
    """Return the card of a model in Markdown: method, data, scores, commands and limits.

    Args:
        description: content of the model's ``model.json``.
        title: name and short description of the method.
        result: content of the benchmark's result file of the training; may be empty.
    """
    data, method = description.get("data", {}), description["training"]["method"]
    images = result.get("counts") or data.get("images") or {}
    counts = ", ".join(f"{count} {part}" for part, count in images.items())
    name = data.get("list") or result.get("data_list")
    facts = [result.get("data"), f"`{name}`" if name else None, f"seed {description['training']['seed']}"]
    return f"""# Model overview
{title[0]}: {title[1]}

Exported from a training of the Semi-MoE bundle, method `{method}`. For research only. Not for diagnosis.

## Data
Data list: {", ".join(fact for fact in facts if fact)}{f" ({counts})" if counts else ""}. The terms of the data set also
apply to weights trained on it: GlaS and CRAG are for research only.

Images are read as RGB and resampled to {description["settings"]["pixel_size"]} um/px where their resolution is known.

## Performance
{score_tables(description.get("scores", {}), result, data.get("sha256"))}## MONAI bundle commands
    python -m monai.bundle run inference --config_file configs/inference.json --dataset_dir FOLDER_OF_PICTURES
    python -m monai.bundle run training --config_file configs/train.json --dataset_dir DIR --data_list LIST
    python -m monai.bundle run evaluating --config_file "['configs/train.json','configs/evaluate.json']" \\
        --ckpt_dir models --dataset_dir DIR{"" if data.get("list") else " --data_list LIST"}
"""


def score_tables(scores: Mapping[str, Any], result: Mapping[str, Any], trained_on: str | None = None) -> str:
    """Return Markdown tables of a model's scores: all evaluations, or the validation if there is none.

    Args:
        scores: ``scores`` of the model's ``model.json``.
        result: content of the benchmark's result file of the training; may be empty.
        trained_on: SHA-256 of the data list of the training; ``None`` if unknown.
    """
    tables = [(_heading(evaluation, trained_on), evaluation) for evaluation in scores.get("evaluation", [])]
    if result.get("metrics"):
        tables = [(f"Test images, protocol `{result.get('protocol', 'heldout')}`:", {"scores": result["metrics"]})]
    if not tables and scores.get("validation"):
        heading = "Not evaluated on test images. Validation images, which were used to select the epoch:"
        tables = [(heading, {"scores": scores["validation"]})]
    text = ""
    for heading, table in tables:
        values = table["scores"].items()
        rows = [f"| {name} | {value:.4g} |" for name, value in values if isinstance(value, int | float)]
        text += "\n".join([heading, "", "| metric | value |", "|---|---|", *rows, "", ""])
    return text or "Not evaluated.\n\n"


def _heading(evaluation: Mapping[str, Any], trained_on: str | None) -> str:
    data = evaluation["data"]
    other = data.get("sha256") not in (None, trained_on)
    name = f"`{data['list']}`" if data.get("list") else "an unknown list"
    name += ", not the list of the training" if other else ""
    return f"Test images of {name}, protocol `{evaluation['protocol']}`:"
