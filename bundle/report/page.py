"""The report as one HTML page that needs no other file and no network: summary, figures, and what they mean."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from html import escape
from pathlib import Path
from typing import Any

from bundle.report import answers, markup, meanings, published, scores, training
from bundle.report.cells import Cell
from bundle.report.comparing import steps_of
from bundle.report.definitions import definition, is_optimistic, protocol_note
from bundle.report.summary import Summary, summarize
from bundle.report.tables import counts_table, methods_of

STYLE = Path(__file__).with_name("page.css")
OPEN = 4
"""Methods whose descriptions are shown unfolded; those of more are folded."""


def build(
    cells: Sequence[Cell],
    metrics: Sequence[str],
    against: str,
    tiles: Mapping[str, Sequence[answers.Tile]],
    anchors: Sequence[Mapping[str, Any]],
    warnings: Sequence[str],
    made: str,
    about: Mapping[str, str] | None = None,
) -> str:
    """Write the page.

    Args:
        cells: comparable cells, at least one.
        metrics: scores of the tables.
        against: the method that the others are compared with.
        tiles: by title of a group ("supervised, 10 % labels: worst"), pictures of test images.
        anchors: published figures, shown apart.
        warnings: sentences that stand on top.
        made: when and from what the page was made.
        about: what a method is, in a sentence, by its name; methods without one are only named.

    Returns:
        The page, HTML.
    """
    first = cells[0].content
    optimistic = is_optimistic(str(first["protocol"]))
    summary = summarize(cells, scores.leading(cells, metrics), against)
    judged = training.judging(cells)
    parts = {
        f"Scores on the test part{', which chose the checkpoints' if optimistic else ''}": scores.overview(
            cells, metrics, against
        ),
        f"Image by image, against {against}": scores.compared(cells, against),
        f"Learning, judged on {judged}": training.curves(cells, against),
        "Training loss": training.losses(cells),
        "Gate weights over training": training.gates(cells),
        "Calibration": answers.calibration(cells),
        "Worst and best test images": answers.pictures(tiles),
        "Cost": scores.cost(cells),
        "Published elsewhere": published.published(anchors, cells),
        "What the scores mean": meanings.meanings(metrics),
        "Runs": _runs(cells, judged),
    }
    kept = {name: content for name, content in parts.items() if content}
    body = "\n".join(
        [
            _lead(cells, summary, warnings, about or {}),
            _contents(list(kept)),
            *(markup.section(name, content) for name, content in kept.items()),
            f"<footer>{escape(made)}</footer>",
        ]
    )
    return (
        '<!doctype html>\n<html lang="en">\n<head>\n<meta charset="utf-8">\n'
        '<meta name="viewport" content="width=device-width, initial-scale=1">\n'
        '<meta name="color-scheme" content="light dark">\n'
        f"<title>{escape(summary.title)}</title>\n<style>\n{STYLE.read_text(encoding='utf-8')}</style>\n</head>\n"
        f"<body>\n<main>\n{body}\n</main>\n</body>\n</html>\n"
    )


def _lead(cells: Sequence[Cell], summary: Summary, warnings: Sequence[str], about: Mapping[str, str]) -> str:
    """What was compared and what came out, how far to trust it, and what stands behind it."""
    first = cells[0].content
    protocol, seeds = str(first["protocol"]), sorted({cell.seed for cell in cells})
    facts = (
        f"{len(cells)} {'runs' if len(cells) > 1 else 'run'} of {steps_of(cells)} at size "
        f"{first['size']}; seed{'s' * (len(seeds) > 1)} {', '.join(map(str, seeds))}; protocol {protocol}."
    )
    methods = [name for name in methods_of(cells) if about.get(name)]
    listed = "".join(f"<dt>{escape(name)}</dt><dd>{escape(about[name])}</dd>" for name in methods)
    head, rows = counts_table(cells)
    shares = [[f"{row[0]} % labels", *row[1:]] for row in rows]
    caption = "Images by share of labels; two numbers where the lists of different runs differ."
    return "\n".join(
        [
            f"<header><h1>{escape(markup.whole(summary.title))}</h1>",
            markup.paragraph(summary.compared),
            *(markup.paragraph(sentence, "result") for sentence in summary.results),
            markup.paragraph(f"{summary.caution} {summary.meaning}".strip()),
            markup.paragraph(protocol_note(protocol), "warning" if is_optimistic(protocol) else "note"),
            markup.folded("The methods", f"<dl>{listed}</dl>", len(methods) <= OPEN) if listed else "",
            *(markup.paragraph(sentence, "warning") for sentence in warnings),
            markup.paragraph(facts),
            markup.table((["images", *head[1:]], shares), caption) if len(shares) > 1 else "",
            "</header>",
        ]
    )


def _contents(titles: Sequence[str]) -> str:
    items = "".join(f'<li><a href="#{markup.address(title)}">{escape(title)}</a></li>' for title in titles)
    return f'<nav aria-label="Contents"><ul>{items}</ul></nav>'


def _runs(cells: Sequence[Cell], judged: str) -> str:
    """Where each cell comes from, and which checkpoint it kept."""
    head = ["run", f"best on {judged}", "epoch", "commit", "device", "config", "finished, UTC"]
    rows = []
    for cell in cells:
        content = cell.content
        best = content.get("selected") or {}
        value, metric = best.get("value"), best.get("metric")
        name = f"{definition(str(metric)).title} " if metric else ""
        hardware = content.get("hardware") or {}
        commits = ", ".join(commit[:10] for commit in cell.commits()) + (" +" if content.get("dirty") else "")
        rows.append(
            [
                cell.name,
                "-" if value is None else f"{name}{value:.3f}",
                "-" if best.get("epoch") is None else f"{best['epoch']:g}",
                commits,
                str(hardware.get("device") or "-"),
                str(content["config"].get("digest") or "-")[:10],
                str(content.get("finished") or "-")[:16].replace("T", " "),
            ]
        )
    caption = "The runs; a + after a commit: with uncommitted changes."
    return markup.folded(f"{len(rows)} runs", markup.table((head, rows), caption), len(rows) <= 12)
