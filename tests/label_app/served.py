"""Fixtures of tests with a real server of our app; a test file loads them by ``pytest_plugins``."""

from __future__ import annotations

import json
import shutil
import sys
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import tifffile
import torch
from PIL import Image

WIDTHS = [4, 8, 8, 8, 8]
WAIT = 300
"""Seconds that an answer or a training may take, on a machine that has much else to do."""


@pytest.fixture(scope="session")
def tiny_bundle(repository_root: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A copy of the bundle with a tiny network and random weights."""
    from bundle.networks import SemiMoE

    root = tmp_path_factory.mktemp("bundle")
    for name in ("configs", "bundle"):
        shutil.copytree(repository_root / name, root / name, ignore=shutil.ignore_patterns("__pycache__"))
    for name in ("train.json", "inference.json"):
        path = root / "configs" / name
        content = json.loads(path.read_text(encoding="utf-8"))
        content["network_def"] |= {"widths": WIDTHS, "encoder": None, "output_stride": 1}
        content["model"]["network"], content["crop_size"] = "bundle.networks.SemiMoE", [32, 32]
        path.write_text(json.dumps(content), encoding="utf-8")
    torch.manual_seed(0)
    (root / "models").mkdir()
    torch.save(SemiMoE(in_channels=3, out_channels=2, widths=WIDTHS).state_dict(), root / "models" / "model.pt")
    return root


@pytest.fixture(scope="session")
def program(repository_root: Path) -> list[str]:
    """The command that starts our app."""
    return [sys.executable, str(repository_root / "scripts" / "label_app" / "start.py")]


@pytest.fixture
def make_app(tiny_bundle: Path, program: list[str], monkeypatch: pytest.MonkeyPatch) -> Callable[..., Any]:
    """Return a function that creates the app for a folder of images, in this process and without a server."""
    from monailabel.config import settings
    from monailabel.interfaces.utils.app import get_class_of_subclass_from_file

    monkeypatch.setattr(settings, "MONAI_LABEL_DATASTORE_AUTO_RELOAD", False)
    monkeypatch.setenv("MONAI_LABEL_RELOAD_APP_LIB", "false")  # this process has imported `lib` already
    monkeypatch.setattr(sys, "path", list(sys.path))
    folder = Path(program[-1]).parent

    def make(studies: Path, bundle: Path = tiny_bundle) -> Any:
        kind = get_class_of_subclass_from_file("main", str(folder / "main.py"), "MONAILabelApp")
        return kind(app_dir=str(folder), studies=str(studies), conf={"bundle": str(bundle)})

    return make


@pytest.fixture(scope="module")
def serve(start_server: Callable[..., Any], tiny_bundle: Path, program: list[str]) -> Callable[..., Any]:
    """Return a function that starts our app on a folder of images, with the tiny bundle."""

    def start(studies: Path, env: Mapping[str, str] | None = None, **conf: Any) -> Any:
        return start_server(None, studies, {"bundle": tiny_bundle, **conf}, env=env, program=program)

    return start


@pytest.fixture(scope="module")
def slide_file(tiles: Mapping[str, tuple[Path, Path]], tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A slide of 224 x 256 px: a pyramid of copies of an oblong tile side by side, at 1 um/px."""
    with Image.open(tiles["oblong_1"][0]) as image:
        pixels = np.tile(np.asarray(image.convert("RGB")), (4, 2, 1))
    path = tmp_path_factory.mktemp("slide") / "slide.tif"
    shared: dict[str, Any] = {"tile": (64, 64), "photometric": "rgb", "resolutionunit": "CENTIMETER"}
    with tifffile.TiffWriter(path) as writer:
        writer.write(pixels, resolution=(10000, 10000), **shared)
        writer.write(pixels[::2, ::2], resolution=(5000, 5000), subfiletype=1, **shared)
    return path


@pytest.fixture(scope="module")
def connect() -> Iterator[Callable[[str], Callable[..., Any]]]:
    """Return a function that sends requests: ``ask(METHOD, PATH, STATUS)`` with the arguments of `requests`.

    The answer must have the status, 200 if none is given; ``status=None`` takes any.
    """
    import requests

    with requests.Session() as session:
        session.trust_env = False

        def reach(url: str) -> Callable[..., Any]:
            def ask(method: str, path: str, status: int | None = 200, **arguments: Any) -> requests.Response:
                response = session.request(method, url + path, timeout=WAIT, **arguments)
                assert status in (None, response.status_code), response.text
                return response

            return ask

        yield reach


@pytest.fixture(scope="session")
def declared() -> Callable[..., bytes]:
    """Return a function that writes a tiled TIFF with wrong values of ``ImageWidth``, ``TileWidth`` and so on."""

    def write(path: Path, **changes: int) -> bytes:
        pixels = np.full((64, 64, 3), 200, np.uint8)
        with tifffile.TiffWriter(path) as writer:
            writer.write(pixels, tile=(32, 32), photometric="rgb")
            writer.write(pixels[::2, ::2], tile=(32, 32), photometric="rgb", subfiletype=1)
        with tifffile.TiffFile(path, mode="r+b") as file:
            for page in file.pages:
                for name, value in changes.items():
                    page.tags[name].overwrite(value)
        return path.read_bytes()

    return write
