"""What scores, protocols and data sets are, in words a table can carry: the only place that names them for people."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True)
class Definition:
    """A score: how it is called, what it is, which way is better (``None``: neither), how many digits it bears.

    ``unit`` is empty for a score without one.
    """

    title: str
    text: str
    larger_is_better: bool | None = True
    digits: int = 3
    unit: str = ""

    @property
    def label(self) -> str:
        """Title with the unit, for an axis or the head of a column."""
        return f"{self.title}, {self.unit}" if self.unit else self.title

    @property
    def better(self) -> str:
        """Which way is better, in words for an axis; empty where neither is."""
        return {True: "up is better", False: "down is better", None: ""}[self.larger_is_better]


@dataclass(frozen=True)
class Protocol:
    """A protocol: how its figures came about, whether test images had a say in that, and the score that leads."""

    note: str
    optimistic: bool = False
    key_metric: str = "pooled_dice"


PROTOCOLS: dict[str, Protocol] = {
    "heldout": Protocol("The checkpoint was chosen on the validation part and scored once on the test part."),
    "authors": Protocol(
        "Optimistic: checkpoint and threshold were chosen on the test images themselves, as the paper's tables do. "
        "Use these figures only beside tables made in the same way.",
        optimistic=True,
        key_metric="swept_dice",
    ),
    "class_mean": Protocol(
        "The checkpoint was chosen on the validation part and scored once on the test part; the leading scores are "
        "means over background and gland, and compare with no Dice of glands.",
        key_metric="class_mean_dice",
    ),
    "transfer": Protocol(
        "Trained on one domain and scored on another, without adaptation; the checkpoint was chosen on the first."
    ),
    "shift": Protocol(
        "Labels from one domain, unlabeled images from two, scored on the second; the checkpoint was chosen on the "
        "first."
    ),
}
"""By the name of the overlay in ``configs/protocols``."""

DATA: dict[str, str] = {
    "phantom": "drawn pictures that imitate H&E-stained glands; they show no real tissue",
    "phantom_classes": "drawn pictures that imitate benign and malignant glands; they show no real tissue",
    "glas": "photographs of H&E-stained glands of the colon, of the GlaS challenge",
    "glas_grades": "photographs of H&E-stained benign and malignant glands of the colon, of the GlaS challenge",
    "crag": "photographs of H&E-stained colorectal adenocarcinoma, of the CRAG data set",
    "folder": "images from a folder of one's own",
    "folder_classes": "images from a folder of one's own, with several classes",
}
"""What the images show, by the name of the overlay in ``configs/data``."""


_OBJECTS = {
    "object_f1": ("object F1", "Objects found and not found, F1 over the set; found: at least half of it is covered"),
    "object_dice": ("object Dice", "Dice of each object with its best partner, weighted by area, both directions"),
    "object_hausdorff": (
        "object Hausdorff",
        "Hausdorff distance of each object to its partner, by area, in px; best: 0",
    ),
}
_CLASSES = "; with several foreground classes, their mean"
_SWEPT = "on whole images squeezed to one size, at the threshold that suits these very images best by Jaccard"

DEFINITIONS: dict[str, Definition] = {
    "pooled_dice": Definition(
        "pooled Dice",
        f"Overlap of answer and truth (Dice, from 0 to 1), over all pixels of all test images together{_CLASSES}",
    ),
    "pooled_jaccard": Definition("pooled Jaccard", "Jaccard likewise; J = D / (2 - D)"),
    "swept_dice": Definition("swept Dice", f"Pooled Dice {_SWEPT}"),
    "swept_jaccard": Definition("swept Jaccard", f"Pooled Jaccard {_SWEPT}"),
    "swept_threshold": Definition(
        "swept threshold", "The threshold that was best for swept Dice and Jaccard: a setting, not a score", None, 2
    ),
    "mean_dice": Definition(
        "mean Dice", f"Dice of each image, mean over images; 1 where truth and answer are empty{_CLASSES}"
    ),
    "mean_jaccard": Definition("mean Jaccard", "Jaccard of each image, mean over images"),
    "class_mean_dice": Definition("class-mean Dice", "Pooled Dice of background and of each other class, their mean"),
    "class_mean_jaccard": Definition(
        "class-mean Jaccard", "Pooled Jaccard of background and of each other class (mIoU)"
    ),
    "calibration_error": Definition(
        "calibration error", "Mean gap between stated probability and share of true pixels", False
    ),
    **{
        prefix + name: Definition(
            f"{title}{words}",
            f"{text}{how}",
            larger_is_better=name != "object_hausdorff",
            digits=1 if name == "object_hausdorff" else 3,
            unit="px" if name == "object_hausdorff" else "",
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


def data_words(data: str) -> str:
    """What the images of a data set show; empty for one that nobody described."""
    return DATA.get(data, "")


def protocol_note(protocol: str) -> str:
    """How far figures of a protocol go, in one or two sentences; empty for a protocol that nobody described."""
    return PROTOCOLS[protocol].note if protocol in PROTOCOLS else ""


def is_optimistic(protocol: str) -> bool:
    """Whether the protocol chooses on the images that it scores, so that a reader must be warned."""
    return protocol in PROTOCOLS and PROTOCOLS[protocol].optimistic


def key_metric(protocol: str) -> str:
    """The score that leads tables and charts of a protocol."""
    return PROTOCOLS[protocol].key_metric if protocol in PROTOCOLS else Protocol("").key_metric
