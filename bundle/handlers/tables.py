"""Tables of an evaluation: the scores of each image, and what a metric keeps of the whole set."""

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

from bundle.handlers.files import whole
from bundle.types import IMAGE

IMAGE_COLUMN = "image"


class ScoreTables:
    """Writes what metrics left in ``engine.state.metric_details``, as comma-separated tables. For an evaluator.

    ``per_image.csv`` has one row an image, sorted by name, and a column for each metric that has values of each image:
    a tensor (images, values), of which several values become the columns ``NAME_0``, ``NAME_1`` and so on. The name is
    that of the picture without suffix, as ``SaveImaged`` names what it writes. A cell is empty where a metric has no
    value (NaN). What a metric keeps as columns by name is a table of its own, ``METRIC.csv``.

    The images of all ranks are in the tables; rank 0 writes them, each whole or not at all.

    Args:
        output_dir: folder of the tables; made when missing.
        tables: other file names for tables of their own, by metric.
        per_image: file name of the table of images.
        image_key: key of the picture in the batch.
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
        """Watch an evaluator that splits its batches into records; its metrics are attached before."""
        engine.add_event_handler(Events.EPOCH_STARTED, self._start)
        engine.add_event_handler(Events.ITERATION_COMPLETED, self._note)
        engine.add_event_handler(Events.EPOCH_COMPLETED, self._write)

    def _start(self, _: Engine) -> None:
        self._names = []

    def _note(self, engine: Engine) -> None:
        """Keep the names of the images of this iteration."""
        records: Any = engine.state.batch
        for record in records:
            file = record[self.image_key].meta["filename_or_obj"]
            self._names.append(create_file_basename("", file, "", separate_folder=False, makedirs=False))

    def _write(self, engine: Engine) -> None:
        """Write the tables of all ranks.

        Raises:
            ValueError: for values of more or fewer images than there are.
            OSError: where a table cannot be written; names it.
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
        """Columns of one metric, by their names."""
        if len(values) != images:
            raise ValueError(f"metric {name!r} has values of {len(values)} images, but there are {images}")
        columns = values.reshape(images, -1).T.tolist()
        return {name if len(columns) == 1 else f"{name}_{number}": column for number, column in enumerate(columns)}


def write_table(path: Path, columns: Sequence[str], rows: Sequence[Sequence[Any]]) -> None:
    """Write a table with a header, whole or not at all; NaN is an empty cell.

    Args:
        path: the file; its folder is made when missing.
        columns: the header.
        rows: text and numbers, in the order of the columns.

    Raises:
        OSError: where it cannot be written; names the file.
    """
    with whole(path) as unfinished, unfinished.open("w", newline="", encoding="utf-8") as file:
        table = csv.writer(file)
        table.writerow(columns)
        table.writerows([_cell(value) for value in row] for row in rows)


def _cell(value: Any) -> Any:
    if not isinstance(value, float):
        return value
    return "" if math.isnan(value) else f"{value:.8g}"
