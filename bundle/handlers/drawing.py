"""Drawing of montages with matplotlib: contours, maps, bars and sheets. Pictures are (H, W, 3) uint8, RGB."""

from __future__ import annotations

import warnings
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import numpy as np
from PIL import Image
from skimage.segmentation import find_boundaries

Color = tuple[int, int, int]
Panel = np.ndarray | Callable[[Any], None]
"""A picture, or a function that draws on matplotlib's ``Axes``."""

TRUTH: Color = (0, 255, 80)
"""Contour of the ground truth: green, which does not occur in H&E."""
PREDICTION: Color = (255, 238, 0)
"""Contour of the prediction: yellow and thin, so that the contour of the truth remains visible below it."""
CONTOURS: tuple[tuple[str, Color], ...] = (("truth", TRUTH), ("prediction", PREDICTION))
"""Legend of the contours."""
INK: Color = (32, 32, 36)
PAPER: Color = (255, 255, 255)
EXPERT_COLORS: tuple[Color, ...] = ((0, 114, 178), (230, 159, 0), (0, 158, 115), (204, 121, 167), (86, 180, 233))
"""Colors of the experts and of the classes from 1 on (color-blind safe palette of Okabe and Ito)."""
GAP, LINE, TITLE, LETTER = 8, 22, 36, 7
"""Distance of panels and margin, height of a line of text, height of the title, and width of a letter of labels, px."""
STYLE: dict[Any, Any] = {
    **{"font.family": "DejaVu Sans", "font.size": 12, "text.parse_math": False, "figure.facecolor": "white"},
    **{"text.color": "#202024", "axes.labelcolor": "#606068", "axes.edgecolor": "#d8d8dc"},
}
"""matplotlib's settings of a sheet; sizes are px. File names may have a ``$``, which begins a formula elsewhere."""


def fitted(shape: Sequence[int], side: int) -> tuple[int, int]:
    """Return the height and width, px, of an image of a shape (H, W, ...) if its longer side has ``side`` px."""
    height, width = (max(round(length * side / max(shape[:2])), 1) for length in shape[:2])
    return height, width


def resized(picture: np.ndarray, size: tuple[int, int]) -> np.ndarray:
    """Resize a picture (H, W, 3) smoothly, or a label map (H, W) to the nearest, to ``size`` = (height, width) px."""
    if picture.ndim == 2:
        return np.asarray(Image.fromarray(picture.astype(np.int32)).resize(size[::-1], Image.Resampling.NEAREST))
    return np.asarray(Image.fromarray(picture.astype(np.uint8)).resize(size[::-1], Image.Resampling.LANCZOS))


def outlined(picture: np.ndarray, classes: np.ndarray, color: Color, thick: bool = False) -> np.ndarray:
    """Return the picture with the contours of a class map (H, W): 1 px inside the regions, or 3 px if ``thick``."""
    edges = find_boundaries(classes, mode="inner", background=0)
    if thick:
        edges = edges | find_boundaries(classes, mode="thick", background=0)
    outlined_picture = picture.copy()
    outlined_picture[edges] = color
    return outlined_picture


def compared(picture: np.ndarray, predicted: np.ndarray, truth: np.ndarray | None) -> np.ndarray:
    """Draw the contours of truth, if known, and prediction (H, W) on the picture, darkened for contrast with yellow."""
    picture = (picture * 0.85).astype(np.uint8)
    if truth is not None:  # wider and drawn first, so that both are visible where they agree
        picture = outlined(picture, truth, TRUTH, thick=True)
    return outlined(picture, predicted, PREDICTION)


def class_color(index: int) -> Color:
    """Return the color of a class, from 1 on; colors repeat after class 5."""
    return EXPERT_COLORS[(index - 1) % len(EXPERT_COLORS)]


def in_classes(picture: np.ndarray, predicted: np.ndarray, truth: np.ndarray | None, classes: int) -> np.ndarray:
    """Tint the picture by predicted class, and draw contours in the colors of the true classes.

    Args:
        picture: (H, W, 3).
        predicted: class indices (H, W).
        truth: class indices (H, W), or ``None`` to draw no contour.
        classes: number of classes, including background.
    """
    colors = np.array([class_color(index) for index in range(classes)])
    mixed = (0.4 * picture + 0.6 * colors[predicted]).round().astype(np.uint8)
    tinted = np.where(predicted[..., None] > 0, mixed, picture)
    if truth is not None:
        for index in range(1, classes):
            tinted = outlined(tinted, np.equal(truth, index), class_color(index), thick=True)
    return tinted


def in_palette(picture: np.ndarray) -> Image.Image:
    """Quantize a picture to 256 colors, a third of the bytes; an octree keeps saturated colors of few pixels."""
    return Image.fromarray(picture).quantize(method=Image.Quantize.FASTOCTREE, dither=Image.Dither.NONE)


def draw_map(axes: Any, values: np.ndarray, colors: str, low: float, high: float, level: float | None = None) -> None:
    """Draw a map (H, W) in a named color map from ``low`` to ``high``, with a contour at ``level``."""
    axes.imshow(values, cmap=colors, vmin=low, vmax=high)
    if level is not None and values.min() < level < values.max():
        axes.contour(values, levels=[level], colors=[_unit(INK)], linewidths=1)


