"""The pins of `scripts`, in five files, agree with each other and with the ranges of pyproject.toml."""

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
BESIDE = ("requirements-formats.txt", "requirements-cluster.txt")
"""What the environments of the formats of scripts/export_bundle.py, and of Ray, have beside the project's pins."""
OF_LABEL = {"label", "browser"}
"""Extras of MONAI Label's environment; the others are those of the project, of the formats and of Ray."""

WITHOUT_PIN = {"timm"}
"""Nothing here needs it but configs/encoders/timm.yaml, and it brings a torchvision that goes with one torch alone."""

tomllib = pytest.importorskip("tomllib", reason="part of Python from 3.11 on")


@pytest.fixture(scope="module")
def project(repository_root: Path) -> dict:
    return tomllib.loads((repository_root / "pyproject.toml").read_text(encoding="utf-8"))["project"]


@pytest.fixture(scope="module")
def pins(repository_root: Path) -> list[Requirement]:
    """Pins of the main environment."""
    return _read(repository_root / "scripts" / PINS)


@pytest.fixture(scope="module")
def label_pins(repository_root: Path) -> list[Requirement]:
    """Pins of the environment of MONAI Label."""
    return [pin for name in LABEL_PINS for pin in _read(repository_root / "scripts" / name)]


@pytest.fixture(scope="module")
def pins_beside(repository_root: Path) -> list[list[Requirement]]:
    """Pins of the environments of formats and of Ray."""
    return [_read(repository_root / "scripts" / name) for name in BESIDE]


def test_every_pin_is_exact(pins, label_pins, pins_beside):
    for pin in (pin for own in (pins, label_pins, *pins_beside) for pin in own):
        assert re.fullmatch(r"==[\w.]+", str(pin.specifier)), str(pin)


def test_every_dependency_is_pinned_inside_its_range(project, pins, label_pins, pins_beside):
    extras = {"": project["dependencies"], **project["optional-dependencies"]}
    beside = [pin for own in pins_beside for pin in own]
    for extra, line in ((extra, line) for extra, lines in extras.items() for line in lines):
        requirement = Requirement(line)
        if requirement.name in WITHOUT_PIN:
            continue
        added = label_pins if extra in OF_LABEL else beside
        versions = [str(pin.specifier)[2:] for pin in pins + added if _name(pin) == canonicalize_name(requirement.name)]
        assert versions, f"{requirement.name} has no pin"
        assert all(version in requirement.specifier for version in versions), f"{line} against {versions}"


@pytest.mark.parametrize("python", ["3.10.0", "3.11.0", "3.12.0", "3.13.0", "3.14.0"])
def test_each_python_gets_one_version(pins, python):
    names = [canonicalize_name(pin.name) for pin in pins if _is_for(pin, python)]
    assert len(names) == len(set(names))
    assert {"torch", "monai", "numpy", "scipy", "scikit-image", "pillow"} <= set(names)


def test_monai_label_gets_the_versions_of_the_project(repository_root, pins, label_pins):
    """Its list includes that of the project unchanged, and pins no package again."""
    lines = (repository_root / "scripts" / LABEL_PINS[0]).read_text(encoding="utf-8").splitlines()
    assert [line for line in lines if line.startswith("-")] == [f"--requirement ../{PINS}"]
    names = [canonicalize_name(pin.name) for pin in label_pins]
    assert len(names) == len(set(names))
    assert set(names) & {canonicalize_name(pin.name) for pin in pins} == set()


def test_the_environments_beside_get_the_versions_of_the_project(pins, pins_beside):
    installed = {_name(pin) for pin in pins if _is_for(pin, "3.11.0")}
    for names in (list(map(_name, own)) for own in pins_beside):
        assert len(names) == len(set(names))
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
    path = {"python_full_version": python, "python_version": python.rpartition(".")[0], "sys_platform": "linux"}
    return pin.marker is None or pin.marker.evaluate(path)
