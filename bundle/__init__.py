"""Who teaches whom: semi-supervised segmentation of histopathology, on MONAI.

Methods look different and are not. A network answers an image with named heads. On labeled images each head is held
to a target. On unlabeled images a lesson says who writes the pseudo-label of which heads, seen in which view, with
which pixel weight, loss and ramp. An objective makes one number of the parts. A method is a choice of these, written
down as data in ``configs/methods/``; the one trainer knows no method by name.

    file -> data list -> transforms (targets) -> network -> heads -> losses -> objective -> metrics
                                                    ^                    |
                        unlabeled images -----------+---- labeler -------+

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
    teaching,
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
    "teaching",
    "transforms",
    "types",
]
