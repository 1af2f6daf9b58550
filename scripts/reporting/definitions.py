"""Titles and descriptions of scores, protocols and data sets for tables and pages."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True)
class Definition:
    """Description of a score.

    Attributes:
        title: name for readers.
        text: explanation.
        larger_is_better: ``None`` for a setting, such as a threshold.
        digits: decimals in tables.
        unit: unit; empty for a score without one.
    """

    title: str
    text: str
    larger_is_better: bool | None = True
    digits: int = 3
    unit: str = ""

    @property
    def label(self) -> str:
        """Title with the unit, for an axis or a column."""
        return f"{self.title}, {self.unit}" if self.unit else self.title

    @property
    def better(self) -> str:
        """Direction that is better, for an axis; empty for a setting."""
        return {True: "higher is better", False: "lower is better", None: ""}[self.larger_is_better]


@dataclass(frozen=True)
class Protocol:
    """Description of a protocol.

    Attributes:
        note: how its scores are computed.
        optimistic: whether something is selected on the test images.
        key_metric: name of its main score.
    """

    note: str
    optimistic: bool = False
    key_metric: str = "pooled_dice"


PROTOCOLS: dict[str, Protocol] = {
    "heldout": Protocol("The checkpoint was chosen on the validation part and scored once on the test part."),
    "authors": Protocol(
        "Optimistic: checkpoint and threshold were chosen on the test images themselves, as in the paper's tables. "
        "Compare these scores only with tables made in the same way.",
        optimistic=True,
        key_metric="swept_dice",
    ),
    "class_mean": Protocol(
        "The checkpoint was chosen on the validation part and scored once on the test part. The main scores are means "
        "over background and glands, and cannot be compared with the Dice of glands.",
        key_metric="class_mean_dice",
    ),
    "transfer": Protocol(
        "Trained on one domain and scored on another, without adaptation. The checkpoint was chosen on the first."
    ),
    "shift": Protocol(
        "Trained with labels from one domain and unlabeled images from two, and scored on the second. The checkpoint "
        "was chosen on the first domain."
    ),
}
"""By the name of the overlay in ``configs/protocols``."""

DATA: dict[str, str] = {
    "phantom": "synthetic images of H&E-stained glands, not real tissue",
    "phantom_classes": "synthetic images of benign and malignant glands, not real tissue",
    "glas": "H&E-stained colon glands from the GlaS challenge",
    "glas_grades": "H&E-stained benign and malignant colon glands from the GlaS challenge",
    "crag": "H&E-stained colorectal adenocarcinoma from the CRAG data set",
    "folder": "images from a local folder",
    "folder_classes": "images from a local folder, with several classes",
}
"""What the images show, by the name of the overlay in ``configs/data``."""


_OBJECTS = {
    "object_f1": (
        "object F1",
        "F1 score of detected objects over all images; an object is detected if at least half of it is covered",
    ),
    "object_dice": (
        "object Dice",
        "Dice of each object and the object that overlaps it most, weighted by area, in both directions",
    ),
    "object_hausdorff": (
        "object Hausdorff",
        "Hausdorff distance of each object to the object that overlaps it most, weighted by area, in px; 0 is best",
    ),
}
_CLASSES = "; with several foreground classes, the mean over them"
_SWEPT = "on whole images resized to one size, at the threshold with the best Jaccard on these same images"

DEFINITIONS: dict[str, Definition] = {
    "pooled_dice": Definition(
        "pooled Dice",
        f"Dice overlap of prediction and annotation, from 0 to 1, over all pixels of all test images{_CLASSES}",
    ),
    "pooled_jaccard": Definition("pooled Jaccard", "Jaccard overlap of the same pixels; J = D / (2 - D)"),
    "swept_dice": Definition("swept Dice", f"Pooled Dice {_SWEPT}"),
    "swept_jaccard": Definition("swept Jaccard", f"Pooled Jaccard {_SWEPT}"),
    "swept_threshold": Definition(
        "swept threshold", "The best threshold for swept Dice and Jaccard; a setting, not a score", None, 2
    ),
    "mean_dice": Definition(
        "mean Dice", f"Dice of each image, mean over images; 1 if annotation and prediction are empty{_CLASSES}"
    ),
    "mean_jaccard": Definition("mean Jaccard", "Jaccard of each image, mean over images"),
    "class_mean_dice": Definition(
        "class-mean Dice", "Mean of the pooled Dice of all classes, including the background"
    ),
    "class_mean_jaccard": Definition(
        "class-mean Jaccard", "Mean of the pooled Jaccard of all classes, including the background (mIoU)"
    ),
    "calibration_error": Definition(
        "calibration error",
        "Mean difference between the predicted probability and the share of foreground pixels",
        False,
    ),
    **{
        prefix + name: Definition(
            f"{title}{suffix}",
            f"{text}{how}",
            larger_is_better=name != "object_hausdorff",
            digits=1 if name == "object_hausdorff" else 3,
            unit="px" if name == "object_hausdorff" else "",
        )
        for prefix, suffix, how in (
            ("", "", "; objects are connected components of the prediction"),
            ("watershed_", ", watershed", "; objects are separated by watershed"),
        )
        for name, (title, text) in _OBJECTS.items()
    },
}
"""By the name of the score in ``metrics.csv`` and ``cell.json``."""


def definition(name: str) -> Definition:
    """Return the definition of a score; a score without one is called by its name."""
    return DEFINITIONS.get(name, Definition(name.replace("_", " "), "Defined in the config of the evaluation"))


def describe_data(data: str) -> str:
    """Return what the images of a data set show; empty for an unknown data set."""
    return DATA.get(data, "")


def protocol_note(protocol: str) -> str:
    """Return how the scores of a protocol are computed; empty for an unknown protocol."""
    return PROTOCOLS[protocol].note if protocol in PROTOCOLS else ""


def is_optimistic(protocol: str) -> bool:
    """Return whether the protocol selects something on the test images."""
    return protocol in PROTOCOLS and PROTOCOLS[protocol].optimistic


def key_metric(protocol: str) -> str:
    """Return the main score of a protocol."""
    return PROTOCOLS[protocol].key_metric if protocol in PROTOCOLS else Protocol("").key_metric
