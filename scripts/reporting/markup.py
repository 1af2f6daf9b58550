"""HTML of sections, tables and figures."""

from __future__ import annotations

import re
from collections.abc import Collection, Sequence
from html import escape

from scripts.reporting.tables import Best, Table

MANY = 3
"""Number of columns that fit on a phone."""


def section(title: str, *parts: str) -> str:
    """Return a section with a heading and an anchor; empty without content."""
    body = "\n".join(part for part in parts if part)
    name = address(title)
    heading = f'<h2 id="{name}-title">{escape(title)}</h2>'
    return f'<section id="{name}" aria-labelledby="{name}-title">\n{heading}\n{body}\n</section>' if body else ""


def address(title: str) -> str:
    """Return the anchor of a section."""
    return re.sub(r"[^a-z0-9]+", "-", title.lower()).strip("-")


def paragraph(words: str, kind: str = "") -> str:
    """Return a paragraph with a CSS class; empty without text."""
    return f"<p{_kind(kind)}>{escape(with_no_break_spaces(words))}</p>" if words else ""


def figures(charts: Sequence[tuple[str, str]], kind: str = "") -> str:
    """Return charts (title, SVG) in a grid; those without content are left out."""
    drawn = [f"<figure><figcaption>{breakable(title)}</figcaption>{svg}</figure>" for title, svg in charts if svg]
    return f'<div class="{f"grid {kind}".strip()}">{"".join(drawn)}</div>' if drawn else ""


def collapsible(title: str, body: str, is_open: bool = False) -> str:
    """Return a collapsible block with a title; empty without content."""
    state = " open" if is_open else ""
    return f"<details{state}><summary>{escape(title)}</summary>\n{body}\n</details>" if body else ""


def table(content: Table, caption: str, groups: str | None = None, words: Collection[str] = ()) -> str:
    """Return a table. On a phone, tables with more than ``MANY`` columns or with sentences show one block per row.

    In other tables the cells wrap, so that all columns are visible.

    Args:
        content: titles and rows; without rows, the result is empty.
        caption: description of the table.
        groups: heading of each group of rows with the same first column, such as ``{} % labels``; ``{}`` is the value
            of the first column, which is then left out.
        words: titles of the columns with sentences, which may wrap.
    """
    head, rows = content
    if not rows:
        return ""
    wraps = [title in words for title in head]
    if groups is not None:
        head, wraps = head[1:], wraps[1:]
    titles = "".join(
        f'<th scope="col"{_kind("words" * wrap)}>{escape(cell)}</th>' for cell, wrap in zip(head, wraps, strict=True)
    )
    blocks = len(head) > MANY or any(wraps)
    data_titles = head if blocks else [""] * len(head)
    bodies = []
    for name in [None] if groups is None else dict.fromkeys(row[0] for row in rows):
        heading, group_rows = "", rows
        if groups is not None:
            title = f"<span>{escape(groups.format(name))}</span>"
            heading = f'<tr><th scope="rowgroup" colspan="{len(head)}">{title}</th></tr>'
            group_rows = [row[1:] for row in rows if row[0] == name]
        bodies.append(f"<tbody>{heading}{''.join(_row(row, data_titles, wraps) for row in group_rows)}</tbody>")
    label = escape(caption, True)
    kind = "wide blocks" if blocks else "wide"
    return (
        f'<div class="{kind}" role="region" tabindex="0" aria-label="{label}">'
        f"<table><caption><span>{escape(caption)}</span></caption><thead><tr>{titles}</tr></thead>{''.join(bodies)}</table></div>"
    )


def _row(cells: Sequence[str], titles: Sequence[str], wraps: Sequence[bool]) -> str:
    elements = []
    for index, (cell, title, wrap) in enumerate(zip(cells, titles, wraps, strict=True)):
        kind = _kind("words" * wrap)
        if index == 0:
            elements.append(f'<th scope="row"{kind}>{breakable(cell)}</th>')
        else:
            data_title = f' data-title="{escape(title, True)}"' if title else ""
            content = escape(with_no_break_spaces(cell))
            content = f"<strong>{content}</strong>" if isinstance(cell, Best) else content
            elements.append(f"<td{kind}{data_title}>{content}</td>")
    return f"<tr>{''.join(elements)}</tr>"


def with_no_break_spaces(words: str) -> str:
    """Return the text with no-break spaces before percent signs and after plus-minus signs."""
    return words.replace(" %", "\u00a0%").replace("± ", "±\u00a0")


def breakable(title: str) -> str:
    """Return a title that may break after underscores."""
    return escape(title).replace("_", "_<wbr>")


def _kind(name: str) -> str:
    return f' class="{name}"' if name else ""
