"""Drawing of montages: color maps, contours, bars and text. Pictures are (H, W, 3) uint8, RGB."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np
from PIL import Image, ImageDraw, ImageFont
from skimage.segmentation import find_boundaries

Color = tuple[int, int, int]

TRUTH: Color = (0, 255, 80)
"""Contour of the ground truth: green, which does not occur in H&E."""
PREDICTION: Color = (255, 238, 0)
"""Contour of the prediction: yellow and thin, so that the contour of the truth remains visible below it."""
CONTOURS: tuple[tuple[str, Color], ...] = (("truth", TRUTH), ("prediction", PREDICTION))
"""Legend of the contours."""
INK: Color = (32, 32, 36)
PALE: Color = (112, 112, 120)
PAPER: Color = (255, 255, 255)
EXPERT_COLORS: tuple[Color, ...] = ((0, 114, 178), (230, 159, 0), (0, 158, 115), (204, 121, 167), (86, 180, 233))
"""Colors of the experts and of the classes from 1 on (color-blind safe palette of Okabe and Ito)."""

DIVERGING = ((5, 48, 97), (67, 147, 195), (247, 247, 247), (214, 96, 77), (103, 0, 31))
"""Color map from -1 (blue, outside) over 0 (white, boundary) to 1 (red, inside)."""
SEQUENTIAL = ((0, 0, 4), (81, 18, 124), (183, 55, 121), (252, 137, 97), (252, 253, 191))
"""Color map from 0 (black) to 1 (pale yellow)."""


def colored(values: np.ndarray, stops: Sequence[Color], low: float, high: float) -> np.ndarray:
    """Apply a color map to a map (H, W): ``stops`` are evenly spaced from ``low`` to ``high``, values are clipped."""
    positions = np.linspace(low, high, len(stops))
    channels = [np.interp(values, positions, [stop[channel] for stop in stops]) for channel in range(3)]
    return np.stack(channels, axis=-1).round().astype(np.uint8)


def resized(picture: np.ndarray, size: tuple[int, int], smooth: bool = True) -> np.ndarray:
    """Resize a picture (H, W, 3), or a map (H, W) of at most 256 classes, to ``size`` = (height, width) px."""
    resampling = Image.Resampling.LANCZOS if smooth else Image.Resampling.NEAREST
    return np.asarray(Image.fromarray(picture.astype(np.uint8)).resize(size[::-1], resampling))


def outlined(picture: np.ndarray, classes: np.ndarray, color: Color, thick: bool = False) -> np.ndarray:
    """Return the picture with the contours of a class map (H, W): 1 px inside the regions, or 3 px if ``thick``."""
    edges = find_boundaries(classes, mode="inner", background=0)
    if thick:
        edges = edges | find_boundaries(classes, mode="thick", background=0)
    outlined_picture = picture.copy()
    outlined_picture[edges] = color
    return outlined_picture


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
    tinted = picture.copy()
    for index in range(1, classes):
        mask = predicted == index
        tinted[mask] = (0.4 * picture[mask] + 0.6 * np.asarray(class_color(index))).round()
    if truth is not None:
        for index in range(1, classes):
            tinted = outlined(tinted, (truth == index).astype(np.uint8), class_color(index), thick=True)
    return tinted


def in_palette(picture: np.ndarray) -> Image.Image:
    """Quantize a picture to 256 colors, a third of the bytes; colors of contours and bars are always kept."""
    fixed = (TRUTH, PREDICTION, INK, PAPER, *EXPERT_COLORS)
    full = Image.fromarray(picture)
    palette = full.quantize(256 - len(fixed), method=Image.Quantize.MEDIANCUT)
    colors = (palette.getpalette() or [])[: 3 * (256 - len(fixed))]
    palette.putpalette(colors + [channel for color in fixed for channel in color])
    return full.quantize(palette=palette, dither=Image.Dither.NONE)


def bars(
    weights: Mapping[str, Sequence[float]], experts: Sequence[str], size: tuple[int, int], font_size: int = 11
) -> np.ndarray:
    """Draw gate weights as bars with numbers, one group per task.

    Args:
        weights: task -> one weight in [0, 1] per expert.
        experts: names of the experts.
        size: height and width of the picture, px.
        font_size: height of the text, px; reduced if the groups do not fit.
    """
    height, width = size
    canvas = Image.new("RGB", (width, height), PAPER)
    draw = ImageDraw.Draw(canvas)
    rows = sum(len(values) + 1 for values in weights.values()) + 0.5 * (len(weights) - 1)
    line = min(height / max(rows, 1.0), 1.6 * font_size)
    font = ImageFont.load_default(size=max(min(font_size, 0.85 * line), 6))
    name_width = max((font.getlength(name) for name in experts), default=0.0)
    left, right = name_width + 10, width - font.getlength("0.00") - 8
    top = (height - line * rows) / 2
    for task, values in weights.items():
        draw.text((left, top + line / 2), task, INK, font, anchor="lm")
        top += line
        for number, (expert, value) in enumerate(zip(experts, values, strict=True)):
            middle = top + line / 2
            end = left + (right - left) * min(max(value, 0.0), 1.0)
            draw.text((left - 5, middle), expert, PALE, font, anchor="rm")
            draw.rectangle((left, top + 0.15 * line, right, top + 0.85 * line), fill=(238, 238, 240))
            draw.rectangle(
                (left, top + 0.15 * line, max(end, left + 1), top + 0.85 * line),
                fill=EXPERT_COLORS[number % len(EXPERT_COLORS)],
            )
            draw.text((width - 3, middle), f"{value:.2f}", INK, font, anchor="rm")
            top += line
        top += 0.5 * line
    return np.asarray(canvas)


def sheet(
    title: str,
    columns: Sequence[str],
    rows: Sequence[tuple[str, Sequence[np.ndarray]]],
    cell: int,
    key: Sequence[tuple[str, Color]] = CONTOURS,
) -> np.ndarray:
    """Arrange rows of pictures below titled columns.

    Args:
        title: first line of the sheet.
        columns: titles of the columns; ``sdf`` and ``boundary`` heads also get a color bar.
        rows: captions, and pictures at most ``cell`` px wide, all of a row with equal height.
        cell: width of a column, px.
        key: legend beside the title.

    Returns:
        The sheet, (H, W, 3) uint8.
    """
    gap, caption = 8, 22
    head = 74
    width = gap + (cell + gap) * len(columns)
    height = head + sum(caption + pictures[0].shape[0] + gap for _, pictures in rows)
    canvas = Image.new("RGB", (width, height), PAPER)
    draw = ImageDraw.Draw(canvas)
    large, small = ImageFont.load_default(size=16), ImageFont.load_default(size=13)
    draw.text((gap, 18), title, INK, large, anchor="lm")
    left = gap + draw.textlength(title, large) + 28
    for text, color in key:
        draw.rectangle((left, 14, left + 20, 22), fill=color, outline=PALE)
        draw.text((left + 26, 18), text, INK, small, anchor="lm")
        left += 26 + draw.textlength(text, small) + 18
    for number, column in enumerate(columns):
        _column_title(draw, canvas, column, (gap + (cell + gap) * number, 48), cell)
    top = head
    for text, pictures in rows:
        draw.line((gap, top, width - gap, top), fill=(216, 216, 220))
        draw.text((gap, top + caption / 2), text, INK, small, anchor="lm")
        top += caption
        for number, picture in enumerate(pictures):
            left = gap + (cell + gap) * number
            canvas.paste(Image.fromarray(picture), (left, top))
        top += pictures[0].shape[0] + gap
    return np.asarray(canvas)


def _column_title(draw: ImageDraw.ImageDraw, canvas: Image.Image, title: str, at: tuple[int, int], cell: int) -> None:
    """Draw the title of a column, with a color bar for ``sdf`` and ``boundary`` heads."""
    left, middle = at
    font, tiny = ImageFont.load_default(size=13), ImageFont.load_default(size=11)
    draw.text((left, middle), title, INK, font, anchor="lm")
    if title.endswith(("sdf", "boundary")):
        stops, low, high = (DIVERGING, -1.0, 1.0) if title.endswith("sdf") else (SEQUENTIAL, 0.0, 1.0)
        scale = colored(np.tile(np.linspace(low, high, 80), (9, 1)), stops, low, high)
        start = left + cell - 80 - 14
        canvas.paste(Image.fromarray(scale), (start, middle - 4))
        draw.text((start - 4, middle), f"{low:.0f}", PALE, tiny, anchor="rm")
        draw.text((start + 84, middle), f"{high:.0f}", PALE, tiny, anchor="lm")
