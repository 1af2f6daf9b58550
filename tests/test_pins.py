"""The pins of `scripts`, in four files, and the ranges of pyproject.toml say the same."""

from __future__ import annotations

import json
import re
from pathlib import Path

import pytest
from packaging.requirements import Requirement
from packaging.utils import canonicalize_name

PINS = "requirements.txt"
LABEL_PINS = ("label_app/requirements.txt", "label_app/requirements-no-deps.txt")
"""What MONAI Label's environment has beside the project's pins."""
FORMATS_PINS = "requirements-formats.txt"
"""What the environment of the formats of scripts/export_bundle.py has beside the project's pins."""
OF_LABEL = {"label", "browser"}
"""Extras of MONAI Label's environment; the others are those of the project and of the formats."""

WITHOUT_PIN = {"timm"}
"""Nothing here needs it but configs/encoders/timm.yaml, and it brings a torchvision that goes with one torch alone."""

tomllib = pytest.importorskip("tomllib", reason="part of Python from 3.11 on")


@pytest.fixture(scope="module")
def project(repository_root: Path) -> dict:
    return tomllib.loads((repository_root / "pyproject.toml").read_text(encoding="utf-8"))["project"]


@pytest.fixture(scope="module")
def pins(repository_root: Path) -> list[Requirement]:
    """The project's."""
    return _read(repository_root / "scripts" / PINS)


@pytest.fixture(scope="module")
def label_pins(repository_root: Path) -> list[Requirement]:
    """Those of MONAI Label."""
    return [pin for name in LABEL_PINS for pin in _read(repository_root / "scripts" / name)]


@pytest.fixture(scope="module")
def formats_pins(repository_root: Path) -> list[Requirement]:
    """Those of the formats."""
    return _read(repository_root / "scripts" / FORMATS_PINS)


def test_every_pin_is_exact(pins, label_pins, formats_pins):
    assert [
        str(pin) for pin in pins + label_pins + formats_pins if not re.fullmatch(r"==[\w.]+", str(pin.specifier))
    ] == []


def test_every_dependency_is_pinned_inside_its_range(project, pins, label_pins, formats_pins):
    extras = {"": project["dependencies"], **project["optional-dependencies"]}
    for extra, line in ((extra, line) for extra, lines in extras.items() for line in lines):
        wanted = Requirement(line)
        if wanted.name in WITHOUT_PIN:
            continue
        added = label_pins if extra in OF_LABEL else formats_pins
        versions = [str(pin.specifier)[2:] for pin in pins + added if _name(pin) == canonicalize_name(wanted.name)]
        assert versions, f"{wanted.name} has no pin"
        assert all(version in wanted.specifier for version in versions), f"{line} against {versions}"


@pytest.mark.parametrize("python", ["3.10.0", "3.11.0", "3.12.0", "3.13.0", "3.14.0"])
def test_each_python_gets_one_version(pins, python):
    names = [canonicalize_name(pin.name) for pin in pins if _is_for(pin, python)]
    assert len(names) == len(set(names))
    assert {"torch", "monai", "numpy", "scipy", "scikit-image", "pillow"} <= set(names)


def test_monai_label_gets_the_versions_of_the_project(repository_root, pins, label_pins):
    """Its list takes the project's as it is, and pins nothing a second time."""
    lines = (repository_root / "scripts" / LABEL_PINS[0]).read_text(encoding="utf-8").splitlines()
    assert [line for line in lines if line.startswith("-")] == [f"--requirement ../{PINS}"]
    names = [canonicalize_name(pin.name) for pin in label_pins]
    assert len(names) == len(set(names))
    assert set(names) & {canonicalize_name(pin.name) for pin in pins} == set()


def test_the_formats_get_the_versions_of_the_project(pins, formats_pins):
    names = list(map(_name, formats_pins))
    assert len(names) == len(set(names))
    installed = {_name(pin) for pin in pins if _is_for(pin, "3.11.0")}
    assert set(names) & installed == set(), "they are imported from the project's environment"


def test_the_metadata_speaks_of_the_same_versions(repository_root, project, pins):
    file = repository_root / "configs" / "metadata.json"
    if not file.is_file():
        pytest.skip("configs/metadata.json is missing, which is for tests/test_bundle.py to say")
    metadata = json.loads(file.read_text(encoding="utf-8"))
    pinned = {canonicalize_name(pin.name): str(pin.specifier)[2:] for pin in pins if _is_for(pin, "3.11.0")}
    assert metadata["version"] == project["version"]
    assert metadata["monai_version"] == pinned["monai"]
    assert metadata["pytorch_version"] == pinned["torch"]
    assert metadata["numpy_version"] == pinned["numpy"]


def _read(file: Path) -> list[Requirement]:
    lines = file.read_text(encoding="utf-8").splitlines()
    return [Requirement(line) for line in lines if line and not line.startswith(("#", "-"))]


def _name(pin: Requirement) -> str:
    return canonicalize_name(pin.name)


def _is_for(pin: Requirement, python: str) -> bool:
    place = {"python_full_version": python, "python_version": python.rpartition(".")[0], "sys_platform": "linux"}
    return pin.marker is None or pin.marker.evaluate(place)
