"""Where figures come from: the commit of the code, versions of the libraries, the machine."""

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
    """``commit`` of the code at ``root``, and whether bundle, configs or scripts differ from it (``dirty``).

    Both are ``None`` where the folder is no git checkout or there is no git.
    """
    commit = _git(root, "rev-parse", "HEAD")
    changed = _git(root, "status", "--porcelain", "--", "bundle", "configs", "scripts")
    return {"commit": commit, "dirty": None if changed is None else bool(changed)}


def versions(root: Path) -> dict[str, str]:
    """Versions of Python, the bundle and the libraries that its figures depend on."""
    bundle = json.loads((root / "configs" / "metadata.json").read_text(encoding="utf-8"))["version"]
    found = {name: metadata.version(distribution) for name, distribution in LIBRARIES.items()}
    return {"python": platform.python_version(), "bundle": bundle, **found}


def processor() -> str:
    """Name of the CPU, as far as the system tells it."""
    table = Path("/proc/cpuinfo")
    lines = table.read_text(encoding="utf-8").splitlines() if table.is_file() else []
    names = [line.partition(":")[2].strip() for line in lines if line.startswith("model name")]
    return names[0] if names else platform.processor() or platform.machine()


def _git(root: Path, *words: str) -> str | None:
    """What git answers; ``None`` where it cannot."""
    command = ["git", "-c", f"safe.directory={root}", "-C", str(root), *words]
    try:
        done = subprocess.run(command, capture_output=True, text=True, check=False)
    except OSError:
        return None
    return done.stdout.strip() if done.returncode == 0 else None
