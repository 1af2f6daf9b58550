"""Sections of the page that compare methods: scores, differences image by image, cost."""

from __future__ import annotations

from collections.abc import Sequence

from scripts.reporting import charts, markup
from scripts.reporting.cells import Cell
from scripts.reporting.definitions import definition, is_optimistic, key_metric
from scripts.reporting.differences import comparison_table, comparisons
from scripts.reporting.row_chart import Row, Series, row_chart
from scripts.reporting.statistics import Comparison
from scripts.reporting.tables import (
    OBJECTS,
    POSTPROCESSING,
    cost_table,
    group,
    labels_of,
    mean_of,
    methods_of,
    rank_methods,
    score,
    score_tables,
)

CHARTED = ("object_f1", "object_dice", "object_hausdorff")
"""Scores with a chart in addition to the main score, if the cells have them."""
COMPARED = ("mean_dice", *CHARTED)
"""Scores that are compared image by image."""
HOLLOW = (
    "hollow",
    f"hollow marks: objects from {POSTPROCESSING['watershed_']}, others from connected {POSTPROCESSING['']}",
)
"""Legend of the marks of the second postprocessing."""
SECOND = f"watershed_{OBJECTS}"
"""Prefix of the scores of the second postprocessing."""
SHARE = "{} % labels"
"""Heading of the rows with a share of labels."""
COSTS = (
    ("Parameters of the network", "millions", 1e-6, ("parameters", "network")),
    ("Training time", "minutes", 1 / 60, ("seconds", "training")),
    ("Peak GPU memory", "MiB", 1.0, ("peak_memory", "device_mib")),
    ("Peak CPU memory", "MiB", 1.0, ("peak_memory", "host_mib")),
)
"""Charts of cost: title, unit, conversion factor, keys in the file of a cell."""


def leading(cells: Sequence[Cell], metrics: Sequence[str]) -> str | None:
    """Return the main score: that of the protocol, or the first if no cell has it; ``None`` without scores."""
    main = key_metric(str(cells[0].content["protocol"]))
    available = [name for name in metrics if any(cell.metrics.get(name) is not None for cell in cells)]
    return main if main in available else next(iter(available), None)


def overview(cells: Sequence[Cell], metrics: Sequence[str], against: str) -> str:
    """Return charts of the main scores, and tables of all scores."""
    lead = leading(cells, metrics)
    if lead is None:
        return ""
    labels = labels_of(cells)
    names = [lead, *(name for name in CHARTED if name in metrics and name != lead)]
    figures = [(definition(name).title, _scores(cells, name, against)) for name in names]
    kinds = [HOLLOW] if any(name.startswith(SECOND) for name in metrics) else []
    text = (
        f"Each row is a method, each dot a run, each bar the mean over seeds. The best method at {labels[0]} % labels "
        f"is at the top. Dashed lines are the means of {against}."
    )
    threshold = " The threshold of the swept scores was also chosen on them." if lead.startswith("swept") else ""
    note = f"The checkpoint was chosen on the test images.{threshold} Scores on new images may be lower."
    tables = []
    for title, content in score_tables(cells, metrics, lead):
        caption = (
            f"{title}: mean ± standard deviation over seeds, sorted by {definition(lead).title}. Bold: best mean of a "
            f"column at each share of labels. Objects are connected {POSTPROCESSING['']} unless another postprocessing "
            "is given."
        )
        tables += [f"<h3>{title}</h3>", markup.table(content, caption, groups=SHARE)]
    return "\n".join(
        [
            markup.paragraph(note, "warning") if is_optimistic(str(cells[0].content["protocol"])) else "",
            markup.paragraph(text),
            charts.legend([f"{share} % labels" for share in labels], kinds),
            markup.figures(figures, "tall"),
            *tables,
        ]
    )


