"""Sections of the page that set methods side by side: scores, differences image by image, cost."""

from __future__ import annotations

from collections.abc import Sequence

from bundle.report import charts, markup
from bundle.report.cells import Cell
from bundle.report.definitions import definition, is_optimistic, key_metric
from bundle.report.differences import comparison_table, comparisons
from bundle.report.row_chart import Row, Series, row_chart
from bundle.report.statistics import Comparison
from bundle.report.tables import (
    OBJECTS,
    POSTPROCESSING,
    cost_table,
    group,
    labels_of,
    mean_of,
    methods_of,
    ranked,
    score,
    score_tables,
)

CHARTED = ("object_f1", "object_dice", "object_hausdorff")
"""Scores that get a chart beside the leading one, as far as the cells have them."""
COMPARED = ("mean_dice", *CHARTED)
"""Scores of single images that are compared."""
HOLLOW = ("hollow", f"hollow mark: objects read by {POSTPROCESSING['watershed_']}, others by {POSTPROCESSING['']}")
"""Key to the marks of the second postprocessing."""
SECOND = f"watershed_{OBJECTS}"
"""How the names of the scores of the second postprocessing begin."""
SHARE = "{} % labels"
"""Heading of the rows of a share of labels."""
COSTS = (
    ("Parameters of the network", "millions", 1e-6, ("parameters", "network")),
    ("Training", "minutes", 1 / 60, ("seconds", "training")),
    ("Largest memory of the GPU", "MiB", 1.0, ("peak_memory", "device_mib")),
    ("Largest memory of the host", "MiB", 1.0, ("peak_memory", "host_mib")),
)
"""Charts of cost: title, unit, factor to it, keys in the file of a cell."""


def leading(cells: Sequence[Cell], metrics: Sequence[str]) -> str | None:
    """The score that leads: that of the protocol, or the first where no cell has it; ``None`` without scores."""
    asked = key_metric(str(cells[0].content["protocol"]))
    there = [name for name in metrics if any(cell.metrics.get(name) is not None for cell in cells)]
    return asked if asked in there else next(iter(there), None)


def overview(cells: Sequence[Cell], metrics: Sequence[str], against: str) -> str:
    """Charts of the leading scores, and the tables of all."""
    lead = leading(cells, metrics)
    if lead is None:
        return ""
    labels = labels_of(cells)
    names = [lead, *(name for name in CHARTED if name in metrics and name != lead)]
    found = [(definition(name).title, _scores(cells, name, against)) for name in names]
    kinds = [HOLLOW] if any(name.startswith(SECOND) for name in metrics) else []
    words = (
        f"A row is a method, a dot one run, a bar the mean over seeds; the best at {labels[0]} % labels stands on top. "
        f"Dashed lines are the means of {against}."
    )
    threshold = " The threshold of the swept scores was chosen on these images too." if lead.startswith("swept") else ""
    note = f"These images also chose the checkpoint.{threshold} So no score here foretells that of new images."
    tables = []
    for title, content in score_tables(cells, metrics, lead):
        caption = (
            f"{title}: mean ± standard deviation over seeds; rows in the order of {definition(lead).title}. Bold: the "
            f"best mean of a column at a share of labels. Objects are found by {POSTPROCESSING['']} unless another "
            "postprocessing is named."
        )
        tables += [f"<h3>{title}</h3>", markup.table(content, caption, groups=SHARE)]
    return "\n".join(
        [
            markup.paragraph(note, "warning") if is_optimistic(str(cells[0].content["protocol"])) else "",
            markup.paragraph(words),
            charts.legend([f"{share} % labels" for share in labels], kinds),
            markup.figures(found, "tall"),
            *tables,
        ]
    )


