"""Title and summary of a report: methods, data, the best method and its lead."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from scripts.reporting.cells import Cell
from scripts.reporting.definitions import Definition, definition, describe_data, is_optimistic
from scripts.reporting.statistics import compare, seed_interval
from scripts.reporting.tables import counts_table, group, labels_of, methods_of, rank_methods, score

NAMED = 3
"""Maximum number of methods that are listed by name."""
FALLBACK = "mean_dice"
"""Score per image for the interval over images if the main score has none."""


@dataclass(frozen=True)
class Summary:
    """Title and first sentences of a report.

    Attributes:
        title: methods, data and best method.
        compared: methods, data and number of images.
        results: one sentence per share of labels: scores, best method, its lead and number of seeds.
        meaning: definition of the main score.
        caution: limits of the results.
    """

    title: str
    compared: str
    results: tuple[str, ...]
    meaning: str
    caution: str


@dataclass(frozen=True)
class Gap:
    """Lead of the best method over another.

    Attributes:
        other: the other method.
        amount: difference of the rounded means, 0 or more.
        seeds: number of shared seeds; 0 if the methods have different seeds.
        ends: 95 % interval of the difference over seeds; ``None`` for fewer than 2 shared seeds.
        may_be_chance: whether an interval, over seeds or over test images, includes 0.
    """

    other: str
    amount: float
    seeds: int
    ends: tuple[float, float] | None
    may_be_chance: bool


@dataclass(frozen=True)
class Outcome:
    """Result at one share of labels.

    Attributes:
        labels: share of labels.
        means: mean of the main score over seeds by method, the best first.
        level: the best method, and all methods with the same rounded mean.
        gaps: lead over the next method, and over the baseline if that is another one.
        seeds: number of seeds of the best method with the score.
    """

    labels: str
    means: Mapping[str, float]
    level: tuple[str, ...]
    gaps: tuple[Gap, ...]
    seeds: int


def summarize(cells: Sequence[Cell], metric: str | None, against: str) -> Summary:
    """Summarize comparable cells.

    Args:
        cells: cells, at least one.
        metric: main score. If it is ``None`` or has no better direction, no method is called best.
        against: method that the others are compared with.
    """
    methods, data = methods_of(cells), str(cells[0].content["data"])
    outcomes = []
    if metric is not None and definition(metric).larger_is_better is not None:
        outcomes = [
            outcome for share in labels_of(cells) if (outcome := outcome_at(cells, share, metric, against)).means
        ]
    meaning = definition(metric or "")
    title = f"{_names(methods)} on {data}"
    headline = _headline(outcomes, meaning, len(methods))
    optimistic = " (optimistic)" if is_optimistic(str(cells[0].content["protocol"])) else ""
    results = tuple(_result(outcome, meaning, len(methods)) for outcome in outcomes)
    name, better = meaning.title[:1].upper() + meaning.title[1:], "Higher" if meaning.larger_is_better else "Lower"
    return Summary(
        f"{title}: {headline}{optimistic}" if headline else f"{title}{optimistic}",
        _compared(cells, methods, data),
        results,
        f"{name}: {meaning.text}. {better} is better." if outcomes else "",
        _caution(outcomes),
    )


def outcome_at(cells: Sequence[Cell], labels: str, metric: str, against: str) -> Outcome:
    """Return the means, ranking and leads at one share of labels, without methods that lack the score."""
    spreads = {name: score(group(cells, name, labels), metric) for name in rank_methods(cells, labels, metric)}
    known = {name: spread for name, spread in spreads.items() if spread is not None}
    means = {name: spread.mean for name, spread in known.items()}
    rounded = {name: f"{mean:.{definition(metric).digits}f}" for name, mean in means.items()}
    level = tuple(name for name in means if rounded[name] == rounded[next(iter(means))])
    behind = [name for name in means if name not in level]
    rivals = dict.fromkeys([*behind[:1], *(name for name in behind if name == against)])
    gaps = tuple(gap(cells, labels, level[0], other, metric) for other in rivals)
    return Outcome(labels, means, level, gaps, len(known[level[0]].values) if level else 0)


def gap(cells: Sequence[Cell], labels: str, best: str, other: str, metric: str) -> Gap:
    """Return the lead of the better of two methods, and whether it may be chance.

    With at least two shared seeds, it may be chance if the interval over seeds includes 0. With one seed, the variation
    between seeds is unknown; then the interval over test images is used.
    """
    sign = -1.0 if definition(metric).larger_is_better is False else 1.0
    first, second = ({cell.seed: cell for cell in group(cells, name, labels)} for name in (best, other))
    values = [
        {seed: cell.metrics[metric] for seed, cell in runs.items() if cell.metrics.get(metric) is not None}
        for runs in (first, second)
    ]
    means = [round(sum(table.values()) / len(table), definition(metric).digits) for table in values]
    amount = abs(means[0] - means[1])
    if values[0].keys() != values[1].keys():
        return Gap(other, amount, 0, None, may_be_chance=False)
    if len(values[0]) > 1:
        ends = seed_interval([sign * (values[0][seed] - values[1][seed]) for seed in sorted(values[0])])
        return Gap(other, amount, len(values[0]), ends, may_be_chance=ends[0] <= 0 <= ends[1])
    (seed,) = values[0]
    small = _small_over_images(first[seed], second[seed], metric)
    return Gap(other, amount, 1, None, may_be_chance=small)


def _small_over_images(first: Cell, second: Cell, metric: str) -> bool:
    """Return whether the interval over test images includes 0."""
    name = metric if first.per_image(metric) else FALLBACK
    first_scores, second_scores = first.per_image(name), second.per_image(name)
    if not set(first_scores) & set(second_scores):
        return False
    result = compare(first_scores, second_scores)
    return result.low is None or result.high is None or result.low <= 0 <= result.high


def _headline(outcomes: Sequence[Outcome], meaning: Definition, methods: int) -> str:
    """Return the best method for the title; shares of labels with the same result are combined."""
    if methods == 1:
        values = [
            f"{_value(next(iter(outcome.means.values())), meaning)} at {outcome.labels} % labels"
            for outcome in outcomes
        ]
        return f"{meaning.title} {', '.join(values)}" if values else ""
    compared = [outcome for outcome in outcomes if len(outcome.means) > 1]
    headlines: dict[tuple[str, str], list[str]] = {}
    for outcome in compared:
        best, nearest, chance = outcome.level[0], next(iter(outcome.gaps), None), ""
        text = f"{_names(outcome.level)} are tied"
        if len(outcome.level) == 1 and nearest is not None:
            other = f" {nearest.other}" if methods > 2 else ""
            amount = f"{other} by {_value(nearest.amount, meaning)} {meaning.title}" if len(compared) == 1 else ""
            chance = " (may be chance)" if nearest.may_be_chance else " (one seed)" if nearest.seeds == 1 else ""
            text = f"{best} leads{amount}"
        headlines.setdefault((text, chance), []).append(f"{outcome.labels} %")
    several = len(compared) > 1
    return "; ".join(
        f"{text}{f' at {_joined(shares)} labels' * several}{chance}" for (text, chance), shares in headlines.items()
    )


def _result(outcome: Outcome, meaning: Definition, methods: int) -> str:
    """Return the sentence on one share of labels."""
    where = f"With {outcome.labels} % of the training images labeled"
    count, best = len(outcome.means), outcome.level[0]
    value = _value(outcome.means[best], meaning)
    if count == 1:
        alone = "" if methods == 1 else ", the only method with a finished run,"
        runs = f" (mean of {outcome.seeds} seeds)" if outcome.seeds > 1 else " (one seed)"
        return f"{where}, the {meaning.title} of {best}{alone} is {value}{runs}."
    if len(outcome.level) == count:
        return f"{where}, {_names(outcome.level)} are tied: {meaning.title} {value}."
    if len(outcome.level) > 1:
        result = f"{_names(outcome.level)} are the best of {count} methods: {meaning.title} {value}"
    else:
        result = f"{best} is {'better' if count == 2 else f'the best of {count} methods'}: {meaning.title} {value}"
    more = "less" if meaning.larger_is_better is False else "more"
    gaps = [
        f"{_value(gap.amount, meaning)} {more} than {gap.other} "
        f"({_value(outcome.means[gap.other], meaning)}; {_evidence(gap, meaning)})"
        for gap in outcome.gaps
    ]
    return f"{where}, {result}, {' and '.join(gaps)}."


def _evidence(gap: Gap, meaning: Definition) -> str:
    """Return the evidence for a lead: number of seeds and interval."""
    if gap.seeds == 0:
        return "the methods have different seeds, so no interval is given"
    if gap.ends is None:
        return "one seed; a difference this small may be chance" if gap.may_be_chance else "one seed"
    low, high = (f"{end:+.{meaning.digits}f}" for end in gap.ends)
    chance = ", so this may be chance" if gap.may_be_chance else ""
    return f"95 % interval of the difference over {gap.seeds} seeds: {low} to {high}{chance}"


def _compared(cells: Sequence[Cell], methods: Sequence[str], data: str) -> str:
    """Return the sentences on methods, data and number of images."""
    what = f"compares {len(methods)} methods" if len(methods) > 1 else "shows one method"
    names = f" ({_names(methods)})" if len(methods) <= NAMED else ""
    images = f"on {data}: {description}" if (description := describe_data(data)) else f"on {data}"
    sentence = f"This page {what} for training a segmentation network{names} {images}."
    table = counts_table(cells)
    counts = table.iloc[0]
    scored = f"scores are computed on {counts['test']} test images."
    if len(table) > 1:
        shares = _joined([f"{share} %" for share in labels_of(cells)])
        return f"{sentence} {shares} of the training images are labeled; {scored}"
    validation = counts["validation"]
    chosen = "" if validation == "-" else f", the checkpoint is chosen on {validation} validation images"
    return (
        f"{sentence} {counts['labeled']} labeled and {counts['unlabeled']} unlabeled images are used for "
        f"training{chosen}, and {scored}"
    )


def _caution(outcomes: Sequence[Outcome]) -> str:
    """Return the limits of the results."""
    gaps = [gap for outcome in outcomes for gap in outcome.gaps]
    if any(gap.seeds == 1 for gap in gaps):
        return "With one seed the ranking is preliminary: other labeled images or another initialization may change it."
    count = max((len(outcome.means) for outcome in outcomes), default=0)
    if count > 2 and any(gap.ends for gap in gaps):
        return f"The intervals are not corrected for selecting the best of {count} methods."
    return ""


def _names(methods: Sequence[str]) -> str:
    return _joined(methods) if len(methods) <= NAMED else f"{len(methods)} methods"


def _joined(names: Sequence[str]) -> str:
    """Join words: ``a, b and c``."""
    return " and ".join([", ".join(names[:-1]), names[-1]] if len(names) > 1 else names)


def _value(value: float, meaning: Definition) -> str:
    return f"{value:.{meaning.digits}f} {meaning.unit}".strip()
