"""Any encoder of the library timm, at the resolutions that a U-Net reads."""

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
    """An encoder by its name in timm (PyTorch Image Models), asked for its features alone.

    Convolutional and hierarchical encoders give features of several resolutions. A vision transformer gives several
    maps of one; they are resized to a pyramid whose coarsest map has about that stride, the earliest map the finest.
    The image is continued at its right and lower border until the encoder's largest stride divides its sides, and
    features are cut back to H // stride, W // stride.

    Which normalization the weights expect is timm's to say. Whether TorchScript and ONNX take an encoder depends on
    the encoder.

    Args:
        name: a name of ``timm.list_models()``, or ``hf-hub:OWNER/MODEL``, for which timm asks Hugging Face for the
            architecture even where ``pretrained`` is false, or ``local-dir:FOLDER``.
        pretrained: whether to load weights; timm downloads them, unless it has them or ``weights`` names a file.
        weights: a file of weights for ``name``, in place of a download.
        options: further arguments of ``timm.create_model``, such as ``{dynamic_img_size: true}`` for a vision
            transformer, ``{img_size: [256, 256]}`` for one of fixed size, or ``{out_indices: [2, 5, 8, 11]}``.
        subtrahend: what the data pipeline subtracted from the image in [0, 1], one value a channel.
        divisor: what it divided it by.

    Raises:
        FileNotFoundError: where there is no such file of weights.
        RuntimeError: where timm is not installed.
        ValueError: where it cannot make the encoder, or its features do not fit a U-Net.
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
        network = _made(name, pretrained, weights, options or {})
        channels, reductions = network.feature_info.channels(), network.feature_info.reduction()
        expected = network.pretrained_cfg
        strides = _strides(reductions)
        super().__init__(channels, strides, expected["mean"], expected["std"], subtrahend, divisor)
        self.network = network
        self.multiple = max(reductions)
        self.resized = list(reductions) != strides
        self.channels_last = getattr(network, "output_fmt", "NCHW") == "NHWC"

    def forward(self, image: Tensor) -> list[Tensor]:
        """Features (B, channels[i], H // strides[i], W // strides[i]) of images (B, 3, H, W)."""
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


def _made(name: str, pretrained: bool, weights: str | None, options: Mapping[str, Any]) -> Any:
    """What timm makes of a name."""
    try:
        timm = importlib.import_module("timm")
    except ImportError as error:
        raise RuntimeError(
            f"encoder {name!r} needs timm, which is not here or not complete ({error}); pip install timm, or .[timm]"
        ) from error
    if "checkpoint_path" in options:  # timm would unpickle it, and with it whatever code it holds
        raise ValueError("options of an encoder name a checkpoint_path, which is not read; give the file as weights")
    source = {"pretrained_cfg_overlay": {"file": weights}} if pretrained and weights is not None else {}
    if source and not Path(str(weights)).is_file():
        raise FileNotFoundError(f"no weights at {weights}; give network_def#encoder#weights the file, or null")
    try:
        return timm.create_model(name, features_only=True, pretrained=pretrained, **source, **options)
    except Exception as error:  # timm and those that it asks raise a dozen kinds
        told = shorten(" ".join(f"{type(error).__name__}: {error}".split()), 200, placeholder=" ...")
        raise ValueError(
            f"timm cannot make the encoder {name!r}: {told}; give a name of timm.list_models(), or other options"
        ) from error


def _strides(reductions: Sequence[int]) -> list[int]:
    """Strides at which a U-Net reads features of these; a pyramid where all are the same."""
    if len(reductions) < 2 or any(before != after for before, after in pairwise(reductions)):
        return list(reductions)
    coarsest = 2 ** round(math.log2(reductions[-1]))
    if 2 ** (len(reductions) - 1) > coarsest:
        raise ValueError(
            f"{len(reductions)} maps of stride {reductions[-1]} make no pyramid; ask for fewer by the encoder's "
            "options, such as {out_indices: [3, 7, 11]}"
        )
    return [coarsest // 2**place for place in reversed(range(len(reductions)))]
