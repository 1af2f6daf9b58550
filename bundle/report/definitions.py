"""What each score means, in words a table can carry: the only place that names scores for people."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True)
class Definition:
    """A score: how it is called, what it is, which way is better, and how many digits it bears."""

    title: str
    text: str
    larger_is_better: bool = True
    digits: int = 3


_OBJECTS = {
    "object_f1": ("object F1", "Objects found and not found, F1 over the set; found: at least half of it is covered"),
    "object_dice": ("object Dice", "Dice of each object with its best partner, weighted by area, both directions"),
    "object_hausdorff": ("object Hausdorff", "Hausdorff distance of each object to its partner, by area, in px"),
}

DEFINITIONS: dict[str, Definition] = {
    "pooled_dice": Definition("pooled Dice", "Dice of the foreground over all pixels of all test images together"),
    "pooled_jaccard": Definition("pooled Jaccard", "Jaccard likewise; J = D / (2 - D)"),
    "mean_dice": Definition("mean Dice", "Dice of each image, mean over images; 1 where truth and answer are empty"),
    "mean_jaccard": Definition("mean Jaccard", "Jaccard of each image, mean over images"),
    "class_mean_dice": Definition("class-mean Dice", "Pooled Dice of background and of foreground, their mean"),
    "class_mean_jaccard": Definition("class-mean Jaccard", "Pooled Jaccard of background and of foreground (mIoU)"),
    "calibration_error": Definition(
        "calibration error", "Mean gap between stated probability and share of true pixels", False
    ),
    **{
        prefix + name: Definition(
            f"{title}{words}", f"{text}{how}", name != "object_hausdorff", 1 if name == "object_hausdorff" else 3
        )
        for prefix, words, how in (
            ("", "", "; objects are connected components of the answer"),
            ("watershed_", ", watershed", "; objects are read by watershed"),
        )
        for name, (title, text) in _OBJECTS.items()
    },
}
"""By the name that a score has in ``metrics.csv`` and ``cell.json``."""


def definition(name: str) -> Definition:
    """Definition of a score; a score that nobody described is called by its name."""
    return DEFINITIONS.get(name, Definition(name.replace("_", " "), "As the evaluation's config defines it"))
