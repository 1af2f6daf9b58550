"""Section of the page that says what the scores mean, with the values of images that hold nothing to score."""

from __future__ import annotations

from collections.abc import Sequence
from html import escape

from bundle.report import markup
from bundle.report.definitions import definition
from bundle.report.tables import is_of_objects, plain_reading

OBJECT_WORDS = (
    "An object is what has one number in a map of instances. The truth is taken as it is stored, or its connected "
    "pieces where it tells classes and not objects. The answer is read as connected pieces, those below the smallest "
    "area left out; a second postprocessing, watershed, splits pieces at their necks. The partner of an object is "
    "the one on the other side that shares the most pixels with it, of several the one with the lowest number; this "
    "need not be mutual. A true object is found where a predicted object whose partner it is covers at least half of "
    "it. Object Dice and Hausdorff are means weighted by area, once over the predicted and once over the true "
    "objects, and then the mean of both. An object without partner has the Dice 0 and the distance to the nearest "
    "object."
)
EMPTY = (
    ("Dice and Jaccard of pixels", ("pooled_dice", "pooled_jaccard", "mean_dice", "mean_jaccard"), "1", "0"),
    ("object F1", ("object_f1",), "1", "0"),
    ("object Dice", ("object_dice",), "1", "0"),
    ("object Hausdorff", ("object_hausdorff",), "0 px", "diagonal of the image"),
)
"""Values without foreground: title, scores, neither in truth nor in the answer, in one of the two alone."""
EMPTY_WORDS = (
    "So an image is scored alone, as in means over images and in the comparison image by image. A score of the whole "
    "set adds up pixels or objects of all images first: there an image without any adds nothing, and objects that one "
    "side alone has count as not found. Bins of the calibration that hold no pixel take no part."
)


def meanings(metrics: Sequence[str]) -> str:
    """Each score with its meaning, how objects are counted, and what images without foreground score."""
    items = "".join(
        f"<dt>{escape(definition(name).title)}</dt><dd>{escape(definition(name).text)}.</dd>" for name in metrics
    )
    parts = [f"<dl>{items}</dl>"] if items else []
    if any(is_of_objects(name) for name in metrics):
        parts += ["<h3>Objects</h3>", markup.paragraph(OBJECT_WORDS)]
    plain = {plain_reading(name) for name in metrics}
    rows = [[title, both, one] for title, names, both, one in EMPTY if plain & set(names)]
    if rows:
        head = ["score", "in neither", "in one alone"]
        caption = "What an image scores with foreground in neither of truth and answer, and in one of them alone."
        parts += ["<h3>Images without foreground</h3>", markup.table((head, rows), caption)]
        parts.append(markup.paragraph(EMPTY_WORDS))
    return "\n".join(parts)
