"""Section of the page with definitions of the scores, and their values for images without foreground."""

from __future__ import annotations

from collections.abc import Sequence
from html import escape

from scripts.reporting import markup
from scripts.reporting.definitions import definition
from scripts.reporting.tables import is_object_score, without_postprocessing

OBJECT_WORDS = (
    "Annotated objects are those of the stored instance map, or connected components if the annotation has only "
    "classes. Predicted objects are connected components above a minimum area; a second postprocessing, watershed, "
    "also separates touching objects. The partner of a predicted object is the annotated object with the largest "
    "overlap, and vice versa; of several, the one with the lowest number. Partners need not be mutual. An annotated "
    "object is detected if a predicted object, whose partner it is, covers at least half of it. Object Dice and "
    "Hausdorff distance are means weighted by area over the predicted and over the annotated objects, and then "
    "averaged. An object without partner has the Dice 0 and the distance to the nearest object."
)
EMPTY = (
    ("Dice and Jaccard of pixels", ("pooled_dice", "pooled_jaccard", "mean_dice", "mean_jaccard"), "1", "0"),
    ("object F1", ("object_f1",), "1", "0"),
    ("object Dice", ("object_dice",), "1", "0"),
    ("object Hausdorff", ("object_hausdorff",), "0 px", "diagonal of the image"),
)
"""Values without foreground: title, scores, value if both are empty, value if only one is empty."""
EMPTY_WORDS = (
    "These values apply to scores of single images, as in means over images and in comparisons image by image. "
    "Scores of the whole set first add up the pixels or objects of all images. There an image without "
    "foreground adds nothing, and objects in only one of annotation and prediction count as errors. Empty bins of the "
    "calibration are ignored."
)


def meanings(metrics: Sequence[str]) -> str:
    """Return definitions of the scores and of objects, and the values for images without foreground."""
    items = "".join(
        f"<dt>{escape(definition(name).title)}</dt><dd>{escape(definition(name).text)}.</dd>" for name in metrics
    )
    parts = [f"<dl>{items}</dl>"] if items else []
    if any(is_object_score(name) for name in metrics):
        parts += ["<h3>Objects</h3>", markup.paragraph(OBJECT_WORDS)]
    plain = {without_postprocessing(name) for name in metrics}
    rows = [[title, both_empty, one_empty] for title, names, both_empty, one_empty in EMPTY if plain & set(names)]
    if rows:
        head = ["score", "both empty", "only one empty"]
        caption = "Scores of an image if annotation and prediction are both empty, or only one of them."
        parts += ["<h3>Images without foreground</h3>", markup.table((head, rows), caption)]
        parts.append(markup.paragraph(EMPTY_WORDS))
    return "\n".join(parts)
