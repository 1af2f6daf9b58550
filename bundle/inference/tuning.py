"""Tuning of the postprocessing: predictions of an evaluator are stored once and scored with different settings."""

from __future__ import annotations

from collections.abc import Callable, Hashable, Mapping, Sequence
from typing import Any

from ignite.engine import Engine, Events
from ignite.metrics import Metric
from torch import Tensor

Record = dict[Hashable, Any]
"""One image after postprocessing: prediction, label and other maps."""


def collect_predictions(evaluator: Engine, without: Sequence[Hashable] = ()) -> list[Record]:
    """Run an evaluator and store its output for each image after postprocessing, on the CPU.

    Args:
        evaluator: MONAI evaluator, whose output is a list of records, one per image.
        without: keys to leave out, such as the image, which takes the most memory.

    Returns:
        The records, in the order of the loader.
    """
    records: list[Record] = []

    def keep(engine: Engine) -> None:
        output: Any = engine.state.output
        for record in output:
            items = {key: value for key, value in record.items() if key not in without}
            records.append({key: value.cpu() if isinstance(value, Tensor) else value for key, value in items.items()})

    with evaluator.add_event_handler(Events.ITERATION_COMPLETED, keep):
        evaluator.run()
    return records


def postprocessing_scores(
    records: Sequence[Record], postprocessing: Callable[[Record], Record], metrics: Mapping[str, Metric]
) -> dict[str, float]:
    """Score one postprocessing on stored predictions.

    Args:
        records: stored predictions; not modified.
        postprocessing: transform that adds instances to a copy of a record.
        metrics: metric handlers by name, as for an evaluator; they take a list of records.

    Returns:
        The value of each metric.

    Raises:
        ValueError: if there are no records.
    """
    if not records:
        raise ValueError("no image to score a postprocessing on")
    engine = Engine(lambda _, record: [postprocessing(record)])
    for name, metric in metrics.items():
        metric.attach(engine, name)
    engine.run(records, max_epochs=1)
    return {name: float(engine.state.metrics[name]) for name in metrics}
