"""Encoders of the library timm, with features at the strides of a U-Net."""

from __future__ import annotations

import importlib
import math
from collections.abc import Mapping, Sequence
from itertools import pairwise
from pathlib import Path
from textwrap import shorten
from typing import Any

from torch import Tensor
from torch.nn import functional

from bundle.networks.encoders import DIVISOR, SUBTRAHEND, PretrainableEncoder


class TimmEncoder(PretrainableEncoder):
    """Feature encoder by its name in timm (PyTorch Image Models).

    Convolutional and hierarchical encoders have features at several strides. A vision transformer has several maps of
    the same stride; they are resized to a pyramid whose coarsest map has about that stride, and whose finest map is
    the earliest. The image is padded at its right and lower border (replicate) to a multiple of the encoder's largest
    stride, and features are cropped to H // stride, W // stride.

    The normalization that the weights expect is read from timm. Not every encoder can be exported to TorchScript and
    ONNX.

    Args:
        name: a name of ``timm.list_models()``, ``local-dir:FOLDER``, or ``hf-hub:OWNER/MODEL``, for which timm
            downloads the architecture from Hugging Face even if ``pretrained`` is false.
        pretrained: whether to load weights, from ``weights`` if set, otherwise from the cache of timm or a download.
        weights: file with weights for ``name``, used instead of a download.
        options: further arguments of ``timm.create_model``, such as ``{dynamic_img_size: true}`` for a vision
            transformer, ``{img_size: [256, 256]}`` for one of fixed size, or ``{out_indices: [2, 5, 8, 11]}``.
        subtrahend: value that the data pipeline subtracts from the image in [0, 1], one per channel.
        divisor: value that it then divides by, one per channel.

    Raises:
        FileNotFoundError: if the file of weights does not exist.
        RuntimeError: if timm is not installed.
        ValueError: if timm cannot create the encoder, or its features do not fit a U-Net.
    """

    def __init__(
        self,
        name: str,
        pretrained: bool = False,
        weights: str | None = None,
        options: Mapping[str, Any] | None = None,
        subtrahend: Sequence[float] = SUBTRAHEND,
        divisor: Sequence[float] = DIVISOR,
    ) -> None:
        network = _create(name, pretrained, weights, options or {})
        channels, reductions = network.feature_info.channels(), network.feature_info.reduction()
        normalization = network.pretrained_cfg
        strides = _strides(reductions)
        super().__init__(channels, strides, normalization["mean"], normalization["std"], subtrahend, divisor)
        self.network = network
        self.multiple = max(reductions)
        self.resized = list(reductions) != strides
        self.channels_last = getattr(network, "output_fmt", "NCHW") == "NHWC"

    def forward(self, image: Tensor) -> list[Tensor]:
        """Return features (B, channels[i], H // strides[i], W // strides[i]) of an image (B, 3, H, W)."""
        height, width = image.shape[2], image.shape[3]
        missing = [0, -width % self.multiple, 0, -height % self.multiple]
        padded = functional.pad(self.converted(image), missing, mode="replicate")
        features: list[Tensor] = []
        for index, feature in enumerate(self.network(padded)):
            stride = self.strides[index]
            if self.channels_last:
                feature = feature.permute(0, 3, 1, 2)
            if self.resized:
                size = [-(-padded.shape[2] // stride), -(-padded.shape[3] // stride)]
                feature = functional.interpolate(feature, size=size, mode="bilinear")
            features.append(feature[:, :, : height // stride, : width // stride])
        return features


def _create(name: str, pretrained: bool, weights: str | None, options: Mapping[str, Any]) -> Any:
    """Create the encoder in timm."""
    try:
        timm = importlib.import_module("timm")
    except ImportError as error:
        raise RuntimeError(
            f"encoder {name!r} needs timm, which cannot be imported ({error}); pip install timm, or .[timm]"
        ) from error
    if "checkpoint_path" in options:  # timm would unpickle it, which can run code
        raise ValueError("checkpoint_path is not allowed in the options of an encoder; set the file as weights")
    source = {"pretrained_cfg_overlay": {"file": weights}} if pretrained and weights is not None else {}
    if source and not Path(str(weights)).is_file():
        raise FileNotFoundError(f"no weights at {weights}; set network_def#encoder#weights to a file, or to null")
    try:
        return timm.create_model(name, features_only=True, pretrained=pretrained, **source, **options)
    except Exception as error:  # timm and its libraries raise many classes
        cause = shorten(" ".join(f"{type(error).__name__}: {error}".split()), 200, placeholder=" ...")
        raise ValueError(
            f"timm cannot create the encoder {name!r}: {cause}; choose a name of timm.list_models(), or other options"
        ) from error


def _strides(reductions: Sequence[int]) -> list[int]:
    """Return the strides of the features for the U-Net: as they are, or a pyramid if all are the same."""
    if len(reductions) < 2 or any(before != after for before, after in pairwise(reductions)):
        return list(reductions)
    coarsest = 2 ** round(math.log2(reductions[-1]))
    if 2 ** (len(reductions) - 1) > coarsest:
        raise ValueError(
            f"{len(reductions)} maps of stride {reductions[-1]} are too many for a pyramid; set fewer in the encoder's "
            "options, such as {out_indices: [3, 7, 11]}"
        )
    return [coarsest // 2**level for level in reversed(range(len(reductions)))]
