"""Files that make a bundle a model repository of the Hugging Face Hub, in the layout of MONAI's repositories."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
import yaml

from bundle.export.onnx_export import import_required

SAFETENSORS = "model.safetensors"
TAGS = ("monai", "medical", "histopathology", "semi-supervised")


def write_huggingface(folder: Path, metadata: Mapping[str, Any], card: str, license_text: str) -> None:
    """Add ``README.md`` with YAML front matter, ``LICENSE`` and ``models/model.safetensors`` to the folder of a bundle.

    Args:
        folder: folder of the bundle, with ``models/model.pt``.
        metadata: metadata of the bundle: ``name``, ``version`` and ``authors``.
        card: description of the model in Markdown.
        license_text: terms of code and weights.

    Raises:
        RuntimeError: if safetensors is not installed.
        ValueError: if the tensors of both files differ.
    """
    library = import_required("safetensors.torch", "huggingface")
    weights = torch.load(folder / "models" / "model.pt", map_location="cpu", weights_only=True)
    path = folder / "models" / SAFETENSORS
    # Cloned: the format refuses tensors that share memory.
    library.save_file({name: value.clone().contiguous() for name, value in weights.items()}, path, {"format": "pt"})
    loaded = library.load_file(path)
    if loaded.keys() != weights.keys() or not all(torch.equal(loaded[name], weights[name]) for name in weights):
        raise ValueError(f"{SAFETENSORS} does not hold the tensors of model.pt")
    facts = {
        "library_name": "monai",
        "license": "other",
        "license_name": "apache-2.0-code-and-terms-of-the-data",
        "license_link": "LICENSE",
        "pipeline_tag": "image-segmentation",
        "tags": list(TAGS),
    }
    front = yaml.safe_dump(facts, sort_keys=False)
    (folder / "README.md").write_text(f"---\n{front}---\n{card}", encoding="utf-8")
    (folder / "LICENSE").write_text(license_text, encoding="utf-8")
