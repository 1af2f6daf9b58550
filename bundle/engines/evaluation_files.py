"""Handler that keeps an evaluation from replacing files that no evaluation wrote."""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence
from itertools import chain
from pathlib import Path
from typing import Any

from ignite import distributed as idist
from ignite.engine import Engine, Events
from monai.data.utils import create_file_basename

from bundle.engines.finished_images import JOURNAL, append, read_journals
from bundle.engines.process_group import gathered
from bundle.types import IMAGE, to_bool


class EvaluationFiles:
    """Handler that stops an evaluation before it would replace a file that no evaluation wrote.

    It must come before the handlers that write files, and after the one that loads the weights.

    The names of all files are written to ``journal_0.jsonl`` before the first one, so that a later evaluation may
    replace them.

    Args:
        output_dir: folder of the evaluation; masks are in its folder ``masks``.
        images: entries of the evaluated images.
        overwrite: whether to replace all files: a bool or a string such as ``true``.
        files: names of the other files that the evaluation writes.

    Raises:
        ValueError: when the evaluation starts, if a file exists that no journal in ``output_dir`` names.
    """

    def __init__(
        self,
        output_dir: str | os.PathLike[str],
        images: Sequence[Mapping[str, Any]],
        overwrite: bool | str = False,
        files: Sequence[str] = (),
    ) -> None:
        self.folder = Path(output_dir)
        self.images = [str(entry[IMAGE]) for entry in images]
        self.overwrite = to_bool(overwrite, "overwrite")
        self.files = list(files)

    def attach(self, engine: Engine) -> None:
        """Attach to an evaluator."""
        engine.add_event_handler(Events.STARTED, self._start)

    def _start(self) -> None:
        names = {image: os.path.join("masks", _mask_name(image)) for image in self.images}
        own = read_journals(self.folder, lambda _: None).owners
        written = [*names.values(), *self.files]
        foreign = [name for name in written if name not in own and os.path.lexists(self.folder / name)]
        if foreign and not self.overwrite:
            raise ValueError(
                f"{self.folder / foreign[0]} would be replaced, but it was not written by an evaluation; "
                "give another --output_dir, or --overwrite True to replace it"
            )
        shares = gathered(names)  # after this, all ranks have looked
        if idist.get_rank() == 0:
            self.folder.mkdir(parents=True, exist_ok=True)
            append(self.folder / JOURNAL.replace("*", "0"), {"begun": "", "files": self.files})
            for image, name in dict(chain.from_iterable(share.items() for share in shares)).items():
                if name not in own:
                    append(self.folder / JOURNAL.replace("*", "0"), {"begun": image, "files": [name]})


def _mask_name(image: str) -> str:
    return create_file_basename("mask", image, "", separate_folder=False, makedirs=False) + ".png"
