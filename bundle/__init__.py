"""Semi-supervised segmentation of histopathology with MONAI.

A network returns several named heads for an image. On labeled images, each head is compared with a target. On unlabeled
images, consistency terms define how pseudo-labels are computed from heads, and in which view and with which pixel
weights, loss and ramp predictions are compared with them. An objective combines all losses. A method is a combination
of these parts, an overlay in ``configs/methods/``; the trainer is the same for all methods.

    file -> data list -> transforms (targets) -> network -> heads -> losses -> objective -> metrics
                                                    ^                    |
                        unlabeled images -----------+---- pseudo-labeler -------+

All parts are imported here, because MONAI Label unloads modules between calls, and a partly loaded package fails.
"""

from bundle import (
    data,
    engines,
    export,
    handlers,
    inference,
    losses,
    metrics,
    networks,
    semi_supervision,
    slides,
    transforms,
    types,
)

__all__ = [
    "data",
    "engines",
    "export",
    "handlers",
    "inference",
    "losses",
    "metrics",
    "networks",
    "semi_supervision",
    "slides",
    "transforms",
    "types",
]
