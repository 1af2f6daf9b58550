"""Update the results in README and docs from docs/results.json, and add new runs to it.

    python scripts/dev/update_results.py                              update the documents
    python scripts/dev/update_results.py --check                      write nothing; fail if a document is out of date
    python scripts/dev/update_results.py --demo demo                  first read a finished `make demo`
    python scripts/dev/update_results.py --cells runs/glas --entry glas     first read a finished benchmark

The program writes the text between these comments of a document:

    <!-- results: glas.scores -->...<!-- /results -->     a table; optionally the names of columns (default: all);
                                                          several tables with the same columns are concatenated
    <!-- run: glas -->...<!-- /run -->                    commands, commit, date and machine of an entry
    <!-- result: demo.time.semi_moe.seconds -->...<!-- /result -->     one number: entry, table, row and column
    <!-- ladder: pooled_dice -->...<!-- /ladder -->       a validation score of all rungs in docs/ladder.json
"""

from __future__ import annotations

import argparse
import json
import re
import shutil
import sys
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from textwrap import fill
from typing import Any

ROOT = Path(__file__).resolve().parents[2]
sys.path.insert(0, str(ROOT))

from scripts.dev import ladder
from scripts.reporting.results_json import record_of_cells, record_of_demo

Entry = dict[str, Any]
KEYS = ("what", "data", "protocol", "seeds", "commands", "commit", "date", "machine", "versions", "tables")
"""Required keys of an entry; ``note``, ``entered``, ``not_repeatable`` and ``figures`` are optional."""
OF_ENTRY = ("command", "commit")
"""Columns that every table has: the first command of its entry, and its commit."""
UNKNOWN = "unknown"
MARK = re.compile(r"<!-- (results|run|result|ladder): ([^>]*?) -->(.*?)<!-- /\1 -->", re.DOTALL)
OPENING = re.compile(r"<!-- (results|run|result|ladder):")
BROKEN = re.compile(r"^\s*<!-- result:", re.MULTILINE)


@dataclass
class Record:
    """The entries of docs/results.json, and the tables that documents show."""

    entries: dict[str, Entry]
    used: set[str] = field(default_factory=set)

    def entry(self, name: str) -> Entry:
        """Return an entry by its name.

        Raises:
            ValueError: if there is none.
        """
        if name not in self.entries:
            raise ValueError(f"results.json has no entry {name!r}; choose from {', '.join(self.entries)}")
        return self.entries[name]

    def table(self, address: str) -> tuple[Entry, dict[str, Any]]:
        """Return an entry and its table by ``ENTRY.TABLE``.

        Raises:
            ValueError: if there is none.
        """
        name, _, title = address.partition(".")
        entry = self.entry(name)
        if title not in entry["tables"]:
            raise ValueError(f"entry {name!r} has no table {title!r}; choose from {', '.join(entry['tables'])}")
        self.used.add(f"{name}.{title}")
        return entry, entry["tables"][title]

    def unused(self) -> list[str]:
        """Return the tables that no document shows."""
        return [
            f"{name}.{title}"
            for name, entry in self.entries.items()
            for title in entry["tables"]
            if f"{name}.{title}" not in self.used
        ]

    def render(self, text: str) -> str:
        """Return a document with updated text between its markers.

        Raises:
            ValueError: if a marker is not closed, or names something that does not exist.
        """
        if len(OPENING.findall(text)) != len(MARK.findall(text)):
            raise ValueError("a marker is not closed; each <!-- results: ... --> needs its <!-- /results -->")
        if BROKEN.search(text):
            raise ValueError(
                "the marker of a number starts a line, where Markdown ends the paragraph; put a word before it"
            )
        renderers = {"results": self._tables, "run": self._run, "result": self._number, "ladder": ladder.markdown}
        return MARK.sub(
            lambda mark: f"<!-- {mark[1]}: {mark[2]} -->{renderers[mark[1]](mark[2])}<!-- /{mark[1]} -->", text
        )

    def _tables(self, text: str) -> str:
        addresses = [word for word in text.split() if "." in word]
        columns = [word for word in text.split() if "." not in word]
        if not addresses:
            raise ValueError(f"the marker 'results: {text}' names no table ENTRY.TABLE")
        titles: list[str] = []
        rows = []
        for address in addresses:
            entry, table = self.table(address)
            own = {name: {"title": name} for name in OF_ENTRY}
            own |= table["columns"]
            names = columns or list(table["columns"])
            unknown = [name for name in names if name not in own]
            if unknown:
                raise ValueError(f"table {address} has no column {unknown[0]!r}; choose from {', '.join(own)}")
            titles = titles or [own[name]["title"] for name in names]
            if titles != [own[name]["title"] for name in names]:
                raise ValueError(f"the marker 'results: {text}' combines tables with different columns")
            numbers = [name for name in names if "digits" in own[name]]
            extra = {"command": _command(entry), "commit": entry["commit"]}
            for row in table["rows"].values():
                if any(row.get(name) is not None for name in numbers):
                    rows.append([shown({**extra, **row}.get(name), own[name]) for name in names])
        return "\n" + "".join(f"| {' | '.join(line)} |\n" for line in [titles, ["---"] * len(titles), *rows])

    def _run(self, name: str) -> str:
        entry = self.entry(name)
        commands = "".join(f"    {line}\n" for line in entry["commands"])
        text = fill(provenance(entry), 120, break_long_words=False, break_on_hyphens=False)
        return "\n" + (f"\n{commands}\n" if commands else "") + f"{text}\n"

    def _number(self, text: str) -> str:
        name, _, rest = text.partition(".")
        title, _, rest = rest.partition(".")
        row, _, column = rest.rpartition(".")
        _, table = self.table(f"{name}.{title}")
        if row not in table["rows"] or column not in table["columns"]:
            raise ValueError(f"table {name}.{title} has no row {row!r} with a column {column!r}")
        return shown(table["rows"][row].get(column), table["columns"][column])


