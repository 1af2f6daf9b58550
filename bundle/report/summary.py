"""The first sentences of a report: what was compared, on what, which method is ahead and by how much."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from bundle.report.cells import Cell
from bundle.report.definitions import Definition, data_words, definition, is_optimistic
from bundle.report.statistics import compare, seed_interval
from bundle.report.tables import counts_table, group, labels_of, methods_of, ranked, score

NAMED = 3
"""How many methods are listed by name; more are counted."""
FALLBACK = "mean_dice"
"""Score of single images that tells of chance where the leading score has none."""


@dataclass(frozen=True)
class Summary:
    """Title and first sentences of a report.

    Attributes:
        title: methods, data, and which method is ahead.
        compared: which methods, on what, with how many images.
        results: a sentence a share of labels: scores, which method is ahead, by how much, on how many seeds.
        meaning: what the leading score is.
        caution: what the results do not tell.
    """

    title: str
    compared: str
    results: tuple[str, ...]
    meaning: str
    caution: str


@dataclass(frozen=True)
class Gap:
    """How far one method is ahead of another, which is 0 or more, and what stands behind it.

    Attributes:
        other: the method that is behind.
        amount: difference of both means in the digits shown, positive.
        seeds: how many seeds both have; 0 where their seeds differ.
        ends: 95 % interval over seeds of the difference; ``None`` for fewer than 2 shared seeds.
        may_be_chance: whether an interval, over seeds or over test images, includes 0.
    """

    other: str
    amount: float
    seeds: int
    ends: tuple[float, float] | None
    may_be_chance: bool


@dataclass(frozen=True)
class Outcome:
    """What came out at one share of labels.

    Attributes:
        labels: share of labels.
        means: mean over seeds of the leading score by method, the best first.
        level: the best method, and all whose mean is the same in the digits shown.
        gaps: to the best of the others, and to the baseline where that is another one.
        seeds: seeds of the best method that have the score.
    """

    labels: str
    means: Mapping[str, float]
    level: tuple[str, ...]
    gaps: tuple[Gap, ...]
    seeds: int


def summarize(cells: Sequence[Cell], metric: str | None, against: str) -> Summary:
    """Sum comparable cells up.

    Args:
        cells: at least one.
        metric: the leading score; without one, or where neither direction of it is better, no method is called ahead.
        against: the method that the others are compared with.
    """
    methods, data = methods_of(cells), str(cells[0].content["data"])
    found = []
    if metric is not None and definition(metric).larger_is_better is not None:
        found = [outcome for share in labels_of(cells) if (outcome := outcome_at(cells, share, metric, against)).means]
    meaning = definition(metric or "")
    title = f"{_names(methods)} on {data}"
    told = _headline(found, meaning, len(methods))
    optimistic = " (optimistic)" if is_optimistic(str(cells[0].content["protocol"])) else ""
    results = tuple(_result(outcome, meaning, len(methods)) for outcome in found)
    name, better = meaning.title[:1].upper() + meaning.title[1:], "Higher" if meaning.larger_is_better else "Lower"
    return Summary(
        f"{title}: {told}{optimistic}" if told else f"{title}{optimistic}",
        _compared(cells, methods, data),
        results,
        f"{name}: {meaning.text}. {better} is better." if found else "",
        _caution(found),
    )


def outcome_at(cells: Sequence[Cell], labels: str, metric: str, against: str) -> Outcome:
    """Means, order and gaps of the methods at one share of labels; those without the score are left out."""
    spreads = {name: score(group(cells, name, labels), metric) for name in ranked(cells, labels, metric)}
    found = {name: spread for name, spread in spreads.items() if spread is not None}
    means = {name: spread.mean for name, spread in found.items()}
    shown = {name: f"{mean:.{definition(metric).digits}f}" for name, mean in means.items()}
    level = tuple(name for name in means if shown[name] == shown[next(iter(means))])
    behind = [name for name in means if name not in level]
    rivals = dict.fromkeys([*behind[:1], *(name for name in behind if name == against)])
    gaps = tuple(gap(cells, labels, level[0], other, metric) for other in rivals)
    return Outcome(labels, means, level, gaps, len(found[level[0]].values) if level else 0)


def gap(cells: Sequence[Cell], labels: str, best: str, other: str, metric: str) -> Gap:
    """How far the better of two methods is ahead, and whether that may be chance.

    With the same two or more seeds in both it is chance that an interval over seeds includes 0. With one seed nothing
    is known of other draws and starts; then the interval over test images can only tell that a difference is small.
    """
    sign = -1.0 if definition(metric).larger_is_better is False else 1.0
    first, second = ({cell.seed: cell for cell in group(cells, name, labels)} for name in (best, other))
    values = [
        {seed: cell.metrics[metric] for seed, cell in found.items() if cell.metrics.get(metric) is not None}
        for found in (first, second)
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
    """Whether the test images, taken one by one, leave open which of two runs is better."""
    name = metric if first.per_image(metric) else FALLBACK
    one, other = first.per_image(name), second.per_image(name)
    if not set(one) & set(other):
        return False
    found = compare(one, other)
    return found.low is None or found.high is None or found.low <= 0 <= found.high


def _headline(found: Sequence[Outcome], meaning: Definition, methods: int) -> str:
    """Who is ahead, for the title; shares of labels with the same outcome together."""
    if methods == 1:
        values = [f"{_value(next(iter(one.means.values())), meaning)} at {one.labels} % labels" for one in found]
        return f"{meaning.title} {', '.join(values)}" if values else ""
    judged = [outcome for outcome in found if len(outcome.means) > 1]
    told: dict[tuple[str, str], list[str]] = {}
    for outcome in judged:
        best, nearest, chance = outcome.level[0], next(iter(outcome.gaps), None), ""
        words = f"{_names(outcome.level)} are level"
        if len(outcome.level) == 1 and nearest is not None:
            whom = f" {nearest.other}" if methods > 2 else ""
            amount = f"{whom} by {_value(nearest.amount, meaning)} {meaning.title}" if len(judged) == 1 else ""
            chance = ", perhaps by chance" if nearest.may_be_chance else " (one seed)" if nearest.seeds == 1 else ""
            words = f"{best} leads{amount}"
        told.setdefault((words, chance), []).append(f"{outcome.labels} %")
    several = len(judged) > 1
    return "; ".join(
        f"{words}{f' at {_joined(shares)} labels' * several}{chance}" for (words, chance), shares in told.items()
    )


def _result(outcome: Outcome, meaning: Definition, methods: int) -> str:
    """Sentence on one share of labels."""
    where = f"With {outcome.labels} % of the training images labeled"
    count, best = len(outcome.means), outcome.level[0]
    value = _value(outcome.means[best], meaning)
    if count == 1:
        alone = "" if methods == 1 else ", the only method with a finished run there,"
        runs = f" (mean of {outcome.seeds} seeds)" if outcome.seeds > 1 else " (one seed)"
        return f"{where}, {best}{alone} has the {meaning.title} {value}{runs}."
    if len(outcome.level) == count:
        return f"{where}, {_names(outcome.level)} are level: their {meaning.title} is {value}."
    if len(outcome.level) > 1:
        what = f"{_names(outcome.level)} share the first place of {count} methods: their {meaning.title} is {value}"
    else:
        what = f"{best} is {'ahead' if count == 2 else f'the best of {count} methods'}: its {meaning.title} is {value}"
    more = "less" if meaning.larger_is_better is False else "more"
    gaps = [
        f"{_value(one.amount, meaning)} {more} than that of {one.other} "
        f"({_value(outcome.means[one.other], meaning)}; {_behind(one, meaning)})"
        for one in outcome.gaps
    ]
    return f"{where}, {what}, {' and '.join(gaps)}."


def _behind(found: Gap, meaning: Definition) -> str:
    """What stands behind a gap, in words for brackets."""
    if found.seeds == 0:
        return "the methods have different seeds, so no interval is given"
    if found.ends is None:
        return "one seed; a difference this small may be chance" if found.may_be_chance else "one seed"
    low, high = (f"{end:+.{meaning.digits}f}" for end in found.ends)
    chance = ", so this may be chance" if found.may_be_chance else ""
    return f"95 % interval of the difference over {found.seeds} seeds: {low} to {high}{chance}"


def _compared(cells: Sequence[Cell], methods: Sequence[str], data: str) -> str:
    """What was compared, on what."""
    what = f"compares {len(methods)} methods that train" if len(methods) > 1 else "shows one method that trains"
    names = f", {_names(methods)}," if len(methods) <= NAMED else ""
    images = f"on {data}: {words}" if (words := data_words(data)) else f"on {data}"
    sentence = f"This page {what} a network to segment images{names} {images}."
    head, (row, *more) = counts_table(cells)
    counts = dict(zip(head, row, strict=True))
    scored = f"{counts['test']} test images give the scores."
    if more:
        shares = _joined([f"{share} %" for share in labels_of(cells)])
        return f"{sentence} Labels were given to {shares} of the training images; {scored}"
    chose = "" if counts["validation"] == "-" else f", {counts['validation']} validation images chose the checkpoint"
    return (
        f"{sentence} {counts['labeled']} labeled and {counts['unlabeled']} unlabeled images are for training{chose}, "
        f"and {scored}"
    )


def _caution(found: Sequence[Outcome]) -> str:
    """What the gaps do not tell."""
    gaps = [one for outcome in found for one in outcome.gaps]
    if any(one.seeds == 1 for one in gaps):
        return (
            "One seed is a first look: another draw of the labeled images or another random start may change the order."
        )
    count = max((len(outcome.means) for outcome in found), default=0)
    if count > 2 and any(one.ends for one in gaps):
        return f"The intervals are not corrected for picking the best of {count} methods."
    return ""


def _names(methods: Sequence[str]) -> str:
    return _joined(methods) if len(methods) <= NAMED else f"{len(methods)} methods"


def _joined(words: Sequence[str]) -> str:
    """``a, b and c``."""
    return " and ".join([", ".join(words[:-1]), words[-1]] if len(words) > 1 else words)


def _value(value: float, meaning: Definition) -> str:
    return f"{value:.{meaning.digits}f} {meaning.unit}".strip()