def compared(cells: Sequence[Cell], against: str) -> str:
    """Return charts and collapsible tables of the differences to a method, image by image."""
    labels, figures, tables = labels_of(cells), [], []
    for name in COMPARED:
        results = comparisons(cells, name, against)
        if results:
            meaning = definition(name)
            title = meaning.label.replace(meaning.title, f"{meaning.title} per image")
            figures.append((title, _differences(results, labels, name, against)))
            content = comparison_table(results, against, meaning.digits)
            better = "A negative" if meaning.larger_is_better is False else "A positive"
            caption = f"{title}. {better} difference is better; + is the number of images with a larger score."
            tables.append(markup.collapsible(title, markup.table(content, caption, groups=SHARE)))
    if not figures:
        return ""
    text = (
        "Differences of two methods on the same image; the score of an image is the mean over seeds. Lines are 95 % "
        "bootstrap intervals of the mean; p is from Wilcoxon's signed-rank test. Both assume independent images, but "
        "images of the same patient are not independent. Neither includes the variation between seeds, and p is not "
        "corrected for multiple comparisons."
    )
    second = any(name.startswith(SECOND) for cell in cells for name in cell.content.get("per_image") or {})
    text += f" Objects from watershed are compared with connected components of {against}." if second else ""
    key = charts.legend([f"{share} % labels" for share in labels], [HOLLOW] if second else [])
    return "\n".join([markup.paragraph(text), key, markup.figures(figures, "tall"), *tables])


def cost(cells: Sequence[Cell]) -> str:
    """Return charts and the table of the cost of each method."""
    figures = []
    for title, unit, factor, keys in COSTS:
        means = [(name, mean_of([cell for cell in cells if cell.method == name], *keys)) for name in methods_of(cells)]
        known = sorted((value * factor, name) for name, value in means if value is not None)
        rows = [Row(name, [Series(value, name=f"{name}: {charts.number(value)}")]) for value, name in known]
        label = f"{title}, {unit}, sorted from the lowest: {_means_text(rows)}"
        figures.append((title, row_chart(rows, f"{unit}; lower is better", label, include=[0.0])))
    caption = "Parameters, steps, time and peak memory, mean over the runs of a method."
    return markup.figures(figures, "tall") + markup.table(cost_table(cells), caption)


def _scores(cells: Sequence[Cell], name: str, against: str) -> str:
    """Return a chart of a score with one row per method, sorted by the score at the smallest share of labels."""
    labels, meaning = labels_of(cells), definition(name)
    variants = POSTPROCESSING if name.startswith(OBJECTS) else {"": ""}
    marks: dict[str, list[Series]] = {}
    references = []
    for color, share in enumerate(labels):
        for method in rank_methods(cells, share, name):
            for postprocessing, suffix in variants.items():
                spread = score(group(cells, method, share), postprocessing + name)
                if spread is None:
                    continue
                if method == against and not postprocessing:
                    references.append((spread.mean, color))
                title = f"{method}, {share} % labels, {suffix}".removesuffix(", ")
                title = f"{title}: {spread.mean:.{meaning.digits}f}, {len(spread.values)} runs"
                series = Series(spread.mean, color, spread.values, hollow=bool(postprocessing), name=title)
                marks.setdefault(method, []).append(series)
    rows = [Row(method, series, method == against) for method, series in marks.items()]
    label = f"{meaning.title} by method at {labels[0]} % labels, sorted from the best: {_means_text(rows)}"
    return row_chart(rows, f"{meaning.label}; {definition(name).better}", label, references=references)


def _differences(results: Sequence[tuple[str, str, Comparison]], labels: Sequence[str], name: str, against: str) -> str:
    """Return a chart of the differences in a score with one row per method, sorted from the best."""
    marks: dict[str, list[Series]] = {}
    for share, entry, result in results:
        method, _, postprocessing = entry.partition(", ")
        ends = None if result.low is None or result.high is None else (result.low, result.high)
        title = f"{entry}, {share} % labels: {result.difference:+.3f}, p {result.p:.3f}"
        series = Series(result.difference, labels.index(share), ends=ends, hollow=bool(postprocessing), name=title)
        marks.setdefault(method, []).append(series)
    sign = 1.0 if definition(name).larger_is_better is False else -1.0
    order = sorted(marks, key=lambda method: sign * marks[method][0].mean)
    rows = [Row(method, sorted(marks[method], key=lambda mark: mark.color), method == against) for method in order]
    unit = f", {definition(name).unit}" if definition(name).unit else ""
    title = f"difference to {against}{unit}; {definition(name).better}"
    label = f"{definition(name).title}, mean {title}: {_means_text(rows)}"
    return row_chart(rows, title, label, include=[0.0], references=[(0.0, None)], signs=True)


def _means_text(rows: Sequence[Row]) -> str:
    """Return the means of the first series of each row, as text."""
    return ", ".join(f"{row.name} {charts.number(round(row.series[0].mean, 3))}" for row in rows if row.series)