def compared(cells: Sequence[Cell], against: str) -> str:
    """Differences to a method image by image: charts, and tables that open."""
    labels, drawn, tables = labels_of(cells), [], []
    for name in COMPARED:
        found = comparisons(cells, name, against)
        if found:
            meaning = definition(name)
            title = meaning.label.replace(meaning.title, f"{meaning.title} of an image")
            drawn.append((title, _differences(found, labels, name, against)))
            content = comparison_table(found, against, meaning.digits)
            better = "A negative" if meaning.larger_is_better is False else "A positive"
            caption = f"{title}. {better} difference is better; + counts the images with a larger score."
            tables.append(markup.folded(title, markup.table(content, caption, groups=SHARE)))
    if not drawn:
        return ""
    words = (
        "Each image's score is the mean over seeds; then the difference of both methods on the same image. Lines are "
        "95 % bootstrap intervals of the mean, p is of Wilcoxon's signed-rank test. Both take images as independent, "
        "which images of one patient are not; neither knows of the spread over seeds; and p is not corrected for the "
        "number of comparisons."
    )
    second = any(name.startswith(SECOND) for cell in cells for name in cell.content.get("per_image") or {})
    words += (
        f" A second postprocessing of objects is compared with the plain postprocessing of {against}." if second else ""
    )
    key = charts.legend([f"{share} % labels" for share in labels], [HOLLOW] if second else [])
    return "\n".join([markup.paragraph(words), key, markup.figures(drawn, "tall"), *tables])


def cost(cells: Sequence[Cell]) -> str:
    """What each method took: charts and the table."""
    drawn = []
    for title, unit, factor, keys in COSTS:
        means = [(name, mean_of([cell for cell in cells if cell.method == name], *keys)) for name in methods_of(cells)]
        known = sorted((value * factor, name) for name, value in means if value is not None)
        rows = [Row(name, [Series(value, name=f"{name}: {charts.number(value)}")]) for value, name in known]
        label = f"{title}, {unit}, the cheapest first: {_told(rows)}"
        drawn.append((title, row_chart(rows, f"{unit}; left is cheaper", label, include=[0.0])))
    caption = "Parameters, steps, time and largest memory: means over the runs of a method."
    return markup.figures(drawn, "tall") + markup.table(cost_table(cells), caption)


def _scores(cells: Sequence[Cell], name: str, against: str) -> str:
    """A chart of one score, a row a method, the best at the fewest labels on top."""
    labels, meaning = labels_of(cells), definition(name)
    variants = POSTPROCESSING if name.startswith(OBJECTS) else {"": ""}
    marks: dict[str, list[Series]] = {}
    references = []
    for color, share in enumerate(labels):
        for method in ranked(cells, share, name):
            for postprocessing, words in variants.items():
                found = score(group(cells, method, share), postprocessing + name)
                if found is None:
                    continue
                if method == against and not postprocessing:
                    references.append((found.mean, color))
                told = f"{method}, {share} % labels, {words}".removesuffix(", ")
                told = f"{told}: {found.mean:.{meaning.digits}f}, {len(found.values)} runs"
                series = Series(found.mean, color, found.values, hollow=bool(postprocessing), name=told)
                marks.setdefault(method, []).append(series)
    rows = [Row(method, series, method == against) for method, series in marks.items()]
    label = f"{meaning.title} by method at {labels[0]} % labels, the best first: {_told(rows)}"
    return row_chart(rows, f"{meaning.label}; {_better(name)}", label, references=references)


def _differences(found: Sequence[tuple[str, str, Comparison]], labels: Sequence[str], name: str, against: str) -> str:
    """A chart of the differences in one score, a row a method, the best first."""
    marks: dict[str, list[Series]] = {}
    for share, entry, result in found:
        method, _, postprocessing = entry.partition(", ")
        ends = None if result.low is None or result.high is None else (result.low, result.high)
        words = f"{entry}, {share} % labels: {result.difference:+.3f}, p {result.p:.3f}"
        series = Series(result.difference, labels.index(share), ends=ends, hollow=bool(postprocessing), name=words)
        marks.setdefault(method, []).append(series)
    sign = 1.0 if definition(name).larger_is_better is False else -1.0
    order = sorted(marks, key=lambda method: sign * marks[method][0].mean)
    rows = [Row(method, sorted(marks[method], key=lambda one: one.color), method == against) for method in order]
    unit = f", {definition(name).unit}" if definition(name).unit else ""
    title = f"difference to {against}{unit}; {_better(name)}"
    label = f"{definition(name).title}, mean {title}: {_told(rows)}"
    return row_chart(rows, title, label, include=[0.0], references=[(0.0, None)], signs=True)


def _told(rows: Sequence[Row]) -> str:
    """The means of the first series of some rows, in words."""
    return ", ".join(f"{row.name} {charts.number(round(row.series[0].mean, 3))}" for row in rows if row.series)


def _better(name: str) -> str:
    return {True: "right is better", False: "left is better", None: ""}[definition(name).larger_is_better]
