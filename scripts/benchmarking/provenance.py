"""Provenance of results: commit of the code, versions of the libraries, processor."""

from __future__ import annotations

import json
import platform
import subprocess
from importlib import metadata
from pathlib import Path
from typing import Any

LIBRARIES = {
    "torch": "torch",
    "monai": "monai",
    "ignite": "pytorch-ignite",
    "numpy": "numpy",
    "scipy": "scipy",
    "scikit-image": "scikit-image",
    "pillow": "pillow",
}
"""Name in a cell -> name of the distribution."""


def code_state(root: Path) -> dict[str, Any]:
    """Return the ``commit`` of the code at ``root``, and whether bundle, configs or scripts differ from it (``dirty``).

    Both are ``None`` if the folder is not a git checkout, or git is missing.
    """
    commit = _git(root, "rev-parse", "HEAD")
    changed = _git(root, "status", "--porcelain", "--", "bundle", "configs", "scripts")
    return {"commit": commit, "dirty": None if changed is None else bool(changed)}


def versions(root: Path) -> dict[str, str]:
    """Return the versions of Python, the bundle and the libraries that affect the results."""
    bundle = json.loads((root / "configs" / "metadata.json").read_text(encoding="utf-8"))["version"]
    libraries = {name: metadata.version(distribution) for name, distribution in LIBRARIES.items()}
    return {"python": platform.python_version(), "bundle": bundle, **libraries}


def processor() -> str:
    """Return the name of the CPU, as far as the system provides it."""
    table = Path("/proc/cpuinfo")
    lines = table.read_text(encoding="utf-8").splitlines() if table.is_file() else []
    names = [line.partition(":")[2].strip() for line in lines if line.startswith("model name")]
    return names[0] if names else platform.processor() or platform.machine()


def _git(root: Path, *arguments: str) -> str | None:
    """Return the output of git; ``None`` if it fails or is missing."""
    command = ["git", "-c", f"safe.directory={root}", "-C", str(root), *arguments]
    try:
        process = subprocess.run(command, capture_output=True, text=True, check=False)
    except OSError:
        return None
    return process.stdout.strip() if process.returncode == 0 else None
