"""Tables of an evaluation: scores per image, and tables of single metrics."""

from __future__ import annotations

import csv
import math
import os
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import ignite.distributed as idist
from ignite.engine import Engine, Events
from monai.data.utils import create_file_basename
from monai.utils import string_list_all_gather
from torch import Tensor

from bundle.types import IMAGE
from bundle.utils import atomic_path

IMAGE_COLUMN = "image"


class ScoreTables:
    """Handler of an evaluator that writes ``engine.state.metric_details`` as CSV tables.

    ``per_image.csv`` has one row per image, sorted by name, and one column per metric with values of each image: a
    tensor (images, values); several values become the columns ``NAME_0``, ``NAME_1`` and so on. The name of an image is
    its file name without suffix, as in ``SaveImaged``. A cell is empty if a metric has no value (NaN). A metric with
    named columns has a separate table, ``METRIC.csv``.

    The tables contain the images of all ranks; rank 0 writes them atomically.

    Args:
        output_dir: folder of the tables, created if missing.
        tables: metric -> file name of its table, if not ``METRIC.csv``.
        per_image: file name of the table of images.
        image_key: key of the image in the batch.
    """

    def __init__(
        self,
        output_dir: str | os.PathLike[str],
        tables: Mapping[str, str] | None = None,
        per_image: str = "per_image.csv",
        image_key: str = IMAGE,
    ) -> None:
        self.output_dir = Path(output_dir)
        self.tables = dict(tables or {})
        self.per_image = per_image
        self.image_key = image_key
        self._names: list[str] = []

    def attach(self, engine: Engine) -> None:
        """Attach to an evaluator that decollates its batches, after its metrics."""
        engine.add_event_handler(Events.EPOCH_STARTED, self._start)
        engine.add_event_handler(Events.ITERATION_COMPLETED, self._add_names)
        engine.add_event_handler(Events.EPOCH_COMPLETED, self._write)

    def _start(self, _: Engine) -> None:
        self._names = []

    def _add_names(self, engine: Engine) -> None:
        """Record the names of the images of this iteration."""
        records: Any = engine.state.batch
        for record in records:
            file = record[self.image_key].meta["filename_or_obj"]
            self._names.append(create_file_basename("", file, "", separate_folder=False, makedirs=False))

    def _write(self, engine: Engine) -> None:
        """Write the tables of all ranks.

        Raises:
            ValueError: if the number of values of a metric is not the number of images.
            OSError: if a table cannot be written; the error names it.
        """
        names = string_list_all_gather(self._names) if idist.get_world_size() > 1 else self._names
        if idist.get_rank() != 0:
            return
        details: Mapping[str, Any] = getattr(engine.state, "metric_details", {})
        columns: dict[str, Sequence[Any]] = {IMAGE_COLUMN: names}
        for name, values in details.items():
            if isinstance(values, Tensor):
                columns.update(self._columns(name, values, len(names)))
            else:
                table = {column: numbers.tolist() for column, numbers in values.items()}
                path = self.output_dir / self.tables.get(name, f"{name}.csv")
                write_table(path, list(table), list(zip(*table.values(), strict=True)))
        rows = sorted(zip(*columns.values(), strict=True), key=lambda row: row[0])
        write_table(self.output_dir / self.per_image, list(columns), rows)

    def _columns(self, name: str, values: Tensor, images: int) -> dict[str, list[float]]:
        """Return name -> column of one metric."""
        if len(values) != images:
            raise ValueError(f"metric {name!r} has values of {len(values)} images, but there are {images} images")
        columns = values.reshape(images, -1).T.tolist()
        return {name if len(columns) == 1 else f"{name}_{number}": column for number, column in enumerate(columns)}


def write_table(path: Path, columns: Sequence[str], rows: Sequence[Sequence[Any]]) -> None:
    """Write a CSV table with a header atomically; NaN becomes an empty cell.

    Args:
        path: file to write; its folder is created if missing.
        columns: the header.
        rows: strings and numbers, in the order of the columns.

    Raises:
        OSError: if it cannot be written; the error names the file.
    """
    with atomic_path(path, clean=True) as unfinished, unfinished.open("w", newline="", encoding="utf-8") as file:
        table = csv.writer(file)
        table.writerow(columns)
        table.writerows([_cell(value) for value in row] for row in rows)


def _cell(value: Any) -> Any:
    if not isinstance(value, float):
        return value
    return "" if math.isnan(value) else f"{value:.8g}"
