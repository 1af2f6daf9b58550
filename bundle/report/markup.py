"""Pieces of the page as HTML: sections, tables, figures side by side."""

from __future__ import annotations

import re
from collections.abc import Collection, Sequence
from html import escape

from bundle.report.tables import Best, Table

MANY = 3
"""Columns that fit beside each other on a phone."""


def section(title: str, *parts: str) -> str:
    """A section with its heading, which has an address on the page; empty without content."""
    body = "\n".join(part for part in parts if part)
    name = address(title)
    heading = f'<h2 id="{name}-title">{escape(title)}</h2>'
    return f'<section id="{name}" aria-labelledby="{name}-title">\n{heading}\n{body}\n</section>' if body else ""


def address(title: str) -> str:
    """A section's address on the page."""
    return re.sub(r"[^a-z0-9]+", "-", title.lower()).strip("-")


def paragraph(words: str, kind: str = "") -> str:
    """A paragraph of a kind that the style knows; empty without words."""
    return f"<p{_kind(kind)}>{escape(whole(words))}</p>" if words else ""


def figures(found: Sequence[tuple[str, str]], kind: str = "") -> str:
    """Charts side by side, each with its title; those without content are left out."""
    drawn = [f"<figure><figcaption>{breaking(title)}</figcaption>{svg}</figure>" for title, svg in found if svg]
    return f'<div class="{f"grid {kind}".strip()}">{"".join(drawn)}</div>' if drawn else ""


def folded(title: str, body: str, is_open: bool = False) -> str:
    """Content under a title that opens and closes it; empty without content."""
    state = " open" if is_open else ""
    return f"<details{state}><summary>{escape(title)}</summary>\n{body}\n</details>" if body else ""


def table(content: Table, caption: str, groups: str | None = None, words: Collection[str] = ()) -> str:
    """A table; one of more than ``MANY`` columns, or of sentences, is shown on a phone as a block a row.

    Otherwise its cells wrap, so that no column lies out of sight.

    Args:
        content: titles and rows; empty without rows.
        caption: what it holds, for readers that cannot see where it stands.
        groups: makes headings between the rows of what the first column names; ``{}`` stands for the name.
        words: titles of the columns that hold sentences and may wrap.
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
    shown = head if blocks else [""] * len(head)
    bodies = []
    for name in [None] if groups is None else dict.fromkeys(row[0] for row in rows):
        heading, kept = "", rows
        if groups is not None:
            words_of_group = f"<span>{escape(groups.format(name))}</span>"
            heading = f'<tr><th scope="rowgroup" colspan="{len(head)}">{words_of_group}</th></tr>'
            kept = [row[1:] for row in rows if row[0] == name]
        bodies.append(f"<tbody>{heading}{''.join(_row(row, shown, wraps) for row in kept)}</tbody>")
    label = escape(caption, True)
    kind = "wide blocks" if blocks else "wide"
    return (
        f'<div class="{kind}" role="region" tabindex="0" aria-label="{label}">'
        f"<table><caption><span>{escape(caption)}</span></caption><thead><tr>{titles}</tr></thead>{''.join(bodies)}</table></div>"
    )


def _row(cells: Sequence[str], titles: Sequence[str], wraps: Sequence[bool]) -> str:
    written = []
    for place, (cell, title, wrap) in enumerate(zip(cells, titles, wraps, strict=True)):
        kind = _kind("words" * wrap)
        if place == 0:
            written.append(f'<th scope="row"{kind}>{breaking(cell)}</th>')
        else:
            told = f' data-title="{escape(title, True)}"' if title else ""
            words = f"<strong>{escape(whole(cell))}</strong>" if isinstance(cell, Best) else escape(whole(cell))
            written.append(f"<td{kind}{told}>{words}</td>")
    return f"<tr>{''.join(written)}</tr>"


def whole(words: str) -> str:
    """The same words with a percent sign on the line of its number, and a deviation on that of its sign."""
    return words.replace(" %", "\u00a0%").replace("± ", "±\u00a0")


def breaking(title: str) -> str:
    """A title that may break after the underscores of its names."""
    return escape(title).replace("_", "_<wbr>")


def _kind(name: str) -> str:
    return f' class="{name}"' if name else ""
