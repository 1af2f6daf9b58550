"""Write the tables of docs/settings.md from bundle/engines/settings.json and the defaults in the configs.

python scripts/dev/list_settings.py            write the page
python scripts/dev/list_settings.py --check    fail if the page is out of date

Each section of the page names its configs in its command. The table of a section is the one with the same title.
"""

from __future__ import annotations

import argparse
import ast
import json
import re
import shlex
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any
from unittest.mock import patch

from monai.bundle import ConfigParser

ROOT = Path(__file__).resolve().parents[2]
sys.path.insert(0, str(ROOT))

from bundle.engines.config_check import SETTINGS

PAGE = ROOT / "docs" / "settings.md"
COMMAND = re.compile(r"^    python -m monai\.bundle run \w+ --config_file (.+)$", re.MULTILINE)
TABLE = re.compile(r"(?:^\|.*\n)+", re.MULTILINE)
HEAD = "| setting | meaning | unit | default | on the command line |\n|---|---|---|---|---|\n"


def updated(page: str) -> str:
    """Return the page with new tables.

    Raises:
        ValueError: if a section has no table in settings.json, no command or no table to replace.
    """
    tables = {table["title"]: table["settings"] for table in json.loads(SETTINGS.read_text(encoding="utf-8"))}
    opening, *sections = page.split("\n## ")
    for number, section in enumerate(sections):
        title = section.partition("\n")[0]
        command = COMMAND.search(section)
        if title not in tables or command is None or not TABLE.search(section):
            raise ValueError(f"section {title!r} needs a command, a table, and an entry in {SETTINGS.name}")
        (files,) = shlex.split(command[1])
        names = ast.literal_eval(files) if files.startswith("[") else [files]
        rows = table(tables[title], [ROOT / name for name in names])
        sections[number] = TABLE.sub(lambda _, rows=rows: rows, section, count=1)  # type: ignore[misc]
    return "\n## ".join([opening, *sections])


def table(settings: Mapping[str, Mapping[str, Any]], files: Sequence[Path]) -> str:
    """Return the table of some settings, with their defaults in the given configs."""
    defaults = [values(list(settings), files, cuda) for cuda in (True, False)]
    rows = []
    for key, setting in settings.items():
        with_cuda, without = (f"`{default[key]}`" for default in defaults)
        default = without if with_cuda == without else f"{with_cuda} with CUDA, else {without}"
        example = setting["example"]
        text = f'"{example}"' if example.startswith("[") else example
        cells = [f"`{key}`", setting["description"], setting.get("unit", ""), default, f"`--{key} {text}`"]
        rows.append(f"| {' | '.join(cells)} |\n".replace("|  |", "| |"))
    return HEAD + "".join(rows)


def values(keys: Sequence[str], files: Sequence[Path], cuda: bool) -> dict[str, str]:
    """Return the values of settings on a machine with or without CUDA."""
    with patch("torch.cuda.is_available", lambda: cuda), patch("torch.cuda.device_count", lambda: int(cuda)):
        parser = ConfigParser()
        parser.read_config([str(file) for file in files])
        if "data#datalist" in parser:  # otherwise the embedded data set would be drawn
            parser["data#datalist"] = {part: [{}] for part in ("training", "unlabeled", "validation", "test")}
        return {key: str(parser.get_parsed_content(key)).removeprefix("./") for key in keys}


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the program. Exit codes: 0 success, 1 the page is out of date."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--check", action="store_true", help="write nothing; fail if the page is out of date")
    check = parser.parse_args(arguments).check
    old = PAGE.read_text(encoding="utf-8")
    new = updated(old)
    if check and old != new:
        print(f"list_settings: {PAGE.relative_to(ROOT)} differs; run the program without --check", file=sys.stderr)
        return 1
    PAGE.write_text(new, encoding="utf-8")
    return 0


if __name__ == "__main__":
    sys.exit(main())