def draw_bars(axes: Any, weights: Mapping[str, Sequence[float]], experts: Sequence[str]) -> None:
    """Draw gate weights as bars with numbers, one group per task.

    Args:
        axes: matplotlib's ``Axes``.
        weights: task -> one weight in [0, 1] per expert.
        experts: names of the experts.
    """
    axes.set_axis_off()
    bars = axes.inset_axes((0.27, 0, 0.6, 1), frameon=False, xlim=(0, 1), xticks=[])
    colors = [_unit(class_color(number)) for number in range(1, len(experts) + 1)]
    group = len(experts) + 1.5
    size = min(11.0, 0.7 * axes.bbox.height / (group * len(weights)))
    positions = np.concatenate([group * index + 1 + np.arange(len(experts)) for index in range(len(weights))])
    values = np.concatenate(list(weights.values()))
    numbers = bars.barh(positions, 1.0, color="#eeeef0")
    bars.bar_label(numbers, [f"{value:.2f}" for value in values], padding=4, size=size)
    bars.barh(positions, values, color=colors * len(weights))
    for index, task in enumerate(weights):
        bars.text(0, group * index, task, size=size, va="center")
    bars.set_yticks(positions, list(experts) * len(weights), size=size)
    bars.tick_params(length=0)
    bars.set_ylim(group * len(weights) - 1, -0.5)


def sheet(
    title: str,
    columns: Sequence[str],
    rows: Sequence[tuple[str, Sequence[Panel]]],
    cell: int,
    key: Sequence[tuple[str, Color]] = CONTOURS,
    labels: Sequence[Sequence[str]] = (),
) -> np.ndarray:
    """Arrange rows of panels below titled columns.

    Args:
        title: first line of the sheet.
        columns: titles of the columns, which may be empty; the first map of a column also gets a color bar.
        rows: captions and panels; a row is as high as its highest picture.
        cell: width of a column, px.
        key: legend beside the title.
        labels: for each row, two lines of text below each panel.

    Returns:
        The sheet, (H, W, 3) uint8.
    """
    import matplotlib
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure
    from matplotlib.patches import Patch

    heights = [max(panel.shape[0] for panel in panels if isinstance(panel, np.ndarray)) for _, panels in rows]
    above, below = [LINE if caption else 0 for caption, _ in rows], 2 * LINE if labels else 0
    top = TITLE + (LINE if any(columns) else 0)
    width = GAP + (cell + GAP) * len(columns)
    height = top + sum(heights) + sum(above) + (below + GAP) * len(rows)
    with matplotlib.rc_context(STYLE), warnings.catch_warnings():
        warnings.filterwarnings("ignore", r"Glyph .* missing from")  # letters that the font lacks are drawn as boxes
        figure = Figure((width / 72, height / 72), dpi=72)
        canvas = FigureCanvasAgg(figure)
        figure.text(GAP / width, 1 - TITLE / 2 / height, _encodable(title), size=16, va="center")
        patches = [Patch(facecolor=_unit(color), label=text) for text, color in key]
        figure.legend(handles=patches, loc="upper right", ncols=max(len(key), 1), frameon=False)
        for row, (caption, panels) in enumerate(rows):
            top += above[row] + heights[row]
            for column, panel in enumerate(panels):
                left = GAP + (cell + GAP) * column
                box = (left / width, 1 - top / height, cell / width, heights[row] / height)
                axes = figure.add_axes(box, xticks=[], yticks=[], anchor="NW")
                if callable(panel):
                    panel(axes)
                else:
                    axes.imshow(panel)
                if row == 0:
                    _add_column_title(axes, columns[column])
                if column == 0:
                    _add_line(axes, caption, LINE / 2)
                if labels:
                    axes.set_xlabel(_encodable(labels[row][column]), loc="left", size=11, family="DejaVu Sans Mono")
            top += below + GAP
        canvas.draw()
    return np.asarray(canvas.buffer_rgba())[..., :3].copy()


def _add_column_title(axes: Any, title: str) -> None:
    """Write the title of a column above the caption of its first row, with a color bar if a map is drawn there."""
    _add_line(axes, title, 1.5 * LINE)
    for mapped in [image for image in axes.images if image.get_array().ndim == 2]:
        bar = axes.inset_axes((0.6, 1 + (1.5 * LINE - 8) / axes.bbox.height, 0.34, 8 / axes.bbox.height))
        ends = (mapped.norm.vmin, mapped.norm.vmax)
        axes.figure.colorbar(mapped, bar, orientation="horizontal", ticklocation="top", ticks=ends, format="%g")
        bar.tick_params(length=0, pad=2, labelsize=10)


def _add_line(axes: Any, text: str, above: float) -> None:
    """Write a line of text ``above`` px above axes."""
    position = {"xycoords": "axes fraction", "textcoords": "offset pixels", "va": "center"}
    axes.annotate(_encodable(text), (0, 1), (0, above), **position)


def _encodable(text: str) -> str:
    """Return a text without the lone surrogates of file names that are not UTF-8, which matplotlib does not draw."""
    return text.encode(errors="replace").decode()


def _unit(color: Color) -> Any:
    """Return a color as matplotlib expects it, with channels in [0, 1]."""
    return tuple(channel / 255 for channel in color)
