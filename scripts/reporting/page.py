"""The report as one self-contained HTML page, made by the template ``report.html.j2``."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import jinja2
import pandas as pd
from markupsafe import Markup, escape

from scripts.reporting import scores, training
from scripts.reporting.cells import Cell
from scripts.reporting.comparability import steps_of
from scripts.reporting.definitions import definition, is_optimistic, protocol_note
from scripts.reporting.published import published_table
from scripts.reporting.summary import summarize
from scripts.reporting.tables import (
    OBJECTS,
    cost_table,
    counts_table,
    is_object_score,
    labels_of,
    methods_of,
    score_tables,
    table_of,
    without_postprocessing,
)

TEMPLATE = "report.html.j2"
EMPTY = (
    ("Dice and Jaccard of pixels", ("pooled_dice", "pooled_jaccard", "mean_dice", "mean_jaccard"), "1", "0"),
    ("object F1", ("object_f1",), "1", "0"),
    ("object Dice", ("object_dice",), "1", "0"),
    ("object Hausdorff", ("object_hausdorff",), "0 px", "diagonal of the image"),
)
"""Scores of images without foreground: title, names, value if both are empty, value if only one is empty."""

Tiles = dict[str, dict[str, list[dict[str, str]]]]
"""Pictures of test images, run -> group (worst, best) -> pictures with ``caption`` and ``source`` (a data: URL)."""


def build(
    cells: Sequence[Cell],
    metrics: Sequence[str],
    against: str,
    tiles: Tiles,
    published_scores: Sequence[Mapping[str, Any]],
    warnings: Sequence[str],
    made: str,
    about: Mapping[str, str] | None = None,
) -> str:
    """Return the page as HTML.

    Args:
        cells: comparable cells, at least one.
        metrics: scores in the tables.
        against: method that the others are compared with.
        tiles: pictures of test images.
        published_scores: published results, shown in a separate section.
        warnings: sentences for the top of the page.
        made: date and source of the page, for its footer.
        about: method -> description in one sentence; optional.
    """
    first, lead = cells[0].content, scores.leading(cells, metrics)
    optimistic = is_optimistic(str(first["protocol"]))
    judged = "test images" if optimistic else "validation images"
    curve, experts = training.curve_metric(cells), training.experts_of(cells)
    differences, counts = scores.differences(cells, against), counts_table(cells)
    counts["labels, %"] += " % labels"
    second = any(is_object_score(name) and not name.startswith(OBJECTS) for cell in cells for name in cell.metrics)
    return (
        _environment()
        .get_template(TEMPLATE)
        .render(
            **{"cells": cells, "first": first, "labels": labels_of(cells), "against": against, "tiles": tiles},
            **{"warnings": warnings, "made": made, "optimistic": optimistic, "judged": judged, "second": second},
            shares=[f"{share} % labels" for share in labels_of(cells)],
            summary=summarize(cells, lead, against),
            note=protocol_note(str(first["protocol"])),
            methods={name: (about or {})[name] for name in methods_of(cells) if (about or {}).get(name)},
            steps=steps_of(cells),
            seeds=sorted({cell.seed for cell in cells}),
            counts=counts.rename(columns={"labels, %": "images"}),
            lead=definition(lead).title if lead else None,
            score_charts=scores.score_charts(cells, metrics, against),
            score_tables=score_tables(cells, metrics, lead),
            differences=differences,
            difference_charts=[(score.title, score.chart) for score in differences],
            curve=definition(curve).title if curve else None,
            learning_curves=training.learning_curves(cells, against, judged),
            loss_charts=training.loss_charts(cells),
            experts=experts,
            gate_charts=training.gate_charts(cells, experts),
            calibration_charts=scores.calibration_charts(cells),
            cost_charts=scores.cost_charts(cells),
            costs=cost_table(cells),
            published=published_table(published_scores, cells) if published_scores else None,
            definitions=[definition(name) for name in metrics],
            with_objects=any(is_object_score(name) for name in metrics),
            empty_images=empty_images(metrics),
            runs=runs_table(cells, f"best on {judged}"),
        )
    )


def empty_images(metrics: Sequence[str]) -> pd.DataFrame:
    """Return a table with the values of some scores for images without foreground."""
    plain = {without_postprocessing(name) for name in metrics}
    rows = [[title, both_empty, one_empty] for title, names, both_empty, one_empty in EMPTY if plain & set(names)]
    return table_of(rows, ["score", "both empty", "only one empty"])


def runs_table(cells: Sequence[Cell], best_title: str) -> pd.DataFrame:
    """Return a table of the runs with the selected checkpoint and the origin of each."""
    rows = []
    for cell in cells:
        content = cell.content
        best = content.get("selected") or {}
        value, metric = best.get("value"), best.get("metric")
        name = f"{definition(str(metric)).title} " if metric else ""
        rows.append(
            [
                cell.name,
                "-" if value is None else f"{name}{value:.3f}",
                "-" if best.get("epoch") is None else f"{best['epoch']:g}",
                ", ".join(commit[:10] for commit in cell.commits()) + (" +" if content.get("dirty") else ""),
                str((content.get("hardware") or {}).get("device") or "-"),
                str(content["config"].get("digest") or "-")[:10],
                str(content.get("finished") or "-")[:16].replace("T", " "),
            ]
        )
    return table_of(rows, ["run", best_title, "epoch", "commit", "device", "config", "finished, UTC"])


def _environment() -> jinja2.Environment:
    """Return the environment of the template, which escapes all texts."""
    loader = jinja2.FileSystemLoader(Path(__file__).parent)
    environment = jinja2.Environment(
        loader=loader,
        autoescape=True,
        undefined=jinja2.StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
        finalize=_with_no_break_spaces,
    )
    environment.globals["zip"] = zip
    environment.filters["breakable"] = lambda name: escape(name).replace("_", Markup("_<wbr>"))
    return environment


def _with_no_break_spaces(value: Any) -> Any:
    """Return a text with no-break spaces before percent signs and after plus-minus signs."""
    return value.replace(" %", "\u00a0%").replace("± ", "±\u00a0") if isinstance(value, str) else value
