"""Simultaneous calls of the app: MONAI's config parser is not thread-safe, and viewers send requests in parallel."""

from __future__ import annotations

import shutil
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import pytest

pytest.importorskip("monailabel", reason="MONAI Label is not installed here: make test-label")
pytest_plugins = ["tests.label_app.served"]

MODEL = "semi_moe"


@pytest.fixture
def app(make_studies: Callable[..., Path], slide_file: Path, make_app: Callable[..., Any]) -> Any:
    """The app without a server and with empty caches."""
    studies = make_studies("oblong_1", "square_1")
    shutil.copy(slide_file, studies)
    return make_app(studies)


def test_each_gets_its_own_answer(app: Any) -> None:
    requested = [
        {"image": "slide", "output": "asap", "location": [0, 0], "size": [112, 64], "min_poly_area": 1},
        {"image": "slide", "output": "asap", "location": [112, 64], "size": [112, 64], "min_poly_area": 20},
        {"image": "oblong_1", "output": "image"},
        {"image": "square_1", "output": "asap", "min_poly_area": 5},
    ]

    def answer(request: dict[str, Any]) -> bytes:
        file = Path(app.infer({"model": MODEL, **request})["file"])
        content = file.read_bytes()
        file.unlink()
        return content

    with ThreadPoolExecutor(len(requested)) as pool:
        together = list(pool.map(answer, requested * 2))
    assert together == [answer(request) for request in requested] * 2
    assert len(set(together)) == len(requested)