def shown(value: Any, column: Mapping[str, Any]) -> str:
    """Format a value: text unchanged, a number with the digits of its column, a pair as ``mean ± deviation``.

    If the digits are ``None``, the shortest form is used.

    Raises:
        ValueError: for a number in a column without ``digits``.
    """
    if value is None:
        return "-"
    if isinstance(value, str):
        return value
    if "digits" not in column:
        raise ValueError(f"the column {column['title']!r} contains the number {value!r}, but has no digits")
    sign = "+" if column.get("signed") else ""
    mean, *deviation = value if isinstance(value, list) else [value]
    form = "g" if column["digits"] is None else f".{column['digits']}f"
    return f"{mean:{sign},{form}}" + "".join(f" ± {number:,{form}}" for number in deviation)


def provenance(entry: Entry) -> str:
    """Return the provenance of a run: commit, date, machine and notes."""
    known = entry["commit"] != UNKNOWN
    text = f"Measured on {entry['date']} with the code of commit {entry['commit']}" if known else "Commit unknown"
    if not known and entry.get("entered"):
        text += f", recorded in {entry['entered']} on {entry['date']}"
    versions = {} if entry["versions"] == UNKNOWN else entry["versions"]
    text += "".join(f", {name} {versions[name]}" for name in ("torch", "monai", "onnxruntime") if name in versions)
    parts = [f"{text}; {entry['machine']}.", entry.get("note")]
    parts.append(f"Not repeatable: {entry['not_repeatable']}" if entry.get("not_repeatable") else None)
    return " ".join(part for part in parts if part)


def _command(entry: Entry) -> str:
    """Return the first command of an entry on one line, as code."""
    lines = entry["commands"]
    if not lines:
        return "-"
    last = next((number for number, line in enumerate(lines) if not line.endswith("\\")), len(lines))
    return f"`{' '.join(line.rstrip(chr(92)).strip() for line in lines[: last + 1])}`"


def read_record(path: Path) -> dict[str, Any]:
    """Read docs/results.json.

    Raises:
        ValueError: if it is damaged, or an entry lacks a key.
    """
    try:
        content = json.loads(path.read_text(encoding="utf-8"))
    except json.JSONDecodeError as error:
        raise ValueError(f"{path} is damaged: {error}") from error
    for name, entry in content["entries"].items():
        missing = [key for key in KEYS if key not in entry]
        if missing:
            raise ValueError(f"{path}: entry {name!r} lacks {', '.join(missing)}; write 'unknown' for unknown values")
        if not entry["commands"] and not entry.get("not_repeatable"):
            raise ValueError(f"{path}: entry {name!r} has no command; give the reason in not_repeatable, or remove it")
    return content


