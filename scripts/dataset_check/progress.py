"""Progress of programs that read many files."""

from __future__ import annotations

from collections.abc import Callable

from tqdm import tqdm


class Bar:
    """Progress bar on stderr, if that is a terminal. Call it with the number of finished images and of all images."""

    def __init__(self, name: str, unit: str = "image") -> None:
        self.bar = tqdm(desc=name, unit=unit, leave=False, disable=None)

    def __call__(self, done: int, total: int) -> None:
        """Update the bar: ``done`` of ``total`` images are finished."""
        self.bar.total = total
        self.bar.update(done - self.bar.n)

    def __enter__(self) -> Callable[[int, int], None]:
        """Return the bar itself."""
        return self

    def __exit__(self, *error: object) -> None:
        """Remove the bar, so that an error message is the last line."""
        self.bar.close()
