"""Semi-supervised segmentation of histopathology with MONAI.

Methods look different and are not. A network answers an image with named heads. On labeled images each head is held
to a target. On unlabeled images a consistency term says how the pseudo-labels of which heads are made, and in
which view, with which pixel weight, loss and ramp they are compared with the prediction. An objective combines all
losses into one number. A method is a choice of these, an overlay in ``configs/methods/``; the trainer knows none by
name.

    file -> data list -> transforms (targets) -> network -> heads -> losses -> objective -> metrics
                                                    ^                    |
                        unlabeled images -----------+---- pseudo-labeler -------+

Parts are imported here, all at once: MONAI Label unloads modules between calls, and half a package breaks.
"""

from bundle import (
    annotation,
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
    "annotation",
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