def dumped(content: Mapping[str, Any]) -> str:
    """Return the content of docs/results.json as JSON with one line per table row."""
    rows: list[str] = []

    def placeholder(row: Any) -> str:
        rows.append(json.dumps(row, ensure_ascii=False))
        return f"@row {len(rows) - 1}@"

    entries = {}
    for name, entry in content["entries"].items():
        tables = {
            title: {part: {key: placeholder(row) for key, row in table[part].items()} for part in ("columns", "rows")}
            for title, table in entry["tables"].items()
        }
        short = {key: placeholder(entry[key]) for key in ("seeds", "versions")}
        entries[name] = entry | short | {"tables": tables}
    text = json.dumps({**content, "entries": entries}, indent=1, ensure_ascii=False) + "\n"
    return re.sub(r'"@row (\d+)@"', lambda mark: rows[int(mark[1])], text)


def documents() -> list[Path]:
    """Return the paths of README and of the documents beside docs/results.json."""
    return [ROOT / "README.md", *sorted((ROOT / "docs").glob("*.md"))]


def rendered(record: Record, paths: Sequence[Path]) -> dict[Path, tuple[str, str]]:
    """Return the current and the updated text of each document.

    Raises:
        ValueError: as ``Record.render``, and if no document shows a table of results.json.
    """
    texts = {}
    for path in paths:
        text = path.read_text(encoding="utf-8")
        try:
            texts[path] = text, record.render(text)
        except ValueError as error:
            raise ValueError(f"{path.name}: {error}") from error
    if record.unused():
        raise ValueError(f"no document shows {', '.join(record.unused())}; show it, or remove it from results.json")
    return texts


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the program. Exit codes: 0 success, 1 error or outdated document, 2 invalid command line."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--check", action="store_true", help="write nothing; fail if a document is out of date")
    parser.add_argument("--demo", type=Path, help="output folder of scripts/demo.py, for the entry demo")
    parser.add_argument("--cells", type=Path, help="output folder of scripts/benchmark.py, for --entry")
    parser.add_argument("--entry", help="name of a new or existing entry for --cells")
    options = parser.parse_args(arguments)
    if (options.cells is None) != (options.entry is None):
        parser.error("--cells and --entry require each other")
    if options.check and (options.cells or options.demo):
        parser.error("--check cannot be combined with --demo or --cells")
    try:
        return update(options)
    except (OSError, ValueError) as error:
        print(f"update_results: {' '.join(str(error).split())}", file=sys.stderr)
        return 1


def update(options: argparse.Namespace) -> int:
    """Add new runs to docs/results.json, then write or check the documents; return the exit code."""
    source = ROOT / "docs" / "results.json"
    content = read_record(source)
    entries = content["entries"]
    changed = {}
    if options.demo or options.cells:
        if options.demo:
            changed["demo"] = record_of_demo(options.demo, entries.get("demo"))
            for name in changed["demo"]["figures"]:
                shutil.copyfile(options.demo / "comparison.png", ROOT / name)
        if options.cells:
            changed[options.entry] = record_of_cells(options.cells, options.entry, entries.get(options.entry))
        entries |= changed
        source.write_text(dumped(content), encoding="utf-8")
    outdated = [(path, new) for path, (old, new) in rendered(Record(entries), documents()).items() if old != new]
    if options.check:
        for path, _ in outdated:
            print(f"update_results: {path.relative_to(ROOT)} differs from results.json", file=sys.stderr)
        return 1 if outdated else 0
    for path, text in outdated:
        path.write_text(text, encoding="utf-8")
        print(f"wrote {path.relative_to(ROOT)}")
    for name in changed:
        for path in documents():
            for number, line in enumerate(path.read_text(encoding="utf-8").splitlines(), start=1):
                if re.search(rf"<!-- (results|run|result):[^>]*\b{re.escape(name)}\b", line):
                    print(f"check the text around {path.relative_to(ROOT)}:{number}, which shows {name}")
    return 0


if __name__ == "__main__":
    sys.exit(main())
